"""Requests to the serial receiver of a board; device/agent/update/serial_receiver.py describes the frames."""

import hashlib
import json
import zlib
from collections.abc import Iterable
from typing import Any

from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.core.text import plural
from patrolink.flash.copy_plan import Part
from patrolink.flash.link import Link
from patrolink.flash.records import RefusedError

BLOCK_BYTES = 4096
NUMBERS = 1 << 16  # of frames
_START = b"\xa5"
_DONE, _REPEAT, _REFUSED, _FAILED = b"A", b"N", b"R", b"F"
_INFO, _DIGEST, _BEGIN, _INDEX, _BLOCKS, _BLOCK, _FINISH, _RESTART = range(8)
_FILE_DIGEST, _FILE_WRITE, _FILE_COMMIT = range(9, 12)
_INDEX_ENTRIES, _INDEX_ENTRY_BYTES = 128, 8
_DIGESTS, _DIGEST_BYTES, _SHA256_BYTES = 64, 8, 32
_LITERAL = b"\xff\xff\xff\xff"
_FILLER = bytes(BLOCK_BYTES + 256)  # longer than any frame
_ANSWER_HEAD_BYTES, _ANSWER_MAX = 9, 4096
_WINDOW_BITS = 14
_FILE_PART_BYTES = 2048
_ATTEMPTS = 8
_SILENT, _OPEN_SILENT = 4, 2  # attempts without an answer


class SerialSession:
    """One session with the receiver.

    Args:
        link: The line, on which the receiver runs.
        answer_s: Time in which the board answers a frame.
        work_s: Time in which it verifies a signature, or hashes its content.
        number: Number of the first frame, 0 to 65535. It must be random on a line that others have used: a late answer
            to another frame of that number would be taken for the reply.
    """

    def __init__(self, link: Link, number: int, answer_s: float = 5.0, work_s: float = 60.0) -> None:
        self._link, self._answer_s, self._work_s = link, answer_s, work_s
        self._deflater = zlib.compressobj(9, zlib.DEFLATED, -_WINDOW_BITS)
        self._number = number

    def open(self, limit_s: float) -> None:
        """Start the session.

        Raises:
            DeadlineError: No receiver answers.
        """
        number = self._next_number()
        self._exchange(_frame(number, 0, b""), number, limit_s, new=True)

    def info(self) -> dict[str, Any]:
        """Return what the board says of itself.

        Raises:
            DeviceError: It is not JSON.
        """
        try:
            info = json.loads(self._request(bytes([_INFO]), self._answer_s))
        except ValueError:
            info = None
        if not isinstance(info, dict):
            raise DeviceError(
                f"{self._link.port}: the board describes itself in no known form; flash its platform first"
            )
        return info

    def digest(self) -> tuple[int, bytes]:
        """Return size and SHA-256 of the present content, computed by the board."""
        reply = self._request(bytes([_DIGEST]), self._work_s, 4 + _SHA256_BYTES)
        return int.from_bytes(reply[:4], "little"), reply[4:]

    def begin(self, header: bytes) -> int:
        """Offer an image; returns the size of the content of which blocks can be copied.

        Raises:
            RefusedError: The board does not take it.
        """
        return int.from_bytes(self._request(bytes([_BEGIN]) + header, self._work_s, 4), "little")

    def index(self, size: int) -> bytes:
        """Return the index of the content that can be copied, of `size` bytes, for `copy_plan`."""
        count = size // 1024
        index = b""
        for first in range(0, count, _INDEX_ENTRIES):
            reply_bytes = min(_INDEX_ENTRIES, count - first) * _INDEX_ENTRY_BYTES
            index += self._request(bytes([_INDEX]) + first.to_bytes(2, "little"), self._work_s, reply_bytes)
        return index

    def written_digests(self, blocks: int) -> list[bytes]:
        """Return the first bytes of the SHA-256 of each block that lies where the new content goes."""
        data = b""
        for first in range(0, blocks, _DIGESTS):
            count = min(_DIGESTS, blocks - first)
            arguments = first.to_bytes(2, "little") + count.to_bytes(2, "little")
            data += self._request(bytes([_BLOCKS]) + arguments, self._work_s, count * _DIGEST_BYTES)
        return [data[at : at + _DIGEST_BYTES] for at in range(0, len(data), _DIGEST_BYTES)]

    def write_block(self, number: int, content: bytes, parts: Iterable[Part]) -> None:
        """Send the parts of a block of the content."""
        request = bytearray([_BLOCK]) + number.to_bytes(2, "little")
        for start, length, source in parts:
            request += (_LITERAL if source is None else source.to_bytes(4, "little")) + length.to_bytes(2, "little")
            if source is None:
                request += content[start : start + length]
        self._request(bytes(request), self._work_s)

    def finish(self) -> None:
        """Have the board verify its new content and put it into service at the next start."""
        self._request(bytes([_FINISH]), self._work_s)

    def file_digest(self, name: str) -> bytes:
        """Return the SHA-256 of a file of the board, computed by it; no bytes if there is none."""
        return self._request(bytes([_FILE_DIGEST]) + name.encode(), self._answer_s)

    def write_file(self, name: str, content: bytes) -> None:
        """Replace a file of the board; after a failure the previous one is intact."""
        encoded = name.encode()
        for offset in range(0, len(content) or 1, _FILE_PART_BYTES):
            head = bytes([_FILE_WRITE]) + offset.to_bytes(4, "little") + bytes([len(encoded)]) + encoded
            self._request(head + content[offset : offset + _FILE_PART_BYTES], self._work_s)
        self._request(bytes([_FILE_COMMIT]) + hashlib.sha256(content).digest() + encoded, self._work_s)

    def restart(self) -> None:
        """Reset the board."""
        self._request(bytes([_RESTART]), self._answer_s)

    def _request(self, request: bytes, limit_s: float, reply_bytes: int | None = None) -> bytes:
        """Return the reply of the board; `reply_bytes` is its length if that is known."""
        what = "configuration" if request[0] >= _FILE_DIGEST else "image"
        data = self._deflater.compress(request) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        number = self._next_number()
        status, reply = self._exchange(_frame(number, len(request), data), number, limit_s)
        text = reply.decode(errors="replace")
        if status == _FAILED:
            raise DeviceError(f"{self._link.port}: {text}; what the board held before is unchanged, repeat the command")
        if status == _REFUSED:
            raise RefusedError(f"{self._link.port}: the board refuses the {what}: {text}; the board is unchanged")
        if reply_bytes is not None and len(reply) != reply_bytes:
            raise DeviceError(
                f"{self._link.port}: {plural(len(reply), 'byte')} of reply to request {request[0]}, expected "
                f"{reply_bytes}; the board runs another version of the receiver: flash its platform first"
            )
        return reply

    def _next_number(self) -> int:
        number, self._number = self._number, (self._number + 1) % NUMBERS
        return number

    def _exchange(self, frame: bytes, number: int, limit_s: float, new: bool = False) -> tuple[bytes, bytes]:
        """Send a frame until it is answered; returns status and data of the answer."""
        silent = 0
        for _ in range(_ATTEMPTS):
            self._link.write(frame)
            try:
                status, answered, reply = self._answer(number, limit_s)
            except DeadlineError:
                silent += 1
                if silent == (_OPEN_SILENT if new else _SILENT):
                    raise
                self._link.write(_FILLER)  # ends the wait for bytes that were lost
                continue
            if answered == number and status in (_DONE, _REFUSED, _FAILED):
                return status, reply
            if answered != number and not new:
                break  # the board is not in this session
        raise DeviceError(f"{self._link.port}: the line damages too much data; try another cable, then repeat")

    def _answer(self, number: int, limit_s: float) -> tuple[bytes, int, bytes]:
        """Return (status, number, data) of the next answer; answers to earlier frames are skipped."""
        deadline_s = self._link.now_s() + limit_s
        while True:
            self._link.read_until(_START, max(0.0, deadline_s - self._link.now_s()))
            head = self._link.read(_ANSWER_HEAD_BYTES, max(0.0, deadline_s - self._link.now_s()))
            length, crc = int.from_bytes(head[3:5], "little"), int.from_bytes(head[5:9], "little")
            if length > _ANSWER_MAX:
                continue
            data = self._link.read(length, max(0.0, deadline_s - self._link.now_s()))
            answered = int.from_bytes(head[1:3], "little")
            if zlib.crc32(data, zlib.crc32(head[:5])) == crc and (head[:1] == _REPEAT or answered == number):
                return head[:1], answered, data


def _frame(number: int, size: int, data: bytes) -> bytes:
    head = b"".join(value.to_bytes(2, "little") for value in (number, len(data), size))
    return _START + head + zlib.crc32(data, zlib.crc32(head)).to_bytes(4, "little") + data
