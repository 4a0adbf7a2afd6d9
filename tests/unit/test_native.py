"""The loops that are machine code on MicroPython say what their plain text says. On CPython both are plain."""

from array import array

from agent.gps import framer
from patrolink_protocol.native import plain
from seeded import seeded

SEED = 20260921


def text_of(module):
    """The same loops without machine code, as a port without an emitter runs them."""
    return plain(module.__file__)


def line(body):
    check = 0
    for byte in body:
        check ^= byte
    return b"$%s*%02X\r\n" % (bytes(body), check)


def sentences(below, n):
    """Sentences with fields of all kinds, right and wrong, and bytes of other protocols between them."""
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


def taken(loops, data, spec, sizes):
    """All that the loops say of the data, fed in pieces."""
    state = array("i", [0] * 10)
    text = bytearray(132)
    ends = bytearray(132)
    values = array("i", [0] * 20)
    used = bytearray(8)
    said = []
    at = 0
    while at < len(data):
        piece = bytearray(data[at : at + 1 + sizes(300)])
        at += len(piece)
        i = 0
        while True:
            i = loops.frame(piece, i, len(piece), state, text, ends, loops.SPECIAL)
            if i <= 0:
                said.append((i, list(state)))
                break
            n = loops.fields(text, ends, state[loops.COUNT], spec, len(spec), values)
            said.append((n, bytes(text[:40]), list(values), loops.satellites(values, n % 3, used, n % 5), bytes(used)))
    return said


def test_sentences_and_their_fields():
    for seed in range(SEED, SEED + 4):
        data = sentences(seeded(seed), 60)
        for spec in (b".tn.e.0023n.e.dct0", b".dt2.3c0123012301230", b".0000000000000000000"):
            ours = taken(framer.scan, data, spec, seeded(seed))
            assert ours == taken(text_of(framer.scan), data, spec, seeded(seed)), seed
            assert len(ours) > 60, seed
