"""The camera of a Linux-class board, on a clip of real frames: what is read, and that nobody is filmed in secret."""

import contextlib
import os
import threading
import time
from functools import partial
from types import SimpleNamespace

import hal.posix.opencv_camera
import pytest
from hal.posix import pin
from hal.posix.opencv_camera import Camera
from patrolink.core.errors import DeviceError
from patrolink.emulator.peripherals import nmea

from tests.support.device_rig import walk
from tests.support.polling import wait_until

cv2 = pytest.importorskip("cv2", reason="no OpenCV; pip install opencv-python-headless")
import numpy as np  # noqa: E402

FRAMES, RATE = 30, 25


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip whose frames tell their number by their brightness."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, (320, 240))
    for i in range(FRAMES):
        writer.write(np.full((240, 320, 3), i * 8, np.uint8))
    writer.release()
    return str(path)


class Indicator(pin.Pin):
    """A real output file, with a record of what was set."""

    def __init__(self, path) -> None:
        super().__init__(str(path))
        self.sets: list[int] = []

    def set(self, level) -> None:
        self.sets.append(level)
        super().set(level)


@pytest.fixture
def film(tmp_path):
    """Cameras made by the test, closed at its end."""
    made = []

    def make(source, indicator=None, clock=now_ms, **given):
        log: list[str] = []
        given = {"source": source, "width": 320, "height": 240, "fps": RATE, **given}
        it = Camera(given, indicator or Indicator(tmp_path / "value"), clock, log.append)
        it.log = log
        made.append(it)
        return it

    yield make
    for it in made:
        it.close()


def test_every_frame_of_a_clip_comes_in_order_with_its_times_and_it_begins_anew(film, clip):
    camera = film(clip)
    assert camera.frame() is None
    camera.open()
    seen, times = [], []
    while len(seen) < FRAMES + 3:
        image, at_ms, unix_ms = wait_until(camera.frame, lambda: camera.fault)
        assert image.shape == (240, 320, 3)
        seen.append(round(float(image.mean()) / 8))
        times.append((at_ms, unix_ms))
    assert seen == [*range(FRAMES), 0, 1, 2] and camera.dropped == 0 and camera.fault == ""
    assert times == sorted(times) and all(abs(unix - time.time() * 1000) < 60_000 for _, unix in times)
    # A file plays at its own speed, never faster.
    assert times[FRAMES - 1][0] - times[0][0] >= 0.9 * (FRAMES - 1) * 1000 / RATE


@pytest.mark.parametrize("fps", [10, 15, 40])
def test_a_file_is_brought_to_the_wanted_pace_and_size(film, clip, fps):
    camera = film(clip, width=160, height=96, fps=fps)
    camera.open()
    seen, times = [], []
    while len(seen) < fps:
        image, at_ms, _ = wait_until(camera.frame, lambda: camera.fault)
        assert image.shape == (96, 160, 3)
        seen.append(round(float(image.mean()) / 8))
        times.append(at_ms)
    assert seen == [i * RATE // fps for i in range(fps)] and camera.dropped == 0
    assert 0.9 * (fps - 1) / fps <= (times[-1] - times[0]) / 1000


class Lens:
    """A camera of 30 frames a second, whatever is asked of it: frames of a file, and no length.

    Its clock, in s, goes on by a frame with every frame, so that how busy the machine is changes nothing.
    """

    def __init__(self, path) -> None:
        self._open = partial(cv2.VideoCapture, path)
        self._film, self._begin, self._n = self._open(), time.monotonic(), 0
        self.asked: dict[int, float] = {}

    def clock(self) -> float:
        return self._n / 30

    def get(self, what):
        return 0 if what == cv2.CAP_PROP_FRAME_COUNT else 30

    def set(self, what, value):
        self.asked[what] = value

    def grab(self):
        self._n += 1
        time.sleep(max(0, self._begin + self._n / 30 - time.monotonic()))
        if not self._film.grab():
            self._film = self._open()
            self._film.grab()
        return True

    def retrieve(self):
        return self._film.retrieve()

    def isOpened(self):  # noqa: N802 - OpenCV's
        return True

    def release(self):
        pass


def test_a_broken_frame_costs_no_more_than_itself_and_a_second_of_them_is_a_fault(film, clip, monkeypatch):
    lens, opened, broken = Lens(clip), [], [False]
    retrieve = lens.retrieve

    def sometimes():
        good, image = retrieve()
        return (False, None) if broken[0] or lens._n % 10 == 0 else (good, image)

    lens.retrieve = sometimes
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened.append(source) or lens)
    camera = film(0, fps=30)
    camera.open()
    for _ in range(40):
        wait_until(camera.frame, lambda: camera.fault)
    assert len(opened) == 1 and camera.fault == "" and 3 <= camera.damaged <= 8
    broken[0] = True
    wait_until(lambda: "decoded" in camera.fault, lambda: camera.fault)
    broken[0] = False
    wait_until(lambda: camera.frame() and camera.fault == "", lambda: camera.fault)
    assert len(opened) >= 2


@pytest.mark.parametrize(("fps", "least", "most"), [(15, 30, 32), (25, 49, 52), (30, 60, 62)])
def test_a_camera_that_gives_more_frames_than_asked_for_is_thinned_evenly(film, clip, monkeypatch, fps, least, most):
    lens = Lens(clip)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: lens)
    monkeypatch.setattr(hal.posix.opencv_camera, "time", SimpleNamespace(monotonic=lens.clock, time_ns=time.time_ns))
    camera = film(0, clock=lambda: int(1000 * lens.clock()), fps=fps)
    camera.open()
    times = [wait_until(camera.frame, lambda: camera.fault)[1]]
    while times[-1] < times[0] + 2000:
        times.append(wait_until(camera.frame, lambda: camera.fault)[1])
    assert least <= len(times) <= most, len(times)
    assert lens.asked[cv2.CAP_PROP_FPS] == fps and lens.asked[cv2.CAP_PROP_FRAME_WIDTH] == 320
    assert camera.dropped == 0


@pytest.mark.parametrize("given", [{"width": 63}, {"height": 481}, {"fps": 0}, {"fps": "15"}, {"width": 8192}])
def test_a_size_or_pace_that_cannot_be_is_refused(film, clip, given):
    with pytest.raises(ValueError, match=f"camera: {next(iter(given))} must be "):
        film(clip, **given)


def test_the_indicator_is_on_from_before_the_first_frame_until_the_camera_is_shut(film, clip, tmp_path):
    indicator = Indicator(tmp_path / "value")
    camera = film(clip, indicator)
    assert not indicator.get()
    camera.open()
    wait_until(camera.frame, lambda: camera.fault)
    assert indicator.get()
    camera.close()
    assert camera.frame() is None
    wait_until(lambda: not indicator.get(), "it stays on")
    assert indicator.sets == [0, 1, 0]


@pytest.mark.parametrize("path", ["missing/value", "/dev/full", "/dev/null"])
def test_an_indicator_that_cannot_be_set_or_is_not_on_means_no_frame(film, clip, tmp_path, monkeypatch, path):
    opened = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened.append(source))
    camera = film(clip, Indicator(tmp_path / path))
    camera.open()
    wait_until(lambda: camera.fault, "no fault")
    time.sleep(0.2)
    assert "the indicator" in camera.fault and "the indicator" in camera.log[0]
    assert camera.frame() is None and opened == []


def test_an_indicator_put_out_by_another_hand_ends_the_frames(film, clip, tmp_path):
    indicator = Indicator(tmp_path / "value")
    camera = film(clip, indicator)
    camera.open()
    wait_until(camera.frame, lambda: camera.fault)
    (tmp_path / "value").write_text("0")
    wait_until(lambda: camera.fault == "the indicator is not on", "not seen")
    while camera.frame() is not None:
        pass  # taken while it was on
    assert indicator.sets[-1] == 0
    # A second later it is tried again, indicator first.
    wait_until(camera.frame, lambda: camera.fault)
    assert indicator.get() and indicator.sets[-1] == 1 and camera.fault == ""


def test_a_camera_that_comes_and_comes_back(film, clip, tmp_path):
    source = tmp_path / "video0"
    camera = film(str(source))
    camera.open()
    wait_until(lambda: camera.fault, "no fault")
    assert camera.fault == f"cannot open {source}" and camera.frame() is None
    source.symlink_to(clip)
    wait_until(camera.frame, lambda: camera.fault)
    source.unlink()
    wait_until(lambda: camera.fault == f"cannot open {source}", "its going is not seen")
    source.symlink_to(clip)
    while camera.frame() is not None:
        pass
    wait_until(camera.frame, lambda: camera.fault)
    assert len(camera.log) == 2


def test_frames_that_nobody_takes_are_bounded_and_counted(film, clip):
    camera = film(clip)
    camera.open()
    wait_until(lambda: camera.dropped >= 3, lambda: camera.fault)
    camera.open()  # once more changes nothing
    waiting = 0
    while camera.frame() is not None:
        waiting += 1
    assert waiting <= RATE + 1  # those of a second, and one that came while they were taken


def test_a_camera_that_hangs_holds_nobody_up_and_stays_lit(film, tmp_path):
    """A pipe without a writer: opening it waits for ever."""
    pipe, indicator = tmp_path / "pipe", Indicator(tmp_path / "value")
    os.mkfifo(pipe)
    camera = film(str(pipe), indicator)
    camera.open()
    wait_until(indicator.get, "the indicator comes first")
    done = threading.Event()

    def use() -> None:
        assert camera.frame() is None
        camera.close()
        camera.open()
        camera.close()
        done.set()

    threading.Thread(target=use, daemon=True).start()
    assert done.wait(20) and indicator.get()

    def end() -> bool:
        """Let whoever waits for the pipe, one of OpenCV's backends after another, meet its end."""
        with contextlib.suppress(OSError):
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return not indicator.get()

    wait_until(end, "the indicator stays on")


def test_a_device_tries_its_camera_at_boot_and_tells_its_fault_until_it_gives_a_frame(rig, clip, tmp_path):
    source, indicator = tmp_path / "video0", tmp_path / "led"
    given = {"source": str(source), "indicator": str(indicator)}
    it = rig("linux", nmea.speak(walk(100)), 100, camera=given, status_s=1)
    told = lambda: [row["errors"] for row in it.rows if row["message"] == "device_status"]  # noqa: E731
    it.listen(lambda: told() and "camera_fault" in told()[-1])
    source.symlink_to(clip)
    it.listen(lambda: "camera_fault" not in told()[-1])
    wait_until(lambda: indicator.read_text() == "0", "nobody records, and the indicator is on")
    it.receiver.start()
    assert it.finish()["fixes"] == len(it.times()) == 100


@pytest.mark.parametrize(
    ("board", "camera", "why"),
    [
        ("linux", {"source": 0}, "camera: give its source and the output of its indicator"),
        ("unix", {"source": 0, "indicator": "led", "kind": "opencv"}, "camera: this board has no camera of this kind"),
        ("unix", {"source": 0, "indicator": "led"}, "camera: source must be the path"),
        ("unix", {"source": "tty", "indicator": "led", "width": 1}, "camera: width and height: valid are 640x480"),
        ("unix", {"source": "tty", "indicator": "led", "fps": 0}, "camera: fps: 1 to 30"),
        ("unix", {"source": "tty", "indicator": "led", "picture_kb": 64}, "camera: picture_kb: 2 to 63"),
        ("unix", {"source": "tty", "indicator": "led", "baud": 1200}, "camera: baud: valid are 9600, 19200,"),
    ],
)
def test_a_configuration_whose_camera_cannot_be_is_refused(rig, board, camera, why):
    it = rig(board, nmea.speak(walk(1)), 1, camera=camera)
    with pytest.raises(DeviceError, match=rf" 2;(.|\n)*{why}"):
        wait_until(it.device.check, "it runs")
