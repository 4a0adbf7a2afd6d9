"""The host's session with the serial receiver, over lines that lose, flip and repeat bytes; no clock is involved."""

import hashlib
import random
import zlib

import greenlet
import pytest
from agent.update.provisioned_files import ProvisionedFiles
from agent.update.serial_receiver import SerialReceiver
from compat.inflate_stream import InflateStream
from hypothesis import strategies as st
from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.flash import copy_plan
from patrolink.flash.copy_plan import INDEX_BYTES, block_parts, parts
from patrolink.flash.records import RefusedError
from patrolink.flash.serial_session import BLOCK_BYTES, SerialSession, _frame

from tests.support.properties import untimed
from tests.unit.memory_storage import MemoryFiles
from tests.unit.test_serial_receiver import INFO, Target

WORDS = b"".join(i.to_bytes(2, "big") + b"word" for i in range(9000))
OLD = random.Random(1).randbytes(3000) + WORDS[:20000]


class BoardTarget(Target):
    """A board that puts its new content into service."""

    def finish(self) -> None:
        super().finish()
        self.old = b"".join(self.blocks[i] for i in range(len(self.blocks)))


class Board:
    """A receiver that runs whenever the host waits: `read` fails at once if nothing more can come.

    Args:
        target: Content of the board.
        damage: Called with bytes on the line; returns what arrives.
        files: Its files.
    """

    port = "line"

    def __init__(self, target: Target, damage=lambda data: data, files: MemoryFiles | None = None) -> None:
        self._damage = damage
        self._to_board = self._to_host = b""
        self._host = greenlet.getcurrent()
        self.sent = 0
        receiver = SerialReceiver(
            self._readinto, self._write, InflateStream, target, lambda: INFO, ProvisionedFiles(files or MemoryFiles())
        )
        self._board = greenlet.greenlet(receiver.run)

    def now_s(self) -> float:
        return 0.0

    def _readinto(self, buffer) -> None:
        while len(self._to_board) < len(buffer):
            self._host.switch()
        buffer[:], self._to_board = self._to_board[: len(buffer)], self._to_board[len(buffer) :]

    def _write(self, data: bytes) -> None:
        self._to_host += self._damage(data)

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self._to_board += self._damage(data)

    def _arrived(self) -> bytes:
        if not self._board.dead:
            self._board.switch()
        return self._to_host

    def read(self, length: int, limit_s: float) -> bytes:
        if len(self._arrived()) < length:
            raise DeadlineError("no answer")
        data, self._to_host = self._to_host[:length], self._to_host[length:]
        return data

    def read_until(self, end: bytes, limit_s: float) -> bytes:
        if end not in self._arrived():
            raise DeadlineError("no answer")
        data, _, self._to_host = self._to_host.partition(end)
        return data + end


def send(session: SerialSession, content: bytes) -> None:
    """Send a content as the method `serial` does."""
    size = session.begin(b"P" * 256)
    blocks = block_parts(content, session.index(size), BLOCK_BYTES)
    for number, block in enumerate(blocks):
        session.write_block(number, content, block)
    session.finish()
    assert session.digest() == (len(content), hashlib.sha256(content).digest())


def opened(board: Board) -> SerialSession:
    session = SerialSession(board, 0xFFFE)  # the numbers wrap
    session.open(1)
    return session


def test_session_sends_only_what_changed():
    target = BoardTarget()
    first = Board(target)
    send(opened(first), OLD)
    second = Board(target)
    new = b"inserted" + OLD[:9000] + b"changed" + OLD[9100:]
    send(opened(second), new)
    assert target.old == new and second.sent < 0.2 * first.sent


class Damage:
    """Loses, flips, repeats or inserts bytes, each with a small probability."""

    def __init__(self, seed: int, one_in: int) -> None:
        self._random, self._one_in = random.Random(seed), one_in

    def __call__(self, data: bytes) -> bytes:
        r = self._random
        if r.randrange(self._one_in):
            return data
        at, kind = r.randrange(len(data)), r.randrange(4)
        if kind == 0:
            return data[:at] + data[at + r.randrange(1, 40) :]
        if kind == 1:
            return data[:at] + bytes([data[at] ^ 1 << r.randrange(8)]) + data[at + 1 :]
        return data[:at] + (data[at : at + 9] * 2 if kind == 2 else b"\xa5A") + data[at:]


@untimed(st.integers(0, 1 << 32))
def test_damaged_lines_never_give_wrong_content(seed):
    """A session either ends with an error, or the board holds exactly the content."""
    target = BoardTarget(OLD[:7000])
    try:
        send(opened(Board(target, Damage(seed, 12))), OLD[:9000] + OLD[500:3000])
    except (DeadlineError, DeviceError):
        return
    assert target.old == OLD[:9000] + OLD[500:3000]


def test_most_damage_is_repaired():
    repaired = 0
    for seed in range(40):
        target = BoardTarget()
        try:
            send(opened(Board(target, Damage(seed, 25))), OLD[:9000])
            repaired += target.old == OLD[:9000]
        except (DeadlineError, DeviceError):
            pass
    assert repaired >= 38, repaired


def test_a_new_session_ends_one_that_broke():
    target = BoardTarget()
    board = Board(target)
    session = opened(board)
    session.begin(b"P" * 256)
    session.write_block(0, OLD, block_parts(OLD, b"", BLOCK_BYTES)[0])
    board.write(b"\xa5\x09\x00\x00\x10\x00\x10")  # the cable is pulled in the middle of a frame
    second = SerialSession(board, 70)
    second.open(1)
    send(second, OLD[:6000])
    assert target.old == OLD[:6000]


def test_late_answer_to_the_start_of_a_session_is_no_reply():
    board = Board(BoardTarget(OLD))
    session = opened(board)
    board.write(_frame(0xFFFE, 0, b""))  # the start that was sent again because its answer was late
    assert session.begin(b"P" * 256) == len(OLD)


def test_refusal_is_no_failure_of_the_line():
    session = opened(Board(BoardTarget()))
    with pytest.raises(RefusedError, match="line: the board refuses the image: wrong board; the board is unchanged"):
        session.begin(b"Q" * 256)
    assert session.info() == {"board": "b"}


@pytest.mark.parametrize("request_of", [lambda s: s.digest(), lambda s: s.index(9000), lambda s: s.written_digests(2)])
def test_reply_of_another_length_is_an_error_of_the_board(request_of, monkeypatch):
    session = opened(Board(BoardTarget()))
    monkeypatch.setattr(session, "_exchange", lambda *args: (b"A", b"short"))
    with pytest.raises(DeviceError, match="5 bytes of reply to request"):
        request_of(session)


def test_silent_line_is_a_timeout():
    with pytest.raises(DeadlineError):
        opened(Board(BoardTarget(), lambda data: b""))


def index_of(content: bytes) -> bytes:
    """Return the index that a board with this content lists."""
    blocks = [content[at : at + INDEX_BYTES] for at in range(0, len(content) - INDEX_BYTES + 1, INDEX_BYTES)]
    return b"".join(zlib.crc32(b).to_bytes(4, "little") + hashlib.sha256(b).digest()[:4] for b in blocks)


@untimed(st.lists(st.tuples(st.integers(0, 20000), st.integers(1, 4000), st.booleans()), max_size=8))
def test_parts_build_the_content(edits):
    """Whatever was cut out and put in: the parts, applied to the old content, give the new one."""
    new = OLD
    for at, length, insert in edits:
        new = new[:at] + (random.Random(at).randbytes(length) if insert else b"") + new[at + length :]
    built = b""
    for start, length, source in parts(new, index_of(OLD)):
        assert start == len(built)
        built += new[start : start + length] if source is None else OLD[source : source + length]
    assert built == new
    blocks = block_parts(new, index_of(OLD), BLOCK_BYTES)
    assert [sum(part.length for part in block) for block in blocks] == [
        min(BLOCK_BYTES, len(new) - at) for at in range(0, len(new), BLOCK_BYTES)
    ]


def test_moved_blocks_are_found_at_any_offset():
    shifted = b"x" * 317 + OLD
    literal = sum(part.length for part in parts(shifted, index_of(OLD)) if part.source is None)
    assert literal < 317 + INDEX_BYTES


def test_crc_without_its_digest_is_no_match(monkeypatch):
    entry = bytearray(index_of(OLD)[:8])
    entry[7] ^= 1
    assert [part.source for part in copy_plan.parts(OLD[:2000], bytes(entry))] == [None]
