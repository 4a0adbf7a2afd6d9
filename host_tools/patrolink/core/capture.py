"""Captures: received frames with receive time and device id.

file    8 bytes magic, then records
record  2 bytes sync A5 5A, u16 length, payload, u32 CRC-32 of the payload (big-endian throughout)
payload u64 receive time in unix ms, u8 length of the device id, device id, frame
"""

import functools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from patrolink.core.errors import UserError
from patrolink.core.keys import DEVICE_ID

MAGIC = b"PLCAP\x01\r\n"
_SYNC = b"\xa5\x5a"
_PAYLOAD_MAX_BYTES = 2048
_OVERHEAD_BYTES = 8  # sync, length, CRC
RECORD_OVERHEAD_BYTES = _OVERHEAD_BYTES + 9  # and receive time, length of the device id
_BLOCK_BYTES = 65536
_HEAD = struct.Struct(">QB")
_DEVICES_CACHED = 4096
# Twice the size of any frame. Longer data is no frame, which its first bytes show as well as all of them.
FRAME_MAX_BYTES = _PAYLOAD_MAX_BYTES - 9 - 32


class Record(NamedTuple):
    """One frame as received.

    Args:
        time_ms: receive time, unix milliseconds.
        device: device id.
        frame: the frame's bytes, not verified.
    """

    time_ms: int
    device: str
    frame: bytes


class CaptureWriter:
    """Writes records to a new file, unbuffered: a crash loses at most the record being written.

    Args:
        path: the file. Its folder is created.
        overwrite: replace an existing file.

    Raises:
        FileExistsError: the file exists, and must not be replaced.
    """

    def __init__(self, path: Path, overwrite: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        # A pipe or a device, such as /dev/null, has no content to lose.
        replace = overwrite or (path.exists() and not path.is_file())
        self._file = path.open("wb" if replace else "xb", buffering=0)
        self._file.write(MAGIC)

    def write(self, record: Record) -> None:
        """Append one record; its frame is cut to FRAME_MAX_BYTES.

        Raises:
            UserError: the record could not be written, or only part of it.
        """
        device = record.device.encode()
        payload = struct.pack(">QB", record.time_ms, len(device)) + device + record.frame[:FRAME_MAX_BYTES]
        data = _SYNC + struct.pack(">H", len(payload)) + payload + struct.pack(">I", zlib.crc32(payload))
        try:
            if self._file.write(data) == len(data):
                return
            why = "only part of a record could be written"
        except OSError as e:
            why = str(e.strerror)
        raise UserError(f"{self._path}: {why}; free some space; earlier records are complete")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CaptureReader:
    """Iterates over the records of a capture. Damaged bytes are counted and skipped.

    Args:
        source: the open capture.
        name: its name for error messages.

    Attributes:
        damaged: number of byte sequences that are no record.
        truncated: 1 if the file ends inside a record.

    Raises:
        UserError: the source is no capture, or cannot be read.
    """

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._source = source
        self._name = name
        self.damaged = 0
        self.truncated = 0
        head = self._read(len(MAGIC))
        if head != MAGIC:
            raise UserError(
                f"{name}: not a Patrolink capture (wrong first 8 bytes); `monitor --record` and `pack` write captures"
            )

    def _read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except OSError as e:
            raise UserError(f"{self._name}: {e.strerror}; name a readable capture") from None

    def __iter__(self) -> Iterator[Record]:
        buf = b""
        at = 0
        ended = False
        in_damage = False
        while True:
            while not ended and len(buf) - at < _PAYLOAD_MAX_BYTES + _OVERHEAD_BYTES:
                block = self._read(_BLOCK_BYTES)
                ended = not block
                buf = buf[at:] + block
                at = 0
            available = len(buf) - at
            if not available:
                return
            size, record = _parse(buf, at)
            if record is not None:
                in_damage = False
                at += size
                yield record
                continue
            next_sync = buf.find(_SYNC, at + 1)
            if ended and buf.startswith(_SYNC, at) and size > available and not in_damage and next_sync < 0:
                self.truncated = 1
                return
            if not in_damage:
                self.damaged += 1
                in_damage = True
            # The last byte may be the first half of a sync mark that continues in the next block.
            at = next_sync if next_sync > 0 else max(len(buf) - 1, at + 1)


def _parse(buf: bytes, at: int) -> tuple[int, Record | None]:
    """Return (size, record) of the record at an offset of `buf`; the record is None if there is no valid one."""
    available = len(buf) - at
    if available < 4 or not buf.startswith(_SYNC, at):
        return available + 1, None
    length = buf[at + 2] << 8 | buf[at + 3]
    size = length + _OVERHEAD_BYTES
    if not 9 <= length <= _PAYLOAD_MAX_BYTES or available < size:
        return size, None
    end = at + 4 + length
    payload = buf[at + 4 : end]
    if zlib.crc32(payload) != int.from_bytes(buf[end : at + size], "big"):
        return 0, None
    time_ms, id_length = _HEAD.unpack_from(payload)
    device = _device_id(payload[9 : 9 + id_length])
    return (0, None) if device is None else (size, Record(time_ms, device, payload[9 + id_length :]))


@functools.lru_cache(_DEVICES_CACHED)
def _device_id(data: bytes) -> str | None:
    """Return a device id; None for a name that is none, terminal escapes for example."""
    text = data.decode("latin-1")  # which decodes any byte
    return text if DEVICE_ID.fullmatch(text) else None
