"""Captures: received frames with receive time and device id.

file    8 bytes magic, then records
record  2 bytes sync A5 5A, u16 length, payload, u32 CRC-32 of the payload (big-endian throughout)
payload u64 receive time in unix ms, u8 length of the device id, device id, frame
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from patrolink.core.errors import UserError
from patrolink.core.keys import DEVICE_ID

MAGIC = b"PLCAP\x01\r\n"
_SYNC = b"\xa5\x5a"
_PAYLOAD_MAX_BYTES = 2048
_OVERHEAD_BYTES = 8  # sync, length, CRC
RECORD_OVERHEAD_BYTES = _OVERHEAD_BYTES + 9  # and receive time, length of the device id
_BLOCK_BYTES = 65536
# Twice the size of any frame. Longer data is no frame, which its first bytes show as well as all of them.
FRAME_MAX_BYTES = _PAYLOAD_MAX_BYTES - 9 - 32


@dataclass(frozen=True)
class Record:
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
        buf = bytearray()
        ended = False
        in_damage = False
        while True:
            while not ended and len(buf) < _PAYLOAD_MAX_BYTES + _OVERHEAD_BYTES:
                block = self._read(_BLOCK_BYTES)
                ended = not block
                buf += block
            if not buf:
                return
            size, record = _parse(buf)
            if record is not None:
                in_damage = False
                del buf[:size]
                yield record
                continue
            if ended and buf.startswith(_SYNC) and size > len(buf) and not in_damage and buf.find(_SYNC, 1) < 0:
                self.truncated = 1
                return
            if not in_damage:
                self.damaged += 1
                in_damage = True
            sync_at = buf.find(_SYNC, 1)
            # The last byte may be the first half of a sync mark that continues in the next block.
            del buf[: sync_at if sync_at > 0 else max(len(buf) - 1, 1)]


def _parse(buf: bytearray) -> tuple[int, Record | None]:
    """Return (size, record) of the record at the start of `buf`; the record is None if there is no valid one."""
    if len(buf) < 4 or not buf.startswith(_SYNC):
        return len(buf) + 1, None
    length = int.from_bytes(buf[2:4], "big")
    size = length + _OVERHEAD_BYTES
    if not 9 <= length <= _PAYLOAD_MAX_BYTES or len(buf) < size:
        return size, None
    payload = bytes(buf[4 : 4 + length])
    if zlib.crc32(payload) != int.from_bytes(buf[4 + length : size], "big"):
        return 0, None
    time_ms, id_length = struct.unpack_from(">QB", payload)
    # Latin-1 decodes any byte. A name that is no device id, terminal escapes for example, is rejected here.
    device = payload[9 : 9 + id_length].decode("latin-1")
    if not DEVICE_ID.fullmatch(device):
        return 0, None
    return size, Record(time_ms, device, payload[9 + id_length :])
