"""An emulated serial camera (VC0706): frames of a video as JPEGs on a PTY, in real time and at the baud rate.

The line has the baud rate that a wire would have: data sent at another rate arrives as noise. The compression register
sets the JPEG quality; a size command divides the sensor's 640x480.
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
from PIL import Image, ImageOps

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
_FINE = 0x36  # compression register at power-up
_RATIO = b"\x01\x01\x12\x04"  # register of the compression
_BOOT_S = 0.5
_BITS_PER_BYTE = 10
_SLICE_S = 0.001  # duration of the bytes sent in one piece
_BANNER = b"VC0703 1.00\r\nCtrl infr exist\r\nInit end\r\n"
_LONGEST = 64  # maximum length of a command in bytes


class _Video:
    """Frames of a video in real time, in a loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with av.open(str(path)) as video:
            stream = video.streams.video[0]
            self.fps = float(stream.average_rate or 25)
        self._start_s = time.monotonic()
        self._number = -1
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._image = Image.new("RGB", _SENSOR)
        ImageOps.pad(self.image(), _SENSOR).save(io.BytesIO(), "JPEG")  # the first encoding takes long

    def image(self) -> Image.Image:
        """Return the current frame.

        If no frame was asked for in half a second, the video pauses: decoding everything in between would take longer
        than the 500 ms in which a camera has to answer.
        """
        due = int((time.monotonic() - self._start_s) * self.fps)
        lag = due - self._number - max(1, round(self.fps / 2))
        if lag > 0:
            self._start_s += lag / self.fps
            due -= lag
        while self._number < due:
            frame = next(self._frames, None)
            if frame is None:  # start or end of the video
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
    """An emulated camera on a PTY; it plays from construction on.

    Attributes:
        path: Path of the PTY, the device's camera source.
        pictures: The newest captured pictures as (monotonic seconds, JPEG), at most 400.
        resets: Number of reset commands.
    """

    def __init__(self, video: Path) -> None:
        self._video = _Video(video)
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
        self._picture = b""
        self._command = b""
        self._ready_s = time.monotonic() + _BOOT_S

    # --- faults -----------------------------------------------------------------------------------------------------

    def hang(self) -> None:
        """Stop answering until the next reset."""
        self._hung = True

    def truncate_next(self, pictures: int) -> None:
        """Truncate the next `pictures` JPEGs."""
        self._torn = pictures

    def drop(self, n: int) -> None:
        """Lose the next `n` bytes of picture data on the line."""
        self._lost = n

    def inject_noise(self, noise: bytes) -> None:
        """Send bytes that no command asked for."""
        with self._lock:
            self._send(noise)

    def unplug(self) -> None:
        """Pull the cable, which also cuts the power."""
        with self._lock:
            if self._line:
                os.unlink(self.path)
                self._line.close()
                self._line = None

    def plug(self) -> None:
        """Plug the cable in; the camera powers up."""
        with self._lock:
            self._line = Line()
            os.symlink(self._line.path, self.path)
            self._power_up()
            self._hung = False

    def close(self) -> None:
        """Remove the camera."""
        self._stop = True
        self._thread.join()
        self.unplug()
        self._folder.cleanup()

    # --- the line ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop:
            with self._lock:
                line = self._line
                data = self._read_command_bytes(line) if line else b""
                for c in data:
                    self._take_byte(c)
            if not data:
                time.sleep(0.02 if line is None else 0.0)

    def _read_command_bytes(self, line: Line) -> bytes:
        readable, _, _ = select.select([line.master], [], [], 0.01)
        if not readable:
            return b""
        with contextlib.suppress(OSError):
            data = os.read(line.master, 256)
            return data if self._same_baud(line) and time.monotonic() >= self._ready_s else b""
        return b""

    def _same_baud(self, line: Line) -> bool:
        """Return whether the device uses the camera's baud rate."""
        return _SPEEDS.get(termios.tcgetattr(line.slave)[4]) == self._baud

    def _take_byte(self, c: int) -> None:
        command = self._command + bytes((c,))
        if command[:1] != b"\x56" or len(command) > _LONGEST:
            command = b""
        if len(command) < 4 or len(command) < 4 + command[3]:
            self._command = command
            return
        self._command = b""
        if command[2] == 0x26:
            self._hung = False
            self.resets += 1
        if not self._hung:
            self._execute(command[2], command[4:])

    def _send(self, data: bytes) -> None:
        """Send at the baud rate; a device at another rate receives noise."""
        line = self._line
        if line is None:
            return
        if not self._same_baud(line):
            data = bytes(c & 0xF0 ^ 0xB0 for c in data)
        step = max(1, int(self._baud / _BITS_PER_BYTE * _SLICE_S))
        due = time.monotonic()
        for i in range(0, len(data), step):
            with contextlib.suppress(OSError):  # no reader: lost, as on a wire
                os.write(line.master, data[i : i + step])
            due += len(data[i : i + step]) * _BITS_PER_BYTE / self._baud
            time.sleep(max(0.0, due - time.monotonic()))

    # --- commands ---------------------------------------------------------------------------------------------------

    def _answer(self, command: int, data: bytes = b"", status: int = 0) -> None:
        self._send(bytes((0x76, 0, command, status, len(data))) + data)

    def _execute(self, command: int, data: bytes) -> None:
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
            self._answer(command, len(self._picture).to_bytes(4, "big"))
        elif command == 0x32 and len(data) == 12:
            self._send_picture(command, data)
        else:
            self._answer(command, status=3)  # malformed command

    def _take(self) -> None:
        out = io.BytesIO()
        quality = 95 - self._ratio // 3
        # Fitted, not stretched; the camera pads what the film does not fill.
        fitted = ImageOps.pad(self._video.image(), _SENSOR)
        fitted.resize(self._size).save(out, "JPEG", quality=quality)
        self._picture = out.getvalue()
        if self._torn:
            self._torn -= 1
            self._picture = self._picture[: len(self._picture) * 2 // 3]
        self.pictures.append((time.monotonic(), self._picture))

    def _send_picture(self, command: int, data: bytes) -> None:
        at, n = int.from_bytes(data[2:6], "big"), int.from_bytes(data[6:10], "big")
        piece = self._picture[at : at + n]
        time.sleep(int.from_bytes(data[10:], "big") / 100_000)
        lost, self._lost = self._lost, 0
        self._answer(command)
        self._send(piece[lost:])
        self._answer(command)
