"""Deltas on the device: random operations against a model, every kind of malformed operation, random corruption."""

import io
from binascii import unhexlify

from agent.update import delta
from compat.inflate import inflate
from compat.steps import run_to_completion
from seeded_random import seeded

SEED = 1914
COPY, ADD, INSERT, SEEK = range(4)
BASE = bytes([i * 7 & 255 for i in range(3000)])


class Base:
    """Content of a base in memory."""

    def __init__(self, data):
        self._data = data
        self.size = len(data)

    def read_into(self, offset, view):
        assert 0 <= offset and offset + len(view) <= self.size, (offset, len(view))
        view[:] = self._data[offset : offset + len(view)]


class PlainStream:
    """Operations that are not compressed; a read returns what is there."""

    def __init__(self, data):
        self._stream = io.BytesIO(data)

    def readinto(self, view):
        return self._stream.readinto(view)


def number(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def operation(kind, n, data=b""):
    return number(n << 2 | kind) + bytes(data)


def seek(distance):
    return operation(SEEK, distance << 1 if distance >= 0 else -distance << 1 | 1)


def apply(base, operations, size):
    """Return the new content and the lengths of the blocks."""
    blocks = []
    steps = delta.apply_delta(Base(base), operations, size, lambda view: blocks.append(bytes(view)))
    run_to_completion(steps)
    return b"".join(blocks), [len(block) for block in blocks]


def refusal(base, stream, size):
    """Return why the operations are refused, or None. Not more than `size` bytes are written in any case."""
    written = []
    try:
        run_to_completion(delta.apply_delta(Base(base), stream, size, lambda view: written.append(len(view))))
    except delta.DeltaError as e:
        assert sum(written) <= size
        return str(e)
    assert sum(written) == size
    return None


def random_bytes(below, n):
    return bytes([below(256) for _ in range(n)])


def random_delta(below, base):
    """Return operations and the content that they give."""
    operations = b""
    content = b""
    at = 0
    sought = True
    for _ in range(1 + below(12)):
        kind = below(3 if sought else 4)
        sought = kind == SEEK
        n = 1 + below(3) * below(700)
        if kind == SEEK:
            to = (0, len(base), below(len(base) + 1))[below(3)]
            operations += seek(to - at)
            at = to
        elif kind == INSERT or at == len(base):
            data = random_bytes(below, n)
            operations += operation(INSERT, n, data)
            content += data
        else:
            n = min(n, len(base) - at)
            data = random_bytes(below, n) if kind == ADD else bytes(n)
            operations += operation(kind, n, data if kind == ADD else b"")
            content += bytes([(a + b) & 255 for a, b in zip(base[at : at + n], data)])
            at += n
    if sought:  # a seek at the end is refused
        operations += operation(INSERT, 1, b"e")
        content += b"e"
    return operations, content


def test_random_operations_give_the_content_of_the_model():
    below = seeded(SEED)
    for i in range(60):
        base = random_bytes(below, below(3) * below(900))
        operations, content = random_delta(below, base)
        result, blocks = apply(base, PlainStream(operations), len(content))
        context = "seed %d, delta %d" % (SEED, i)
        assert result == content, context
        assert all([n == delta.BLOCK_BYTES for n in blocks[:-1]]) and 0 < blocks[-1] <= delta.BLOCK_BYTES, context


def test_malformed_operations_are_refused():
    copy = operation(COPY, 10)
    for operations, size, reason in (
        (b"", 1, "end before"),
        (operation(COPY, 9), 10, "end before"),
        (operation(COPY, 11), 10, "11 bytes of new content where 10 are left"),
        (operation(COPY, 3001), 4000, "3001 bytes from 0 of a base of 3000"),
        (operation(ADD, 3001, bytes(3001)), 4000, "3001 bytes from 0"),
        (seek(2999) + operation(COPY, 2), 2, "2 bytes from 2999"),
        (seek(-1) + copy, 10, "seek to -1"),
        (seek(3001) + copy, 10, "seek to 3001"),
        (seek(1) + seek(1) + copy, 10, "seek"),
        (operation(COPY, 0) + copy, 10, "0 bytes"),
        (operation(INSERT, 10, bytes(9)), 10, "end before"),
        (operation(ADD, 10, bytes(9)), 10, "end before"),
        (copy + b"\0", 10, "after the end"),
        (copy + seek(1), 10, "after the end"),
        (b"\x80", 10, "end before"),
        (b"\x80" * 5 + b"\1", 10, "more than 5 bytes"),
        (b"\xff" * 9, 10, "more than 5 bytes"),
        (b"\xff\xff\xff\xff\x7f", 10, "seek"),
        (b"\xfc\xff\xff\xff\x7f", 10, "where 10 are left"),
    ):
        answer = refusal(BASE, PlainStream(operations), size)
        assert answer and reason in answer, (operations, answer)
    assert refusal(BASE, PlainStream(seek(3000) + operation(INSERT, 1, b"1")), 1) is None
    assert refusal(BASE, PlainStream(copy), 10) is None


def test_truncated_operations_are_refused():
    below = seeded(SEED)
    for _ in range(8):
        base = random_bytes(below, 400)
        operations, content = random_delta(below, base)
        for n in range(0, len(operations), 1 + len(operations) // 97):
            assert refusal(base, PlainStream(operations[:n]), len(content)), (SEED, n)


def test_corrupted_operations_never_do_more_than_they_may():
    """They are refused or give content of the right size; the caller compares its hash."""
    below = seeded(SEED + 1)
    refused = 0
    for _ in range(400):
        base = random_bytes(below, 1 + below(300))
        operations, content = random_delta(below, base)
        operations = bytearray(operations)
        for _ in range(1 + below(3)):
            operations[below(len(operations))] = (0, 255, 128, below(256))[below(4)]
        size = max(1, len(content) + (0, 0, 1, -1)[below(4)])
        refused += refusal(base, PlainStream(operations), size) is not None
    assert 100 < refused < 400, refused


# Raw deflate with a window of 1 KB, made by zlib.compressobj(9, zlib.DEFLATED, -10): the operations
# copy 1000, add 4 x 1, insert "patrolink", seek -500, copy 600.
COMPRESSED = unhexlify("5b202fc808046a05892545f9399979d9cbe51f080100")


def compressed_case():
    content = BASE[:1000] + bytes([(b + 1) & 255 for b in BASE[1000:1004]]) + b"patrolink" + BASE[504:1104]
    operations = operation(COPY, 1000) + operation(ADD, 4, b"\1\1\1\1") + operation(INSERT, 9, b"patrolink")
    return operations + seek(-500) + operation(COPY, 600), content


def test_compressed_operations():
    _, content = compressed_case()
    assert apply(BASE, inflate(io.BytesIO(COMPRESSED)), len(content))[0] == content


def test_damaged_compression_is_refused():
    """A delta is refused, or the content has the right size, when any byte is altered or data end early."""
    _, content = compressed_case()
    below = seeded(SEED)
    cases = [COMPRESSED[:n] for n in range(len(COMPRESSED))]
    for at in range(len(COMPRESSED)):
        for value in [COMPRESSED[at] ^ 1 << bit for bit in range(8)] + [below(256)]:
            cases.append(COMPRESSED[:at] + bytes([value]) + COMPRESSED[at + 1 :])
    refused = [refusal(BASE, inflate(io.BytesIO(data)), len(content)) is not None for data in cases]
    assert all(refused[: len(COMPRESSED)])
    assert sum(refused) > len(cases) // 2
