"""An emulated serial camera (VC0706): a video file's frames as JPEGs on a PTY, in its own time and at the line's rate.

Its line has the rate that a wire would have: what is said at another one is noise. Compression says
how coarse the pictures are; a size divides the sensor's 640x480.
"""

import contextlib
import io
import os
import select
import tempfile
import termios
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import av
from PIL import Image

from patrolink.emulator.peripherals.serial_line import Line

_SENSOR = (640, 480)
_AT_POWER_UP = 38400
_PORTS = {
    b"\x01\xae\xc8": 9600,
    b"\x01\x56\xe4": 19200,
    b"\x01\x2a\xf2": 38400,
    b"\x01\x1c\x4c": 57600,
    b"\x01\x0d\xa6": 115200,
    b"\x02\x00\x03\x02\xa6": 460800,
    b"\x02\x00\x01\x03\x53": 921600,
}
_SPEEDS = {getattr(termios, f"B{rate}"): rate for rate in _PORTS.values()}
_FINE = 0x36  # compression at power up
_RATIO = b"\x01\x01\x12\x04"  # the chip's register of the compression
_BOOT_S = 0.5
_BITS_PER_BYTE = 10
_SLICE_S = 0.001  # what is sent at once
_BANNER = b"VC0703 1.00\r\nCtrl infr exist\r\nInit end\r\n"
_LONGEST = 64  # bytes of a command


class _Film:
    """A video's frames by the time since it began, again and again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with av.open(str(path)) as video:
            stream = video.streams.video[0]
            self.fps = float(stream.average_rate or 25)
        self._began = time.monotonic()
        self._number = -1
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._image = Image.new("RGB", _SENSOR)
        self.image().resize(_SENSOR).save(io.BytesIO(), "JPEG")  # the first one takes long

    def image(self) -> Image.Image:
        """Return what is before the lens now. While nobody looks for half a second the film stands still.

        To catch up with a long pause would take longer than a camera may take to answer (500 ms).
        """
        due = int((time.monotonic() - self._began) * self.fps)
        late = due - self._number - max(1, round(self.fps / 2))
        if late > 0:
            self._began += late / self.fps
            due -= late
        while self._number < due:
            frame = next(self._frames, None)
            if frame is None:  # its end, or its beginning
                self._frames = self._decoded()
                frame = next(self._frames)
            self._number += 1
            if self._number == due:
                self._image = Image.fromarray(frame.to_ndarray(format="rgb24"))
        return self._image

    def _decoded(self) -> Iterator[av.VideoFrame]:
        with av.open(str(self._path)) as video:
            yield from video.decode(video=0)


class SerialCamera:
    """Give the device the path `path` as its camera's source. It plays from when it was made.

    pictures  (monotonic seconds, JPEG) of those that were stopped, the newest last, some hundreds at most
    resets    how often it was told to begin anew
    """

    def __init__(self, video: Path) -> None:
        self._film = _Film(video)
        self._folder = tempfile.TemporaryDirectory(prefix="patrolink-camera-")
        self.path = str(Path(self._folder.name) / "tty")
        self.pictures: deque[tuple[float, bytes]] = deque(maxlen=400)
        self.resets = 0
        self._hung = False
        self._torn = self._lost = 0
        self._power_up()
        self._line: Line | None = None
        self._lock = threading.Lock()
        self._stop = False
        self.plug()
        self._thread = threading.Thread(target=self._run, daemon=True, name="camera")
        self._thread.start()

    def _power_up(self) -> None:
        self._baud = _AT_POWER_UP
        self._initial()

    def _initial(self) -> None:
        self._size, self._ratio = _SENSOR, _FINE
        self._held = b""
        self._said = b""
        self._ready_s = time.monotonic() + _BOOT_S

    # --- faults -----------------------------------------------------------------------------------------------------

    def hang(self) -> None:
        """It answers nothing more, until it is reset."""
        self._hung = True

    def truncate_next(self, pictures: int) -> None:
        """So many of the next pictures are no whole JPEGs."""
        self._torn = pictures

    def drop(self, n: int) -> None:
        """The next n bytes of pictures are lost on the line."""
        self._lost = n

    def inject_noise(self, noise: bytes) -> None:
        """Say what nobody asked for."""
        with self._lock:
            self._send(noise)

    def unplug(self) -> None:
        """The cable is pulled, and with it its power."""
        with self._lock:
            if self._line:
                os.unlink(self.path)
                self._line.close()
                self._line = None

    def plug(self) -> None:
        """Put the cable back; it powers up."""
        with self._lock:
            self._line = Line()
            os.symlink(self._line.path, self.path)
            self._power_up()
            self._hung = False

    def close(self) -> None:
        """Take it away."""
        self._stop = True
        self._thread.join()
        self.unplug()
        self._folder.cleanup()

    # --- the line ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop:
            with self._lock:
                line = self._line
                data = self._heard(line) if line else b""
                for c in data:
                    self._hear(c)
            if not data:
                time.sleep(0.02 if line is None else 0.0)

    def _heard(self, line: Line) -> bytes:
        readable, _, _ = select.select([line.master], [], [], 0.01)
        if not readable:
            return b""
        with contextlib.suppress(OSError):
            data = os.read(line.master, 256)
            return data if self._in_tune(line) and time.monotonic() >= self._ready_s else b""
        return b""

    def _in_tune(self, line: Line) -> bool:
        """True when the device speaks at this camera's rate."""
        return _SPEEDS.get(termios.tcgetattr(line.slave)[4]) == self._baud

    def _hear(self, c: int) -> None:
        said = self._said + bytes((c,))
        if said[:1] != b"\x56" or len(said) > _LONGEST:
            said = b""
        if len(said) < 4 or len(said) < 4 + said[3]:
            self._said = said
            return
        self._said = b""
        if said[2] == 0x26:
            self._hung = False
            self.resets += 1
        if not self._hung:
            self._obey(said[2], said[4:])

    def _send(self, data: bytes) -> None:
        """At the line's rate. What is sent to a device at another rate comes as noise."""
        line = self._line
        if line is None:
            return
        if not self._in_tune(line):
            data = bytes(c & 0xF0 ^ 0xB0 for c in data)
        step = max(1, int(self._baud / _BITS_PER_BYTE * _SLICE_S))
        due = time.monotonic()
        for i in range(0, len(data), step):
            with contextlib.suppress(OSError):  # nobody reads: lost, as on a wire
                os.write(line.master, data[i : i + step])
            due += len(data[i : i + step]) * _BITS_PER_BYTE / self._baud
            time.sleep(max(0.0, due - time.monotonic()))

    # --- commands ---------------------------------------------------------------------------------------------------

    def _answer(self, command: int, data: bytes = b"", status: int = 0) -> None:
        self._send(bytes((0x76, 0, command, status, len(data))) + data)

    def _obey(self, command: int, data: bytes) -> None:
        if command == 0x26:
            self._answer(command)
            self._initial()
            self._send(_BANNER)
        elif command == 0x11:
            self._answer(command, b"VC0703 1.00")
        elif command == 0x24 and data in _PORTS:
            self._answer(command)
            self._baud = _PORTS[data]
        elif command == 0x54 and len(data) == 1:
            self._size = (_SENSOR[0] >> (data[0] & 3), _SENSOR[1] >> (data[0] >> 4 & 3))
            self._answer(command)
        elif command == 0x31 and data[:-1] == _RATIO:
            self._ratio = data[-1]
            self._answer(command)
        elif command == 0x36 and data in (b"\0", b"\3"):
            if data == b"\0":
                self._take()
            self._answer(command)
        elif command == 0x34 and data == b"\0":
            self._answer(command, len(self._held).to_bytes(4, "big"))
        elif command == 0x32 and len(data) == 12:
            self._give(command, data)
        else:
            self._answer(command, status=3)  # of the wrong form

    def _take(self) -> None:
        out = io.BytesIO()
        quality = 95 - self._ratio // 3
        self._film.image().resize(self._size).save(out, "JPEG", quality=quality)
        self._held = out.getvalue()
        if self._torn:
            self._torn -= 1
            self._held = self._held[: len(self._held) * 2 // 3]
        self.pictures.append((time.monotonic(), self._held))

    def _give(self, command: int, data: bytes) -> None:
        at, n = int.from_bytes(data[2:6], "big"), int.from_bytes(data[6:10], "big")
        piece = self._held[at : at + n]
        time.sleep(int.from_bytes(data[10:], "big") / 100_000)
        lost, self._lost = self._lost, 0
        self._answer(command)
        self._send(piece[lost:])
        self._answer(command)
