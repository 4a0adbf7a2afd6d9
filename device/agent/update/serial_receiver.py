"""Receives an agent image over the console: the device side of the method `serial` of `patrolink flash`.

    frame     START (u8), number (u16), length (u16), raw length (u16), CRC-32 of the six bytes and the data (u32), data
    answer    START (u8), status (u8), number (u16), length (u16), CRC-32 of the five bytes and the data (u32), data

All numbers are little-endian. The data of a frame is part of one stream of raw deflate (RFC 1951) with a window of
16 KB, flushed at the end of each frame, and inflates to a request: its operation (u8) and arguments. Frames are
numbered; one that comes twice is executed once and answered again. A damaged frame is answered with REPEAT and the
number that is expected. The host ends a wait for missing bytes by zeros, which are skipped between frames. A frame
without data starts a session: a new stream, whose frames are numbered from the next number on. The host chooses it at
random, so that no late answer, of this session or of an earlier one, is taken for that of a request.

A block is made of copies from the content that the device has, and of literal bytes. So only what changed is sent.

Requests of files are FILE_DIGEST (name), FILE_WRITE (offset u32, length of the name u8, name, data) and FILE_COMMIT
(SHA-256, name). No request reads a file.
"""

from binascii import crc32
from hashlib import sha256

START = 0xA5
DONE, REPEAT, REFUSED, FAILED = b"A", b"N", b"R", b"F"
INFO, DIGEST, BEGIN, INDEX, BLOCKS, BLOCK, FINISH, RESTART, QUIT, FILE_DIGEST, FILE_WRITE, FILE_COMMIT = range(12)
BLOCK_BYTES = 4096  # of the content, written at once
INDEX_BYTES = 1024  # of the present content, listed for copies
INDEX_ENTRIES = 128  # in one answer
DIGEST_BYTES = 8  # of a written block
_FRAME_MAX = BLOCK_BYTES + 128


def number_at(data, offset, length):
    """Return an unsigned little-endian number."""
    return int.from_bytes(data[offset : offset + length], "little")


def _text(data):
    try:
        return str(bytes(data), "utf-8")
    except UnicodeError:
        raise RefusedError("a name that is no text")


class RefusedError(Exception):
    """The target does not take the image; the text says why. Nothing was erased."""


class FailedError(Exception):
    """What was written is not the image; the text says why. The slot that was written holds no image."""


class SerialReceiver:
    """Executes requests until QUIT or RESTART.

    Args:
        readinto: Fills a buffer with bytes from the host, entirely.
        write: Writes bytes to the host.
        open_stream: Returns a new `compat.inflate_stream.InflateStream`.
        target: Takes the image: `source_bytes` (length of the present content), read_source(offset, buffer),
            begin(header), block_digest(index), write_block(index, data), finish().
        describe: Returns bytes that describe the device.
        files: Takes files: digest(name), write(name, offset, data), commit(name, digest).
    """

    def __init__(self, readinto, write, open_stream, target, describe, files):
        self._readinto = readinto
        self._write = write
        self._open_stream = open_stream
        self._stream = open_stream()
        self._target = target
        self._describe = describe
        self._files = files
        self._head = memoryview(bytearray(10))
        self._data = memoryview(bytearray(_FRAME_MAX))
        self._raw = memoryview(bytearray(_FRAME_MAX))
        self._block = memoryview(bytearray(BLOCK_BYTES))
        self._expected = 0
        self._answer = b""

    def run(self):
        """Execute requests; returns whether the host wants a restart."""
        operation = None
        while operation not in (RESTART, QUIT):
            number, size, length = self._frame()
            if number >= 0 and not length:
                self._stream = None  # so that the window of the next stream has its memory
                self._stream = self._open_stream()
                self._expected = (number + 1) & 0xFFFF
                self._answer = self._answer_of(DONE, number, b"")
            elif number == self._expected and size:
                raw = self._raw[:size]
                self._stream.inflate(self._data[:length], raw)
                operation = raw[0]
                self._answer = self._execute(operation, raw)
                self._expected = (number + 1) & 0xFFFF
            elif number != (self._expected - 1) & 0xFFFF or not self._answer:
                self._write(self._answer_of(REPEAT, self._expected, b""))
                continue
            self._write(self._answer)
        return operation == RESTART

    def _frame(self):
        """Return (number, raw size, length of the data) of the next frame; number -1 if it is damaged."""
        head = self._head
        start = head[:1]
        while True:
            self._readinto(start)
            if start[0] == START:
                break
        self._readinto(head)
        length = number_at(head, 2, 2)
        size = number_at(head, 4, 2)
        if length > _FRAME_MAX or size > _FRAME_MAX:
            return -1, 0, 0
        data = self._data[:length]
        self._readinto(data)
        if crc32(data, crc32(head[:6])) != number_at(head, 6, 4):
            return -1, 0, 0
        return number_at(head, 0, 2), size, length

    def _answer_of(self, status, number, data):
        body = status + number.to_bytes(2, "little") + len(data).to_bytes(2, "little")
        return bytes((START,)) + body + crc32(data, crc32(body)).to_bytes(4, "little") + data

    def _execute(self, operation, raw):
        status = DONE
        try:
            reply = self._reply(operation, raw)
        except RefusedError as e:
            status, reply = REFUSED, str(e).encode()
        except FailedError as e:
            status, reply = FAILED, str(e).encode()
        except OSError as e:
            status, reply = FAILED, ("flash error %s" % e).encode()
        return self._answer_of(status, self._expected, reply)

    def _reply(self, operation, raw):
        target = self._target
        if operation == INFO:
            return self._describe()
        if operation == DIGEST:
            return target.source_bytes.to_bytes(4, "little") + self._digest(0, target.source_bytes).digest()
        if operation == BEGIN:
            target.begin(bytes(raw[1:]))
            return target.source_bytes.to_bytes(4, "little")
        elif operation == INDEX:
            return self._index(number_at(raw, 1, 2))
        elif operation == BLOCKS:
            first = number_at(raw, 1, 2)
            return b"".join([target.block_digest(first + i) for i in range(number_at(raw, 3, 2))])
        elif operation == BLOCK:
            target.write_block(number_at(raw, 1, 2), self._built(raw))
        elif operation == FINISH:
            target.finish()
        elif operation in (FILE_DIGEST, FILE_WRITE, FILE_COMMIT):
            return self._handle_file(operation, raw)
        elif operation not in (RESTART, QUIT):
            raise RefusedError("unknown request %d" % operation)
        return b""

    def _handle_file(self, operation, raw):
        if operation == FILE_DIGEST:
            return self._files.digest(_text(raw[1:]))
        if operation == FILE_COMMIT:
            self._files.commit(_text(raw[33:]), bytes(raw[1:33]))
        elif len(raw) < 6 or len(raw) < 6 + raw[5]:
            raise RefusedError("a part of a file that ends early")
        else:
            end = 6 + raw[5]
            self._files.write(_text(raw[6:end]), number_at(raw, 1, 4), raw[end:])
        return b""

    def _digest(self, offset, length):
        digest = sha256()
        end = offset + length
        while offset < end:
            part = self._block[: min(BLOCK_BYTES, end - offset)]
            self._target.read_source(offset, part)
            digest.update(part)
            offset += len(part)
        return digest

    def _index(self, first):
        """Return CRC-32 and four bytes of the SHA-256 of blocks of INDEX_BYTES of the present content."""
        entries = []
        count = self._target.source_bytes // INDEX_BYTES
        for i in range(first, min(first + INDEX_ENTRIES, count)):
            part = self._block[:INDEX_BYTES]
            self._target.read_source(i * INDEX_BYTES, part)
            entries.append(crc32(part).to_bytes(4, "little") + sha256(part).digest()[:4])
        return b"".join(entries)

    def _built(self, raw):
        """Return the block that a request describes: offset (u32, all ones: literal) and length (u16) of each part."""
        at = 3
        end = 0
        block = self._block
        while at < len(raw):
            offset = number_at(raw, at, 4)
            length = number_at(raw, at + 4, 2)
            at += 6
            if length > BLOCK_BYTES - end:
                raise RefusedError("a block of more than %d bytes" % BLOCK_BYTES)
            part = block[end : end + length]
            if offset == 0xFFFFFFFF:
                if at + length > len(raw):
                    raise RefusedError("a block that ends early")
                part[:] = raw[at : at + length]
                at += length
            elif offset + length > self._target.source_bytes:
                raise RefusedError("a copy from behind the present content")
            else:
                self._target.read_source(offset, part)
            end += length
        return block[:end]
