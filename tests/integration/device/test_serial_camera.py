"""Driver of the serial camera on both runtimes, with an emulated camera: frame rate, line faults, and recovery."""

import io
import json
import os
import statistics
import subprocess
import threading
import time
from pathlib import Path

import av
import pytest
from patrolink.core import boards, resources
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.peripherals.camera import SerialCamera
from PIL import Image

from tests.support.device_rig import walk
from tests.support.paths import DEMO_VIDEO, ROOT
from tests.support.polling import TIMEOUT_S, wait_until

PIPE = ROOT / "tests" / "integration" / "device" / "camera_pipe.py"
# Limit of one call, without the delay by the scheduler. The camera has 500 ms to answer: a call must not wait for it.
LONGEST_US = 400_000
# On a busy machine the emulated camera may answer later than a camera can: the driver then resets it and goes on.
# That a camera in time causes no fault is measured on a virtual clock (tests/bench/board_loop.py).
LATE = ("no response; check its power and its wiring", "it stopped responding; resetting it")

pytestmark = pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no video for the camera; run `make media`")


class DriverProcess:
    """The driver in a separate process (camera_pipe.py).

    Attributes:
        reports: The rows that the process has printed.
    """

    def __init__(self, runtime: str, folder: Path, source: str, indicator: str, **options) -> None:
        config = {"kind": "vc0706", "source": source, "indicator": indicator, "width": 160, "height": 120, "fps": 20}
        heap_kb = boards.find("unix").heap({"camera": config})
        heap = ["-X", f"heapsize={heap_kb}K"] if runtime == "micropython" else []
        path = folder / "camera.json"
        path.write_text(json.dumps({**config, "baud": 921600, **options}))
        command = [*resources.interpreter(runtime), *heap, str(PIPE), str(path)]
        self.reports: list[dict] = []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.reports.append(json.loads(line))

    def pictures(self) -> list[dict]:
        return [row for row in list(self.reports) if "bytes" in row]

    def faults(self) -> list[str]:
        return [row["fault"] for row in list(self.reports) if "fault" in row]

    def own_faults(self) -> list[str]:
        """Return the faults that are not due to late answers."""
        return [fault for fault in self.faults() if fault and fault not in LATE]

    def late_answers(self) -> int:
        return sum(fault in LATE for fault in self.faults())

    def wait_until(self, condition, seconds: float = TIMEOUT_S) -> None:
        """Wait until `condition()` is true, while the process runs."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.reports[-20:]
            time.sleep(0.01)

    def wait_for_pictures(self, n: int = 5) -> None:
        """Wait for n more pictures."""
        total = len(self.pictures()) + n
        self.wait_until(lambda: len(self.pictures()) >= total)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join(TIMEOUT_S)

    def stop(self) -> dict:
        """Close the camera, end the process and return its last row."""
        self.process.stdin.close()
        self.process.wait(TIMEOUT_S)
        self._thread.join(TIMEOUT_S)
        return self.reports[-1]


@pytest.fixture(params=["cpython", "micropython"])
def make_driver(request, tmp_path):
    """Return a factory: configuration -> (camera, driver). The file `value` is the indicator."""
    pairs = []
    (tmp_path / "value").write_text("0")

    def make(camera=None, **options):
        camera = camera or SerialCamera(DEMO_VIDEO)
        driver = DriverProcess(request.param, tmp_path, camera.path, str(tmp_path / "value"), **options)
        pairs.append((camera, driver))
        return camera, driver

    yield make
    for camera, driver in pairs:
        if driver.process.poll() is None:
            driver.kill()
        camera.close()


def is_unchanged(camera, driver):
    """Return whether each picture of the driver is one that the camera sent, complete and in order."""
    sent = iter([(len(jpeg), sum(jpeg)) for _, jpeg in camera.pictures])
    return all(any(entry == (p["bytes"], p["sum"]) for entry in sent) for p in driver.pictures())


def test_pictures_arrive_unchanged_at_the_configured_rate(make_driver, tmp_path):
    camera, driver = make_driver(fps=5)
    driver.wait_for_pictures(11)
    assert (tmp_path / "value").read_text() == "1"
    summary = driver.stop()
    assert (tmp_path / "value").read_text() == "0"
    assert summary["damaged"] == 0 and driver.own_faults() == [] and is_unchanged(camera, driver)
    times = [p["ms"] for p in driver.pictures()]
    intervals = [b - a for a, b in zip(times, times[1:], strict=False)]
    # Never faster. Slower only while the machine is busy.
    assert sum(intervals[:10]) >= 1900 and statistics.quantiles(intervals)[0] <= 230, intervals
    assert max(p["longest_us"] for p in driver.pictures()) < LONGEST_US


@pytest.mark.parametrize("baud", [38400, 115200, 460800])
def test_pictures_arrive_unchanged_at_each_baud_rate(make_driver, baud):
    camera, driver = make_driver(baud=baud)
    driver.wait_for_pictures(3)
    assert is_unchanged(camera, driver) and driver.own_faults() == []


def test_baud_rate_of_the_previous_run_is_detected(make_driver):
    camera, driver = make_driver(baud=460800)
    driver.wait_for_pictures(2)
    driver.kill()
    _, restarted = make_driver(camera)
    restarted.wait_for_pictures(2)
    assert (
        restarted.own_faults() == [] and camera.resets <= restarted.late_answers() and is_unchanged(camera, restarted)
    )


def test_camera_that_stops_answering_is_reset(make_driver):
    camera, driver = make_driver()
    driver.wait_for_pictures()
    camera.hang()
    driver.wait_until(lambda: any("stopped responding" in fault for fault in driver.faults()))
    driver.wait_for_pictures()
    assert driver.faults()[-1] == "" and camera.resets == 1 and is_unchanged(camera, driver)
    assert max(p["longest_us"] for p in driver.pictures()) < LONGEST_US


def test_lost_bytes_are_read_again(make_driver):
    camera, driver = make_driver()
    for n in (1, 7, 500):
        camera.drop(n)
        driver.wait_for_pictures(2)
    assert is_unchanged(camera, driver) and driver.stop()["damaged"] == 0


def test_noise_on_the_line_damages_no_picture(make_driver):
    camera, driver = make_driver()
    for noise in (b"\x76", b"\x76\x00\x32\x00\x00", b"\xff\xd8" * 700, os.urandom(2000)):
        driver.wait_for_pictures(2)
        camera.inject_noise(noise)
    driver.wait_for_pictures()
    assert is_unchanged(camera, driver), driver.reports[-20:]


def test_incomplete_jpeg_is_discarded(make_driver):
    camera, driver = make_driver()
    driver.wait_for_pictures()
    camera.truncate_next(2)
    driver.wait_until(lambda: "a picture is not a complete JPEG" in driver.faults())
    driver.wait_for_pictures()
    assert driver.faults()[-1] == "" and camera.resets == 0
    camera.truncate_next(7)
    driver.wait_until(lambda: camera.resets)
    driver.wait_for_pictures()
    assert driver.faults()[-1] == "" and driver.stop()["damaged"] == 9 and is_unchanged(camera, driver)


def test_oversized_picture_is_compressed_more(make_driver):
    camera, driver = make_driver(width=320, height=240, picture_kb=6)
    driver.wait_until(lambda: driver.faults())
    driver.wait_for_pictures()
    assert "exceeds 6144 bytes" in driver.faults()[0] and driver.faults()[-1] == ""
    assert is_unchanged(camera, driver) and camera.resets == 0


def test_camera_works_after_it_is_unplugged_and_plugged_in(make_driver):
    camera, driver = make_driver()
    driver.wait_for_pictures()
    camera.unplug()
    driver.wait_until(lambda: any("no response" in fault for fault in driver.faults()))
    camera.plug()
    driver.wait_for_pictures()
    assert driver.faults()[-1] == "" and is_unchanged(camera, driver)
    assert max(p["longest_us"] for p in driver.pictures()) < LONGEST_US


def test_camera_works_after_it_is_closed_and_reopened(make_driver):
    camera, driver = make_driver()
    for _ in range(3):
        driver.wait_for_pictures(2)
        driver.process.stdin.write("\n")
        driver.process.stdin.flush()
    driver.wait_for_pictures(2)
    assert driver.own_faults() == [] and is_unchanged(camera, driver)


def test_indicator_that_was_switched_off_stops_pictures_until_it_is_on(make_driver, tmp_path):
    camera, driver = make_driver(fps=5)
    driver.wait_for_pictures(2)
    (tmp_path / "value").write_text("0")  # switched off by another process
    driver.wait_until(lambda: "the indicator is not on" in driver.faults())
    driver.wait_for_pictures(2)  # the driver has switched it on
    assert (tmp_path / "value").read_text() == "1"


def test_camera_takes_no_picture_if_the_indicator_cannot_be_switched_on(tmp_path):
    camera = SerialCamera(DEMO_VIDEO)
    driver = DriverProcess("cpython", tmp_path, camera.path, "/dev/full")
    try:
        driver.wait_until(lambda: any("the indicator cannot be" in fault for fault in driver.faults()))
        time.sleep(2.5)
        assert not camera.pictures and not driver.pictures()
    finally:
        driver.stop()
        camera.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["unix", "mps2_an385"])
def test_device_tests_its_camera_at_boot(rig, tmp_path, name):
    board = boards.find(name)
    if board.missing_packages():
        pytest.skip(f"apt-get install {' '.join(board.missing_packages())}")
    camera = SerialCamera(DEMO_VIDEO)
    indicator = tmp_path / "led"
    try:
        config = {"source": camera.path, "indicator": str(indicator)}
        modem = "quectel" if board.image else ""
        device_rig = rig(name, nmea.speak(walk(30)), 20, modem=modem, camera=config, status_s=1)
        errors = lambda: [row["errors"] for row in device_rig.rows if row["record"] == "device_status"]  # noqa: E731
        device_rig.listen(lambda: errors() and "camera_fault" not in errors()[-1])
        wait_until(lambda: indicator.read_text() == "0", "the indicator is on without a recording")
        device_rig.receiver.start()
        assert device_rig.finish()["fixes"] == len(device_rig.times()) == 30
        with Image.open(io.BytesIO(camera.pictures[-1][1])) as picture:
            assert picture.size == (board.camera.width, board.camera.height)
    finally:
        camera.close()


def test_avi_file_of_a_killed_process_is_playable(make_driver, tmp_path):
    camera, driver = make_driver(fps=5, film=str(tmp_path / "film.avi"))
    driver.wait_for_pictures(12)
    driver.kill()
    pictures = driver.pictures()
    with av.open(str(tmp_path / "film.avi")) as film:
        frames = [(frame.time, frame.width, frame.height) for frame in film.decode(video=0)]
    # The last frame may have been written but not yet printed.
    assert len(pictures) <= len(frames) <= len(pictures) + 1
    for (time_s, width, height), picture in zip(frames, pictures, strict=False):
        assert (width, height) == (160, 120)
        assert abs(time_s * 1000 - (picture["ms"] - pictures[0]["ms"])) <= 210  # the frame's interval or the next one
