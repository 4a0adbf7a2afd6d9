"""Frames on a serial line or PTY: COBS blocks between zero bytes, with CRC-16/CCITT-FALSE (SPEC.md, "Carriage")."""

import binascii
import time
from collections.abc import Iterator, Mapping

import patrolink_messages as m
from cobs import cobs

from patrolink.core.capture import Record
from patrolink.core.errors import DeviceError, UserError
from patrolink.core.keys import DEVICE_ID, DeviceKey
from patrolink.core.sender_lookup import SenderLookup
from patrolink.transport.serial_port import open_port

_BLOCK_MAX_BYTES = m.MAX_FRAME + 2 + m.MAX_FRAME // 254 + 1
_CRC_INITIAL = 0xFFFF
_BAUD = 115200
_UNKNOWN_DEVICE = "serial"


def pack_frame(frame: bytes) -> bytes:
    """Return a frame as sent on the line: CRC added, COBS encoded, terminated by a zero byte."""
    block: bytes = cobs.encode(frame + binascii.crc_hqx(frame, _CRC_INITIAL).to_bytes(2, "big"))
    return block + b"\0"


class FrameUnpacker:
    """Finds frames in a byte stream.

    Attributes:
        invalid: number of blocks between zero bytes that are no frame.
    """

    def __init__(self) -> None:
        self._buf = bytearray()
        self._too_long = False
        self.invalid = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes; return the frames that they complete."""
        frames = []
        parts = data.split(b"\0")
        for i, part in enumerate(parts):
            self._buf += part
            if len(self._buf) > _BLOCK_MAX_BYTES:
                self._too_long = True
                self._buf.clear()
            if i == len(parts) - 1:
                break
            frame = None if self._too_long else _unpack(bytes(self._buf))
            if frame:
                frames.append(frame)
            elif self._too_long or self._buf:
                self.invalid += 1
            self._too_long = False
            self._buf.clear()
        return frames


def _unpack(block: bytes) -> bytes | None:
    try:
        data: bytes = cobs.decode(block)
    except cobs.DecodeError:
        return None
    frame, check = data[:-2], data[-2:]
    return (
        frame
        if 2 < len(data) <= m.MAX_FRAME + 2 and binascii.crc_hqx(frame, _CRC_INITIAL).to_bytes(2, "big") == check
        else None
    )


class SerialTransport:
    """A serial port at 115200 baud, opened for this program alone.

    Args:
        port: path or pyserial URL.
        device: device id of the frames, which carry none; None: that of the key that verifies a frame, else "serial".
        keys: device id → key.

    Raises:
        DeviceError: the port cannot be opened.
        UserError: the device id is invalid.
    """

    def __init__(self, port: str, device: str | None, keys: Mapping[str, DeviceKey]) -> None:
        if device is not None and not DEVICE_ID.fullmatch(device):
            raise UserError(f"--device {device!r}: a device id has 1 to 32 of A-Z a-z 0-9 _ -")
        self._device = device
        self._senders = SenderLookup(keys)
        self._name = port
        self._port = open_port(port, _BAUD, timeout_s=0.2)
        self._unpacker = FrameUnpacker()

    def records(self) -> Iterator[Record | None]:
        """Yield records as they arrive, and None about every 0.2 s without one.

        Raises:
            DeviceError: the port was disconnected.
        """
        while True:
            try:
                data = self._port.read(max(1, self._port.in_waiting))
            except OSError:  # includes SerialException
                raise DeviceError(f"{self._name}: the port was disconnected; reconnect it and start again") from None
            if not data:
                yield None
            for frame in self._unpacker.feed(data):
                device = self._device or self._senders.find(frame) or _UNKNOWN_DEVICE
                yield Record(time.time_ns() // 1_000_000, device, frame)

    def counts(self) -> dict[str, int]:
        """Return the number of invalid blocks; one or two are normal if the port is opened inside a frame."""
        return {"line_errors": self._unpacker.invalid}

    def close(self) -> None:
        """Close the port."""
        self._port.close()
