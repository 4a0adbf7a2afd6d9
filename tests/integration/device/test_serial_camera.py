"""An emulated serial camera, its driver on both runtimes: pictures at their pace, and what goes wrong on the line."""

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
LONGEST_US = 400_000  # of one call: it never waits for the camera, which has 500 ms to answer; others use the machine

pytestmark = pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no film for the camera; make media")


class Driven:
    """The driver in a process of its own. `told` is what it has said so far."""

    def __init__(self, runtime: str, folder: Path, source: str, indicator: str, **given) -> None:
        config = {"kind": "vc0706", "source": source, "indicator": indicator, "width": 160, "height": 120, "fps": 20}
        heap_kb = boards.find("unix").heap({"camera": config})
        heap = ["-X", f"heapsize={heap_kb}K"] if runtime == "micropython" else []
        path = folder / "camera.json"
        path.write_text(json.dumps({**config, "baud": 921600, **given}))
        command = [*resources.interpreter(runtime), *heap, str(PIPE), str(path)]
        self.told: list[dict] = []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.told.append(json.loads(line))

    def pictures(self) -> list[dict]:
        return [t for t in list(self.told) if "bytes" in t]

    def faults(self) -> list[str]:
        return [t["fault"] for t in list(self.told) if "fault" in t]

    def until(self, condition, seconds: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.told[-20:]
            time.sleep(0.01)

    def more(self, n: int = 5) -> None:
        """Wait for so many pictures from now on."""
        wanted = len(self.pictures()) + n
        self.until(lambda: len(self.pictures()) >= wanted)

    def end(self) -> dict:
        self.process.stdin.close()
        self.process.wait(TIMEOUT_S)
        self._thread.join(TIMEOUT_S)
        return self.told[-1]


@pytest.fixture(params=["cpython", "micropython"])
def scene(request, tmp_path):
    """Return a factory: configuration -> (camera, driver); the file `value` is its indicator."""
    made = []
    (tmp_path / "value").write_text("0")

    def make(camera=None, **given):
        camera = camera or SerialCamera(DEMO_VIDEO)
        driven = Driven(request.param, tmp_path, camera.path, str(tmp_path / "value"), **given)
        made.append((camera, driven))
        return camera, driven

    yield make
    for camera, driven in made:
        if driven.process.poll() is None:
            driven.process.kill()
            driven.process.wait()
        camera.close()


def same(camera, driven):
    """Each picture that the driver gave is one that the camera took, whole and in order."""
    taken = iter([(len(jpeg), sum(jpeg)) for _, jpeg in camera.pictures])
    return all(any(t == (p["bytes"], p["sum"]) for t in taken) for p in driven.pictures())


def test_pictures_come_as_they_were_taken_and_at_their_pace(scene, tmp_path):
    camera, driven = scene(fps=5)
    driven.more(11)
    assert (tmp_path / "value").read_text() == "1"
    told = driven.end()
    assert (tmp_path / "value").read_text() == "0"
    assert told["damaged"] == 0 and driven.faults() == [] and same(camera, driven)
    times = [p["ms"] for p in driven.pictures()]
    pauses = [b - a for a, b in zip(times, times[1:], strict=False)]
    # Never faster, and no slower where the machine is not busy.
    assert sum(pauses[:10]) >= 1900 and statistics.quantiles(pauses)[0] <= 230, pauses
    assert max(p["longest_us"] for p in driven.pictures()) < LONGEST_US


@pytest.mark.parametrize("baud", [38400, 115200, 460800])
def test_rates(scene, baud):
    camera, driven = scene(baud=baud)
    driven.more(3)
    assert same(camera, driven) and driven.faults() == []


def test_it_is_found_at_whatever_rate_the_life_before_gave_it(scene):
    camera, driven = scene(baud=460800)
    driven.more(2)
    driven.process.kill()
    driven.process.wait()
    _, again = scene(camera)
    again.more(2)
    assert again.faults() == [] and camera.resets == 0 and same(camera, again)


def test_a_camera_that_stops_answering_is_reset(scene):
    camera, driven = scene()
    driven.more()
    camera.hang()
    driven.until(lambda: any("stopped responding" in fault for fault in driven.faults()))
    driven.more()
    assert driven.faults()[-1] == "" and camera.resets == 1 and same(camera, driven)
    assert max(p["longest_us"] for p in driven.pictures()) < LONGEST_US


def test_bytes_that_are_lost_are_read_again(scene):
    camera, driven = scene()
    for n in (1, 7, 500):
        camera.drop(n)
        driven.more(2)
    assert same(camera, driven) and driven.end()["damaged"] == 0


def test_noise(scene):
    camera, driven = scene()
    for noise in (b"\x76", b"\x76\x00\x32\x00\x00", b"\xff\xd8" * 700, os.urandom(2000)):
        driven.more(2)
        camera.inject_noise(noise)
    driven.more()
    assert same(camera, driven), driven.told[-20:]


def test_a_picture_that_is_no_whole_jpeg_does_not_leave_the_driver(scene):
    camera, driven = scene()
    driven.more()
    camera.truncate_next(2)
    driven.until(lambda: "a picture is not a complete JPEG" in driven.faults())
    driven.more()
    assert driven.faults()[-1] == "" and camera.resets == 0
    camera.truncate_next(7)
    driven.until(lambda: camera.resets)
    driven.more()
    assert driven.faults()[-1] == "" and driven.end()["damaged"] == 9 and same(camera, driven)


def test_a_picture_that_is_too_large_is_compressed_more(scene):
    camera, driven = scene(width=320, height=240, picture_kb=6)
    driven.until(lambda: driven.faults())
    driven.more()
    assert "exceeds 6144 bytes" in driven.faults()[0] and driven.faults()[-1] == ""
    assert same(camera, driven) and camera.resets == 0


def test_a_camera_that_is_unplugged_and_comes_back(scene):
    camera, driven = scene()
    driven.more()
    camera.unplug()
    driven.until(lambda: any("no response" in fault for fault in driven.faults()))
    camera.plug()
    driven.more()
    assert driven.faults()[-1] == "" and same(camera, driven)
    assert max(p["longest_us"] for p in driven.pictures()) < LONGEST_US


def test_closed_and_opened_again(scene):
    camera, driven = scene()
    for _ in range(3):
        driven.more(2)
        driven.process.stdin.write("\n")
        driven.process.stdin.flush()
    driven.more(2)
    assert driven.faults() == [] and same(camera, driven)


def test_no_picture_while_the_indicator_is_not_on(scene, tmp_path):
    camera, driven = scene(fps=5)
    driven.more(2)
    (tmp_path / "value").write_text("0")  # somebody puts it out
    driven.until(lambda: "the indicator is not on" in driven.faults())
    driven.more(2)  # it was set again
    assert (tmp_path / "value").read_text() == "1"


def test_nothing_is_sent_to_the_camera_while_the_indicator_cannot_be_lit(tmp_path):
    camera = SerialCamera(DEMO_VIDEO)
    driven = Driven("cpython", tmp_path, camera.path, "/dev/full")
    try:
        driven.until(lambda: any("the indicator cannot be" in fault for fault in driven.faults()))
        time.sleep(2.5)
        assert not camera.pictures and not driven.pictures()
    finally:
        driven.end()
        camera.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["unix", "mps2_an385"])
def test_a_device_tries_its_camera_at_boot(rig, tmp_path, name):
    board = boards.find(name)
    if board.missing_packages():
        pytest.skip(f"apt-get install {' '.join(board.missing_packages())}")
    camera = SerialCamera(DEMO_VIDEO)
    indicator = tmp_path / "led"
    try:
        given = {"source": camera.path, "indicator": str(indicator)}
        modem = "quectel" if board.image else ""
        it = rig(name, nmea.speak(walk(30)), 20, modem=modem, camera=given, status_s=1)
        told = lambda: [row["errors"] for row in it.rows if row["message"] == "device_status"]  # noqa: E731
        it.listen(lambda: told() and "camera_fault" not in told()[-1])
        wait_until(lambda: indicator.read_text() == "0", "nobody records, and the indicator is on")
        it.receiver.start()
        assert it.finish()["fixes"] == len(it.times()) == 30
        with Image.open(io.BytesIO(camera.pictures[-1][1])) as picture:
            assert picture.size == (board.camera.width, board.camera.height)
    finally:
        camera.close()


def test_the_film_of_a_device_that_was_cut_off(scene, tmp_path):
    camera, driven = scene(fps=5, film=str(tmp_path / "film.avi"))
    driven.more(12)
    driven.process.kill()
    driven.process.wait()
    driven._thread.join(TIMEOUT_S)  # it may not have read all yet
    told = driven.pictures()
    with av.open(str(tmp_path / "film.avi")) as film:
        frames = [(frame.time, frame.width, frame.height) for frame in film.decode(video=0)]
    # The last one may have been written and not yet told.
    assert len(told) <= len(frames) <= len(told) + 1
    for (at, width, height), picture in zip(frames, told, strict=False):
        assert (width, height) == (160, 120)
        assert abs(at * 1000 - (picture["ms"] - told[0]["ms"])) <= 210  # in its place, or the next one
