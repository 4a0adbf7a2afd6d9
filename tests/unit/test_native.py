"""Loops that are machine code on MicroPython give the same results as their source when interpreted.

On CPython some have a replacement, for which the same holds.
"""

import gc
from array import array

from agent.audio import samples
from agent.gps import framer
from patrolink_protocol import cipher_kernels, track_encoder
from patrolink_protocol.native_fallback import load_interpreted
from seeded_random import seeded

SEED = 20260921


def load_loops(module):
    """Return the loops of the module in interpreted form, as on a port without the native code emitter."""
    try:
        loops = load_interpreted(module.__file__)
    except (AttributeError, OSError):  # frozen into firmware: the source is in the folder of this test
        loops = load_interpreted(module.__name__.split(".")[-1] + ".py")
    gc.collect()  # what compiling leaves would divide a board's heap into small blocks
    return loops


def line(body):
    check = 0
    for byte in body:
        check ^= byte
    return b"$%s*%02X\r\n" % (bytes(body), check)


def sentences(below, n):
    """Return sentences with valid and invalid fields of all kinds, and bytes of other protocols between them."""
    out = bytearray()
    for _ in range(n):
        body = bytearray(b"GNRMC")
        for _ in range(below(20)):
            body += b","
            for _ in range(below(14)):
                body.append(b"0123456789012345678901234567890123456789..-+ANSEW*"[below(50)])
        out += line(body)
        if below(8) == 0:
            for _ in range(below(200)):
                out.append(below(256))
    return out


def parse(loops, data, spec, sizes):
    """Return all results of the loops for the data, fed in pieces."""
    state = array("i", [0] * 10)
    text = bytearray(132)
    ends = bytearray(132)
    values = array("i", [0] * 20)
    results = []
    at = 0
    while at < len(data):
        piece = bytearray(data[at : at + 1 + sizes(300)])
        at += len(piece)
        i = 0
        while True:
            i = loops.frame(piece, i, len(piece), state, text, ends, loops.SPECIAL)
            if i <= 0:
                results.append((i, list(state)))
                break
            n = loops.fields(text, ends, state[loops.COUNT], spec, len(spec), values)
            results.append((n, bytes(text[:40]), list(values), loops.systems(values, n % 3)))
    return results


def test_native_parsing_of_sentences_equals_interpreted():
    interpreted = load_loops(framer.scan)  # before the data: it needs a large block of a board's heap
    for seed in range(SEED, SEED + 4):
        data = sentences(seeded(seed), 60)
        for spec in (b".tn.e.0023n.e.dct0", b".dt2.3mn.e.301230123", b".0000000000000000000"):
            native = parse(framer.scan, data, spec, seeded(seed))
            assert native == parse(interpreted, data, spec, seeded(seed)), seed
            assert len(native) > 60, seed


def alter_samples(loops, below):
    """Return the results of the loops for random samples."""
    n = 1 + below(80)
    pcm = bytearray([below(256) for _ in range(2 * n)])
    pcm[:2] = (b"\0\x80", b"\xff\x7f", b"\xff\xff")[below(3)]
    results = [loops.fade(pcm, n, (256, 256, below(256))[below(3)]), bytes(pcm)]
    at = below(n)
    to = below(n)
    part = below(n)
    out = bytearray(3 * n)
    loops.copy(pcm, at, out, to, part)
    loops.copy(out, to, out, to + below(3), n)  # within a buffer
    return results + [bytes(out)]


def test_native_samples_equal_interpreted():
    interpreted = load_loops(samples)
    for seed in range(SEED, SEED + 50):
        assert alter_samples(samples, seeded(seed)) == alter_samples(interpreted, seeded(seed)), seed


def encode(loops, below):
    """Return the results of the loops for a column of random differences, small and large."""
    n = 2 + below(60)
    bits = below(31)
    modulus = (0, 0, 181)[below(3)]
    unit = (1, 10, 1000)[below(3)]
    value = 1 << 30
    values = array("I", [0] * n)
    for i in range(n):
        if below(3):
            step = (below(1 << 22) - (1 << 21) << 9) >> 30 - bits
            value = max(0, min((1 << 31) - 1, value + step))
        values[i] = value // unit * unit
    codes = array("I", [0] * n)
    measured = array("I", [0] * 4)
    results = [
        loops.tick(values, n, below(2)),
        loops.known(values, n),
        loops.first_differences(values, codes, n, unit, modulus),
    ]
    for order in (1, 2):
        if results[2] < 0:
            break
        if order == 2:
            loops.second_differences(codes, n, modulus)
        loops.measure(codes, order, n, measured)
        total = min((measured[2] << 16) + measured[1], 1 << 28)
        k = loops.rice_parameter(n, total)
        results += [list(codes), list(measured), k]
        for coding in (
            loops.FIXED << 6 | loops.width(measured[0]),
            loops.RICE << 6 | k,
            loops.RICE << 6 | 13 + below(3),
        ):
            writer = array("I", [0, below(8), 3])
            buf = bytearray(5000 if below(4) else below(100))
            whole = loops.put(codes, order, n, coding, writer, buf, len(buf))
            results.append((whole, list(writer), bytes(buf)))
    return results


def test_native_coding_of_differences_equals_interpreted():
    interpreted = load_loops(track_encoder.kernels)
    too_large = 0
    for seed in range(SEED, SEED + 200):
        native = encode(track_encoder.kernels, seeded(seed))
        assert native == encode(interpreted, seeded(seed)), seed
        too_large += native[2] < 0
    assert 0 < too_large < 100


def store(loops, below):
    """Return the values stored for random rows, in range and out of range."""
    limits = []
    low = high = 0
    for _ in range(9):
        low = -below(1 << 30) if below(2) else below(100)
        high = below((1 << 31) - 1)
        limits += [max(low, 0), max(-low, 0), high, 1 + below(1000), 0, below(2), 1 + max(-low, 0)]
    values = tuple([array("I", [0] * 20) for _ in range(9)])
    results = []
    for at in range(20):
        row = [(below(1 << 20) - (1 << 19)) * (1 << below(11)) for _ in range(9)]
        results.append(loops.quantize(row, array("I", limits), values, at))
    return results, [list(v) for v in values]


def test_native_quantizing_of_rows_equals_interpreted():
    for seed in range(SEED, SEED + 50):
        assert store(track_encoder.kernels, seeded(seed)) == store(load_loops(track_encoder.kernels), seeded(seed)), (
            seed
        )


def combine(loops, below):
    """Return the results of the loops for a random header and body."""
    blocks = bytearray(16 * 20)
    header = bytes([below(256) for _ in range(5 + below(20))])
    loops.fill_counter_blocks(blocks, below(20), header, below(1 << 12))
    body = bytearray([below(256) for _ in range(320)])
    start = below(100)
    n = below(320 - start)
    loops.xor_into(body, start, n, blocks, below(320 - n))
    return bytes(blocks), bytes(body)


def test_native_combination_with_the_key_stream_equals_interpreted():
    interpreted = load_loops(cipher_kernels)
    for seed in range(SEED, SEED + 50):
        assert combine(cipher_kernels, seeded(seed)) == combine(interpreted, seeded(seed)), seed
