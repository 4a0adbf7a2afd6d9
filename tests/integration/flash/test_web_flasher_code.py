"""The JavaScript of the web flasher, in Chromium, against the Python code on random content."""

import base64
import hashlib
import random
import zlib

import pytest
from compat.inflate_stream import InflateStream
from patrolink.flash import copy_plan
from patrolink.flash.methods import serial_console
from patrolink.flash.serial_session import _WINDOW_BITS as WINDOW_BITS
from patrolink.flash.serial_session import BLOCK_BYTES, _frame
from patrolink_protocol import image_header

from tests.support.flash_images import write_signed_image
from tests.support.release_keys import TRUST
from tests.support.web_flasher import FlasherPage, ShimServer, running

TO_BYTES = "const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));"
TO_TEXT = "const text = data => btoa(String.fromCharCode(...data));"
HALF_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 >> 1  # of P-256 (FIPS 186-5)
SEED = random.SystemRandom().randrange(1 << 32)


@pytest.fixture
def seed():
    """A new seed in each run, printed if the test fails."""
    print(f"seed {SEED}")
    return SEED


@pytest.fixture
def page(browser, tmp_path):
    """The page with a valid image."""
    image = write_signed_image(tmp_path / "agent.plimg", b"content")
    with running(ShimServer(image.read_bytes(), TRUST.read_bytes())) as server:
        yield FlasherPage(browser, server.url)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def random_content(r: random.Random, size: int) -> bytes:
    """Return content that repeats itself in places, as firmware does."""
    content = b""
    while len(content) < size:
        kind = r.randrange(4)
        if kind == 0 or len(content) < 100:
            content += r.randbytes(r.randrange(1, 600))
        elif kind == 1:
            content += bytes([r.randrange(256)]) * r.randrange(1, 900)
        elif kind == 2:
            content += bytes(r.choices(b"etaoin shrdlu\0\1", k=r.randrange(1, 900)))
        else:
            start = max(0, len(content) - r.randrange(1, 5000))
            content += content[start : start + r.randrange(1, 700)]
    return content[:size]


def changed(r: random.Random, content: bytes) -> bytes:
    """Return content with parts moved, inserted, removed and replaced."""
    for _ in range(r.randrange(1, 6)):
        at, n = r.randrange(len(content)), r.randrange(1, 3000)
        content = r.choice(
            (
                content[:at] + r.randbytes(n) + content[at:],
                content[:at] + content[at + n :] + b"x",
                content[:at] + r.randbytes(n) + content[at + n :],
                content[at:] + content[:at],
            )
        )
    return content


def test_crc_and_frames_are_those_of_the_tool(page, seed):
    r = random.Random(seed)
    cases = [(r.randrange(1 << 16), r.randrange(1 << 16), r.randbytes(r.randrange(0, 4300))) for _ in range(30)]
    body = f"{TO_BYTES} {TO_TEXT} return a[0].map(([n, size, data]) => text(m.frame(n, size, bytes(data))));"
    frames = page.call("serial_session.js", body, [(n, size, encoded(data)) for n, size, data in cases])
    assert frames == [encoded(_frame(n, size, data)) for n, size, data in cases]
    body = f"{TO_BYTES} return a[0].map(([n, size, data]) => m.crc32(bytes(data), size));"
    crcs = page.call("crc32.js", body, [(n, size, encoded(data)) for n, size, data in cases])
    assert crcs == [zlib.crc32(data, size) for n, size, data in cases]


def answer(number: int, data: bytes, damage: int = 0) -> bytes:
    """Return an answer of a board; `damage` changes a byte of its data after the CRC-32."""
    body = b"A" + number.to_bytes(2, "little") + len(data).to_bytes(2, "little")
    data_on_line = bytes([data[0] ^ damage]) + data[1:]
    return b"\xa5" + body + zlib.crc32(data, zlib.crc32(body)).to_bytes(4, "little") + data_on_line


def test_damaged_and_late_answers_are_no_reply(page):
    """On the line are noise, a late answer, a damaged one with the number of the request, and the reply."""
    good = answer(0, b'{"board": "good"}')
    line = b"noise\xa5" + answer(0xFFFE, b'{"board": "late"}') + answer(0, b'{"board": "good"}', damage=1) + good
    body = f"""{TO_BYTES} let line = bytes(a[0]);
    const take = n => {{
      if (n > line.length) throw new Error("the line is empty");
      const data = line.slice(0, n);
      line = line.slice(n);
      return data;
    }};
    const readUntil = async (limitMs, end) => take(line.indexOf(end[0]) + 1);
    const link = {{ write: async () => {{}}, read: async n => take(n), readUntil }};
    return [await new m.SerialSession(link, 0).info(), line.length];"""
    assert page.call("serial_session.js", body, encoded(line)) == [{"board": "good"}, 0]


def test_program_is_that_of_the_tool(page):
    assert page.call("serial_method.js", "return m.PROGRAM;") == serial_console._PROGRAM


def test_deflated_parts_inflate_on_a_board_and_are_as_small_as_those_of_zlib(page, seed):
    """Each part can be inflated at once; the window is 4 KB."""
    r = random.Random(seed)
    sizes = [1, 2, 3, BLOCK_BYTES + 100, *(r.choice((r.randrange(1, 40), r.randrange(1, 4200))) for _ in range(60))]
    content = random_content(r, sum(sizes) - 4200) + r.randbytes(4200)  # incompressible at the end
    parts = [content[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
    body = f"{TO_BYTES} {TO_TEXT} const d = new m.Deflater(); return a[0].map(part => text(d.compress(bytes(part))));"
    deflated = [base64.b64decode(data) for data in page.call("deflate.js", body, list(map(encoded, parts)))]
    stream, zlib_stream, zlib_bytes = InflateStream(), zlib.compressobj(9, zlib.DEFLATED, -WINDOW_BITS), 0
    for part, data in zip(parts, deflated, strict=True):
        buffer = bytearray(len(part))
        stream.inflate(data, buffer)
        assert buffer == part and len(data) <= len(part) + 5
        zlib_bytes += len(zlib_stream.compress(part) + zlib_stream.flush(zlib.Z_SYNC_FLUSH))
    assert sum(map(len, deflated)) < 1.03 * zlib_bytes


def test_skewed_counts_do_not_exceed_the_longest_code(page):
    """Frequencies of Fibonacci's numbers give the longest codes that Huffman's algorithm can make."""
    counts = [1, 1]
    while sum(counts) + counts[-1] + counts[-2] < 60_000:
        counts.append(counts[-1] + counts[-2])
    letters = [bytes([65 + i]) * count for i, count in enumerate(counts)]
    content = bytes(random.Random(1).sample(list(b"".join(letters)), sum(counts)))
    body = f"{TO_BYTES} {TO_TEXT} return text(new m.Deflater().compress(bytes(a[0])));"
    data = base64.b64decode(page.call("deflate.js", body, encoded(content)))
    assert zlib.decompressobj(-WINDOW_BITS).decompress(data) == content and len(data) < 0.5 * len(content)


def test_copy_plans_are_those_of_the_tool(page, seed):
    r = random.Random(seed)
    body = f"""{TO_BYTES} const plans = [];
    for (const [content, index] of a[0]) plans.push(await m.blockParts(bytes(content), bytes(index), {BLOCK_BYTES}));
    return plans.map(blocks => blocks.map(parts => parts.map(p => [p.start, p.length, p.source])));"""
    cases = []
    for case in range(14):
        old = random_content(r, r.randrange(0, 20_000)) + bytes(2048)
        index = b"".join(
            zlib.crc32(block).to_bytes(4, "little") + hashlib.sha256(block).digest()[:4]
            for block in (old[at : at + 1024] for at in range(0, len(old) - 1023, 1024))
        )
        blocks = [old[at : at + 1024] for at in range(0, len(old), 1024)]
        shuffled, runs = b"".join(r.sample(blocks, len(blocks))), old + bytes(3000) + old
        new = (shuffled, runs)[case] if case < 2 else r.choice((changed(r, old), old + b"!", r.randbytes(50)))
        cases.append((new, index))
    plans = page.call("copy_plan.js", body, [[encoded(part) for part in case] for case in cases])
    for (content, index), plan in zip(cases, plans, strict=True):
        expected = copy_plan.block_parts(content, index, BLOCK_BYTES)
        assert plan == [[list(part) for part in block] for block in expected]
    assert any(source is not None for plan in plans for block in plan for _, _, source in block)


def test_headers_are_accepted_and_refused_as_by_the_tool(page, seed, tmp_path):
    r = random.Random(seed)
    valid = write_signed_image(tmp_path / "valid.plimg", b"content").read_bytes()[: image_header.HEADER_BYTES]
    cases = [valid, valid[:-1]]
    for at in range(len(valid)):
        for byte in (0, valid[at] ^ 1 << r.randrange(8), r.randrange(256)):
            cases.append(valid[:at] + bytes([byte]) + valid[at + 1 :])
    cases += [valid[:224] + (HALF_ORDER + more).to_bytes(32, "big") for more in (-1, 0, 1, 1 << 250)]
    body = f"""{TO_BYTES} return a[0].map(text => {{
      try {{
        const h = m.unpackHeader(bytes(text));
        const numbers = [h.kind, h.rollback, h.minimumPlatform, h.size, h.payloadSize];
        return [...numbers, h.board, h.architecture, h.version, h.keyId];
      }} catch {{ return null; }}
    }});"""
    accepted = 0
    for data, fields in zip(cases, page.call("image.js", body, list(map(encoded, cases))), strict=True):
        try:
            h = image_header.unpack(data)
        except image_header.ImageHeaderError:
            assert fields is None, data.hex()
        else:
            numbers = [h.kind, h.rollback, h.minimum_platform, h.size, h.payload_size]
            assert fields == [*numbers, h.board, h.architecture, h.version, h.key_id.hex()], data.hex()
            accepted += 1
    assert 100 < accepted < len(cases) - 100
