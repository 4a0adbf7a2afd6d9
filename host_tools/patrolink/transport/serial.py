"""Frames over a serial line or PTY: COBS between zero bytes, with a CRC-16/CCITT-FALSE (SPEC.md, "Carriage")."""

import binascii
import time
from collections.abc import Iterator

import patrolink_messages as m
import serial
from cobs import cobs

from patrolink.core.capture import Record
from patrolink.core.errors import DeviceError, UserError
from patrolink.core.keys import DEVICE_ID

_LONGEST = m.MAX_FRAME + 2 + m.MAX_FRAME // 254 + 1
_INITIAL = 0xFFFF


def pack_frame(frame: bytes) -> bytes:
    """Return a frame as it goes over the line, with its closing zero byte."""
    block: bytes = cobs.encode(frame + binascii.crc_hqx(frame, _INITIAL).to_bytes(2, "big"))
    return block + b"\0"


class FrameUnpacker:
    """Finds frames in a byte stream; `bad` counts stretches between zero bytes that are none."""

    def __init__(self) -> None:
        self._buf = bytearray()
        self._skip = False
        self.bad = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the whole frames that `data` completes."""
        frames = []
        parts = data.split(b"\0")
        for i, part in enumerate(parts):
            self._buf += part
            if len(self._buf) > _LONGEST:
                self._skip = True
                self._buf.clear()
            if i == len(parts) - 1:
                break
            frame = None if self._skip else _unpack(bytes(self._buf))
            if frame:
                frames.append(frame)
            elif self._skip or self._buf:
                self.bad += 1
            self._skip = False
            self._buf.clear()
        return frames


def _unpack(block: bytes) -> bytes | None:
    try:
        data: bytes = cobs.decode(block)
    except cobs.DecodeError:
        return None
    frame, check = data[:-2], data[-2:]
    return frame if len(data) > 2 and binascii.crc_hqx(frame, _INITIAL).to_bytes(2, "big") == check else None


class SerialTransport:
    """A port by path or pyserial URL, 115200 baud."""

    def __init__(self, port: str, device: str) -> None:
        if not DEVICE_ID.fullmatch(device):
            raise UserError(f"--device {device!r}: 1 to 32 of A-Z a-z 0-9 _ -")
        self._device = device
        self._name = port
        try:
            self._port = serial.serial_for_url(port, 115200, timeout=0.2)
        except (serial.SerialException, ValueError, OSError) as e:
            raise UserError(f"{port}: cannot be opened ({e}); `patrolink devices` lists the ports") from None
        self.unpacker = FrameUnpacker()

    def records(self) -> Iterator[Record | None]:
        while True:
            try:
                data = self._port.read(max(1, self._port.in_waiting))
            except OSError:  # SerialException is one
                raise DeviceError(f"{self._name}: the port went away; plug the device in and start again") from None
            if not data:
                yield None
            for frame in self.unpacker.feed(data):
                yield Record(time.time_ns() // 1_000_000, self._device, frame)

    def counts(self) -> dict[str, int]:
        # A port that opens inside a frame, or while a board boots, counts one or two.
        return {"line_errors": self.unpacker.bad}

    def close(self) -> None:
        self._port.close()
