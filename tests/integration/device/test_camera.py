"""OpenCV camera of a Linux-class board: frames, size and rate of a video file, faults, and the recording indicator."""

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
from patrolink.emulator.peripherals.camera import SerialCamera

from tests.support.device_rig import walk
from tests.support.polling import TIMEOUT_S, wait_until

cv2 = pytest.importorskip("cv2", reason="no OpenCV; pip install opencv-python-headless")
import numpy as np  # noqa: E402
from hal.posix.letterbox import letterbox  # noqa: E402

FRAMES, RATE = 30, 25


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Return the path of a video file. The brightness of a frame is its number times 8."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, (320, 240))
    for i in range(FRAMES):
        writer.write(np.full((240, 320, 3), i * 8, np.uint8))
    writer.release()
    return str(path)


class Indicator(pin.Pin):
    """An output file that records its levels."""

    def __init__(self, path) -> None:
        super().__init__(str(path))
        self.levels: list[int] = []

    def set(self, level) -> None:
        self.levels.append(level)
        super().set(level)


@pytest.fixture
def make_camera(tmp_path):
    """Return a factory of cameras, which are closed after the test."""
    cameras = []

    def make(source, indicator=None, clock=now_ms, **options):
        log: list[str] = []
        config = {"source": source, "width": 320, "height": 240, "fps": RATE, **options}
        camera = Camera(config, indicator or Indicator(tmp_path / "value"), clock, log.append)
        camera.log = log
        cameras.append(camera)
        return camera

    yield make
    for camera in cameras:
        camera.close()


def test_video_file_is_played_in_order_at_its_own_speed_and_repeated(make_camera, clip):
    camera = make_camera(clip)
    assert camera.frame() is None
    camera.open()
    numbers, times = [], []
    while len(numbers) < FRAMES + 3:
        image, at_ms, unix_ms = wait_until(camera.frame, lambda: camera.fault)
        assert image.shape == (240, 320, 3)
        numbers.append(round(float(image.mean()) / 8))
        times.append((at_ms, unix_ms))
    assert numbers == [*range(FRAMES), 0, 1, 2] and camera.dropped == 0 and camera.fault == ""
    assert times == sorted(times) and all(abs(unix - time.time() * 1000) < 60_000 for _, unix in times)
    # Never faster than the file's frame rate.
    assert times[FRAMES - 1][0] - times[0][0] >= 0.9 * (FRAMES - 1) * 1000 / RATE


def disc(width: int, height: int) -> "np.ndarray":
    """Return a grey picture with a white disc in the middle."""
    picture = np.full((height, width, 3), 60, np.uint8)
    cv2.circle(picture, (width // 2, height // 2), min(width, height) // 3, (255, 255, 255), -1)
    return picture


def assert_round(picture: "np.ndarray") -> None:
    rows, columns = np.nonzero(picture[:, :, 0] > 160)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 2 and np.ptp(rows) > 20


@pytest.mark.parametrize("size", [(640, 272), (272, 640), (640, 480), (1, 100)])
@pytest.mark.parametrize("target", [(640, 480), (160, 96), (480, 480)])
def test_pictures_are_fitted_not_stretched(size, target):
    fitted = letterbox(disc(*size), *target)
    assert fitted.shape == (target[1], target[0], 3)
    if min(size) > 1:
        assert_round(fitted)


def test_picture_of_the_right_size_is_not_copied():
    picture = disc(320, 240)
    assert letterbox(picture, 320, 240) is picture


def test_emulated_serial_camera_fits_a_wide_film(tmp_path):
    path = tmp_path / "wide.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, (640, 272))
    for _ in range(FRAMES):
        writer.write(disc(640, 272))
    writer.release()
    camera = SerialCamera(path)
    try:
        camera._take()
        picture = cv2.imdecode(np.frombuffer(camera.pictures[-1][1], np.uint8), cv2.IMREAD_COLOR)
    finally:
        camera.close()
    assert picture.shape == (480, 640, 3) and picture[:90].max() < 30 and picture[390:].max() < 30
    assert_round(picture)


@pytest.mark.parametrize("fps", [10, 15, 40])
def test_video_file_is_converted_to_the_configured_rate_and_size(make_camera, clip, fps):
    camera = make_camera(clip, width=160, height=96, fps=fps)
    camera.open()
    numbers, times = [], []
    while len(numbers) < fps:
        image, at_ms, _ = wait_until(camera.frame, lambda: camera.fault)
        assert image.shape == (96, 160, 3)
        # 4:3 is fitted into 5:3, with black bars at the sides.
        assert image[:, :15].max() == image[:, 145:].max() == 0
        numbers.append(round(float(image[:, 17:143].mean()) / 8))
        times.append(at_ms)
    assert numbers == [i * RATE // fps for i in range(fps)] and camera.dropped == 0
    assert 0.9 * (fps - 1) / fps <= (times[-1] - times[0]) / 1000


class LiveCapture:
    """Replacement of cv2.VideoCapture: a live camera that always delivers 30 frames per second, from a file.

    Attributes:
        properties: The properties that were set.
        n: Number of frames delivered.
    """

    def __init__(self, path) -> None:
        self._open = partial(cv2.VideoCapture, path)
        self._capture, self._begin_s, self.n = self._open(), time.monotonic(), 0
        self.properties: dict[int, float] = {}

    def clock_s(self) -> float:
        """Return the time by the number of frames, which does not depend on the load of the machine."""
        return self.n / 30

    def get(self, property_id):
        return 0 if property_id == cv2.CAP_PROP_FRAME_COUNT else 30

    def set(self, property_id, value):
        self.properties[property_id] = value

    def grab(self):
        self.n += 1
        time.sleep(max(0, self._begin_s + self.n / 30 - time.monotonic()))
        if not self._capture.grab():
            self._capture = self._open()
            self._capture.grab()
        return True

    def retrieve(self):
        return self._capture.retrieve()

    def isOpened(self):  # noqa: N802 - OpenCV's
        return True

    def release(self):
        pass


def test_damaged_frame_is_skipped_and_one_second_of_damaged_frames_is_a_fault(make_camera, clip, monkeypatch):
    capture, sources, damaged = LiveCapture(clip), [], [False]
    retrieve = capture.retrieve

    def retrieve_damaged():
        success, image = retrieve()
        return (False, None) if damaged[0] or capture.n % 10 == 0 else (success, image)

    capture.retrieve = retrieve_damaged
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: sources.append(source) or capture)
    camera = make_camera(0, fps=30)
    camera.open()
    for _ in range(40):
        wait_until(camera.frame, lambda: camera.fault)
    assert len(sources) == 1 and camera.fault == "" and 3 <= camera.damaged <= 8
    damaged[0] = True
    wait_until(lambda: "decoded" in camera.fault, lambda: camera.fault)
    damaged[0] = False
    wait_until(lambda: camera.frame() and camera.fault == "", lambda: camera.fault)
    assert len(sources) >= 2


@pytest.mark.parametrize(("fps", "minimum", "maximum"), [(15, 30, 32), (25, 49, 52), (30, 60, 62)])
def test_frame_rate_of_a_faster_camera_is_reduced(make_camera, clip, monkeypatch, fps, minimum, maximum):
    capture = LiveCapture(clip)
    clock = SimpleNamespace(monotonic=capture.clock_s, time_ns=time.time_ns)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: capture)
    monkeypatch.setattr(hal.posix.opencv_camera, "time", clock)
    camera = make_camera(0, clock=lambda: int(1000 * capture.clock_s()), fps=fps)
    camera.open()
    times = [wait_until(camera.frame, lambda: camera.fault)[1]]
    while times[-1] < times[0] + 2000:
        times.append(wait_until(camera.frame, lambda: camera.fault)[1])
    assert minimum <= len(times) <= maximum, len(times)
    assert capture.properties[cv2.CAP_PROP_FPS] == fps and capture.properties[cv2.CAP_PROP_FRAME_WIDTH] == 320
    assert camera.dropped == 0


@pytest.mark.parametrize("options", [{"width": 63}, {"height": 481}, {"fps": 0}, {"fps": "15"}, {"width": 8192}])
def test_invalid_size_or_rate_is_refused(make_camera, clip, options):
    with pytest.raises(ValueError, match=f"camera: {next(iter(options))} must be "):
        make_camera(clip, **options)


def test_indicator_is_on_from_before_the_first_frame_until_the_camera_is_closed(make_camera, clip, tmp_path):
    indicator = Indicator(tmp_path / "value")
    camera = make_camera(clip, indicator)
    assert not indicator.get()
    camera.open()
    wait_until(camera.frame, lambda: camera.fault)
    assert indicator.get()
    camera.close()
    assert camera.frame() is None
    wait_until(lambda: not indicator.get(), "the indicator stays on")
    assert indicator.levels == [0, 1, 0]


@pytest.mark.parametrize("path", ["missing/value", "/dev/full", "/dev/null"])
def test_no_frame_if_the_indicator_cannot_be_set_or_stays_off(make_camera, clip, tmp_path, monkeypatch, path):
    sources = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: sources.append(source))
    camera = make_camera(clip, Indicator(tmp_path / path))
    camera.open()
    wait_until(lambda: camera.fault, "no fault")
    time.sleep(0.2)
    assert "the indicator" in camera.fault and "the indicator" in camera.log[0]
    assert camera.frame() is None and sources == []


def test_indicator_that_another_process_switches_off_stops_the_frames(make_camera, clip, tmp_path):
    indicator = Indicator(tmp_path / "value")
    camera = make_camera(clip, indicator)
    camera.open()
    wait_until(camera.frame, lambda: camera.fault)
    (tmp_path / "value").write_text("0")
    wait_until(lambda: camera.fault == "the indicator is not on", "no fault")
    while camera.frame() is not None:
        pass  # captured while the indicator was on
    assert indicator.levels[-1] == 0
    # The camera is opened again after 1 s, the indicator first.
    wait_until(camera.frame, lambda: camera.fault)
    assert indicator.get() and indicator.levels[-1] == 1 and camera.fault == ""


def test_camera_that_is_connected_late_and_reconnected_works(make_camera, clip, tmp_path):
    source = tmp_path / "video0"
    camera = make_camera(str(source))
    camera.open()
    wait_until(lambda: camera.fault, "no fault")
    assert camera.fault == f"cannot open {source}" and camera.frame() is None
    source.symlink_to(clip)
    wait_until(camera.frame, lambda: camera.fault)
    source.unlink()
    wait_until(lambda: camera.fault == f"cannot open {source}", "no fault after its removal")
    source.symlink_to(clip)
    while camera.frame() is not None:
        pass
    wait_until(camera.frame, lambda: camera.fault)
    assert len(camera.log) == 2


def test_frames_that_are_not_read_are_limited_and_counted(make_camera, clip):
    camera = make_camera(clip)
    camera.open()
    wait_until(lambda: camera.dropped >= 3, lambda: camera.fault)
    camera.open()  # a second call has no effect
    pending = 0
    while camera.frame() is not None:
        pending += 1
    assert pending <= RATE + 1  # the frames of one second, and one that was captured meanwhile


def test_calls_do_not_block_while_the_camera_hangs_and_the_indicator_stays_on(make_camera, tmp_path):
    """The source is a pipe without a writer: its opening blocks forever."""
    pipe, indicator = tmp_path / "pipe", Indicator(tmp_path / "value")
    os.mkfifo(pipe)
    camera = make_camera(str(pipe), indicator)
    camera.open()
    wait_until(indicator.get, "the indicator is off")
    finished = threading.Event()

    def call_camera() -> None:
        assert camera.frame() is None
        camera.close()
        camera.open()
        camera.close()
        finished.set()

    threading.Thread(target=call_camera, daemon=True).start()
    assert finished.wait(TIMEOUT_S) and indicator.get()

    def is_off_after_eof() -> bool:
        """Send an end of file to the backend of OpenCV that reads the pipe. OpenCV tries one backend after another."""
        with contextlib.suppress(OSError):
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return not indicator.get()

    wait_until(is_off_after_eof, "the indicator stays on")


def test_device_tests_its_camera_at_boot_and_reports_a_fault_until_the_first_frame(rig, clip, tmp_path):
    source, indicator = tmp_path / "video0", tmp_path / "led"
    config = {"source": str(source), "indicator": str(indicator)}
    device_rig = rig("linux", nmea.speak(walk(100)), 100, camera=config, status_s=1)
    errors = lambda: [row["errors"] for row in device_rig.rows if row["record"] == "device_status"]  # noqa: E731
    device_rig.listen(lambda: errors() and "camera_fault" in errors()[-1])
    source.symlink_to(clip)
    device_rig.listen(lambda: "camera_fault" not in errors()[-1])
    wait_until(lambda: indicator.read_text() == "0", "the indicator is on without a recording")
    device_rig.receiver.start()
    assert device_rig.finish()["fixes"] == len(device_rig.times()) == 100


@pytest.mark.parametrize(
    ("board", "camera", "message"),
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
def test_invalid_camera_configuration_is_refused(rig, board, camera, message):
    device_rig = rig(board, nmea.speak(walk(1)), 1, camera=camera)
    with pytest.raises(DeviceError, match=rf" 2;(.|\n)*{message}"):
        wait_until(device_rig.device.check, "the device runs")
