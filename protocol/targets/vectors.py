"""schema → vectors/*.json: frames with what they decode to, or the reason for which they have to be refused.

The codec of patrolink_protocol makes and checks them; the C codec and other implementations are then held to them.
"""

import json
import random
import struct
from typing import Any

import patrolink_messages as m
from patrolink_protocol import codec, decode, frame, tail, track, trackdecode

from .model import TEXTS, Field, Message, Schema, SchemaError

KEY = bytes(range(32))
DEVICE = "vector-1"
U = track.UNKNOWN
Vector = dict[str, Any]
COLUMNS = ("time_ms", "lat", "lon", "state", "alt", "speed", "course", "hacc", "sats", "battery")


class BitWriter:
    """Bits as a string of 0 and 1: slow, plain, and apart from the codec that it tests."""

    def __init__(self) -> None:
        self.bits = ""

    def put(self, value: int, n: int) -> "BitWriter":
        self.bits += format(value & ((1 << n) - 1), f"0{n}b") if n else ""
        return self

    def eg(self, value: int, k: int) -> "BitWriter":
        n = (value + (1 << k)).bit_length()
        return self.put(0, n - k - 1).put(value + (1 << k), n)

    def body(self) -> bytes:
        text = self.bits + "0" * (-len(self.bits) % 8)
        return int("1" + text, 2).to_bytes(len(text) // 8 + 1, "big")[1:]


def seal(kind: int, body: bytes, counter: int = 1, direction: int = 0, epoch: int = 0, **over: Any) -> bytes:
    """Return a genuine frame; `over`: extensions, flags or version of a device that does it wrong."""
    buf = bytearray(4096)
    end = frame.HEADER + len(body)
    buf[frame.HEADER : end] = body
    if "extensions" in over:
        end = tail.write_into(buf, end, over["extensions"])
    channel = frame.Channel(KEY, DEVICE.encode(), direction, epoch)
    n = channel.seal_into(buf, kind, counter, end, "extensions" in over or over.get("tail", False))
    data = bytearray(buf[:n])
    if "flags" in over or "version" in over or "counter_flags" in over:
        data[1] |= over.get("flags", 0) << 4
        data[0] = (over.get("version", m.VERSION) << 5) | kind
        size = frame.tag_bytes(kind)
        pads = channel.pads  # a device with the key can put a right tag under anything
        data[-size:] = frame.mac(pads, channel.context, bytes(data[:-size]))[:size]
    return bytes(data)


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """A decoded message as JSON: bytes as hex digits, a batch as rows of integers."""
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in message.items()}


class Builder:
    """Collects vectors and holds each one to the codec."""

    def __init__(self) -> None:
        self.vectors: list[Vector] = []

    def add(
        self, name: str, req: str | list[str], about: str, data: bytes, reject: str | None = None, **at: Any
    ) -> None:
        direction, epoch = at.get("direction", 0), at.get("epoch", 0)
        vector: Vector = {
            "id": name,
            "req": [req] if isinstance(req, str) else req,
            "about": about,
            "key": KEY.hex(),
            "device": DEVICE,
            "direction": direction,
            "epoch": epoch,
            "frame": data.hex(),
        }
        got = run(data, direction, epoch)
        if got.get("reject") != reject:
            raise SchemaError(f"vector {name}: the codec says {got}, not {reject}")
        self.vectors.append({**vector, **got})

    def body(
        self, name: str, req: str | list[str], about: str, kind: int, body: bytes, reject: str | None = None
    ) -> None:
        direction = 0 if m.UP >> kind & 1 else 1
        self.add(name, req, about, seal(kind, body, direction=direction), reject, direction=direction)


def run(data: bytes, direction: int = 0, epoch: int = 0, key: bytes = KEY, device: str = DEVICE) -> dict[str, Any]:
    """Return what a receiver makes of a frame: {"reject"} or {"type", "counter", "extensions", "message"}."""
    try:
        kind, counter, body, extensions = frame.Channel(key, device.encode(), direction, epoch).open_frame(data)
        if kind == m.POSITION_BATCH:
            resolution, columns = trackdecode.decode(body)
            rows = [
                [None if v == U else v for v in row]
                for row in zip(*(columns["time" if c == "time_ms" else c] for c in COLUMNS), strict=True)
            ]
            message: dict[str, Any] = {"message": "position_batch", "resolution": resolution, "rows": rows}
        else:
            message = plain(decode.decode(kind, body))
    except frame.Reject as e:
        return {"reject": e.name}
    return {
        "type": kind,
        "counter": counter,
        "extensions": [[kind, value.hex()] for kind, _, value in extensions],
        "message": message,
    }


# --- scalar messages ----------------------------------------------------------------------------------------------


def _value(f: Field, which: str, rnd: random.Random) -> Any:
    if f.type in TEXTS:
        n = {"low": f.low, "high": f.high}.get(which, rnd.randint(f.low, f.high))
        if f.type == "bytes":
            return rnd.randbytes(n)
        return (("é" * (n // 2)) + "x" * (n % 2)).encode() if which == "high" else ("patrol " * 40)[:n].encode()
    if which == "unknown" and f.unknown is not None:
        return None
    return {"low": f.low, "high": f.high}.get(which, rnd.randint(f.low, f.high))


def _encoded(message: Message, values: dict[str, Any]) -> bytes:
    buf = bytearray(2048)
    return bytes(buf[: codec.encode_into(message.type, values, buf, 0)])


def _wire(f: Field, value: int) -> bytes:
    return (value & ((1 << 8 * f.size) - 1)).to_bytes(f.size, "big")


def _scalar(build: Builder, message: Message) -> None:
    rnd = random.Random(message.type)
    name, req, kind = message.name, message.req, message.type
    fields = message.fields or ()
    for which in ("low", "high", "unknown", "some"):
        if which == "unknown" and all(f.unknown is None for f in fields):
            continue
        values = {f.name: _value(f, which, rnd) for f in fields}
        build.body(f"{name}-{which}", req, f"every field: {which}", kind, _encoded(message, values))
    some = {f.name: _value(f, "some", rnd) for f in fields}
    good = _encoded(message, some)
    build.body(f"{name}-later", [req, "BODY-4"], "three bytes of a later minor version", kind, good + b"\x01\x02\x03")
    build.body(f"{name}-short", [req, "BODY-1"], "the last byte is missing", kind, good[:-1], "length")
    build.body(f"{name}-empty", [req, "BODY-1"], "no body at all", kind, b"", "length")
    at = 0
    for f in fields:
        size = f.size or 1 + len(some[f.name])
        before, after = good[:at], good[at + size :]
        at += size
        if f.type in TEXTS:
            wrong = [bytes([f.high + 1]) + bytes(f.high + 1)] if f.high < 255 else []
            if f.low:
                wrong.append(bytes([f.low - 1]) + bytes(f.low - 1))
            build.body(
                f"{name}-{f.name}-cut",
                [req, "BODY-1"],
                f"{f.name} says more bytes than there are",
                kind,
                before + b"\xff",
                "length",
            )
            if f.type == "str":
                latin = before + b"\x02\xc3\x28" + after
                build.body(f"{name}-{f.name}-utf8", [req, "BODY-3"], f"{f.name} is not UTF-8", kind, latin, "range")
        else:
            wide = range(-(1 << 8 * f.size - 1), 1 << 8 * f.size - 1) if f.type[0] == "i" else range(1 << 8 * f.size)
            wrong = [_wire(f, v) for v in (f.low - 1, f.high + 1) if v in wide and v != f.unknown]
        for i, raw in enumerate(wrong):
            text = f"{f.name} {'below' if i == 0 and len(wrong) > 1 else 'outside'} its range"
            build.body(f"{name}-{f.name}-range-{i}", [req, "BODY-2"], text, kind, before + raw + after, "range")


# --- frames -------------------------------------------------------------------------------------------------------


def _frames(build: Builder) -> None:
    body = _time_sync()
    good = seal(m.TIME_SYNC, body, 7)
    build.add("frame-plain", ["FRAME-6", "KEY-1"], "8 bytes of tag", good)
    build.add("frame-top-counter", "FRAME-1", "the highest counter", seal(m.TIME_SYNC, body, frame.COUNTER_MAX))
    for n in (0, 4, frame.HEADER + m.TAG_BYTES - 1):
        build.add(f"frame-{n}-bytes", "FRAME-1", "too short for header and tag", good[:n], "length")
    build.add(
        "frame-too-long", "FRAME-1", "one byte over the limit", good + bytes(m.MAX_FRAME + 1 - len(good)), "length"
    )
    short = seal(m.TEXT_STATE, b"", 1)[:1] + bytes(12)
    build.add("frame-empty-body", ["FRAME-3"], "13 bytes: long enough, but not genuine", short, "tag")
    command = bytes([m.VERSION << 5 | m.COMMAND]) + bytes(19)
    build.add(
        "frame-long-tag-short",
        ["FRAME-1", "FRAME-6"],
        "20 bytes are too few for 16 of tag",
        command,
        "length",
        direction=1,
    )
    for version in (0, 2, 7):
        data = seal(m.TIME_SYNC, body, 7, version=version)
        build.add(f"frame-version-{version}", "FRAME-2", "genuine, but another major version", data, "version")
        build.add(
            f"frame-version-{version}-noise", "FRAME-2", "the same with noise behind", data[:1] + bytes(40), "version"
        )
    for bit in (0, 9, 39, 8 * 20, 8 * len(good) - 1):
        bad = bytearray(good)
        bad[bit // 8] ^= 0x80 >> bit % 8
        reject = "version" if bit < 3 else "tag"
        build.add(f"frame-flip-{bit}", "FRAME-3", f"bit {bit} flipped", bytes(bad), reject)
    build.add("frame-cut", "FRAME-3", "the last byte is missing", good[:-1], "tag")
    for flags in (1, 2, 3):
        build.add(
            f"frame-flags-{flags}",
            "FRAME-4",
            "a reserved flag, genuine",
            seal(m.TIME_SYNC, body, 7, flags=flags),
            "critical",
        )
    build.add(
        "frame-phase",
        ["FRAME-4", "KEY-2"],
        "phase flag under a key of the other phase",
        seal(m.TIME_SYNC, body, 7, flags=4),
        "critical",
    )
    for kind in (0, 21, 31):
        build.add(
            f"frame-type-{kind}",
            ["FRAME-5", "FRAME-6"],
            "an unknown type, genuine, 8 bytes of tag",
            seal(kind, b"body"),
            "type",
        )
    build.add("frame-command-up", "FRAME-5", "a command never goes up", seal(m.COMMAND, b""), "type")
    build.add(
        "frame-hello-down", "FRAME-5", "a hello never goes down", seal(m.HELLO, b"", direction=1), "type", direction=1
    )
    build.add("key-direction", "KEY-1", "an uplink frame turned round", good, "tag", direction=1)
    build.add("key-other-epoch", "KEY-1", "a frame of epoch 0 under the key of epoch 2", good, "tag", epoch=2)
    build.add("key-epoch-1", "KEY-2", "epoch 1: the phase flag is set", seal(m.TIME_SYNC, body, 0, epoch=1), epoch=1)
    build.add(
        "key-epoch-4294967295",
        "KEY-2",
        "the last epoch",
        seal(m.TIME_SYNC, body, 3, epoch=0xFFFFFFFF),
        epoch=0xFFFFFFFF,
    )
    tails: list[tuple[str, str, str, list[tuple[int, int, bytes]], str | None]] = [
        ("empty", "TAIL-1", "a tail of no extension", [], None),
        ("trace", "TAIL-1", "a known one", [(1, 0, b"r-1")], None),
        ("elective", "TAIL-1", "unknown elective ones are passed over", [(63, 0, b""), (127, 0, bytes(9))], None),
        ("longest", "TAIL-1", "255 bytes of tail", [(64, 0, bytes(253))], None),
        ("critical", "TAIL-2", "an unknown critical one", [(2, 1, b"x")], "critical"),
        ("critical-last", "TAIL-2", "a critical one behind an elective one", [(1, 0, b"x"), (64, 1, b"")], "critical"),
    ]
    for name, req, about, extensions, why in tails:
        build.add(f"tail-{name}", req, about, seal(m.TIME_SYNC, body, 7, extensions=extensions), why)
    for name, raw in (
        ("none", b""),
        ("past-start", body + b"\xff"),
        ("cut-value", body + b"\x01\x03ab\x04"),
        ("half", body + b"\x01\x01"),
    ):
        build.add(
            f"tail-{name}", "TAIL-3", "lengths that do not add up", seal(m.TIME_SYNC, raw, 7, tail=True), "length"
        )


def _time_sync() -> bytes:
    return struct.pack(">QQQ", 1700000000123, 0, 0)


# --- batches ------------------------------------------------------------------------------------------------------


def walk(n: int, seed: int, **change: Any) -> list[list[int]]:
    """Rows of [time_ms, lat, lon, state, alt, speed, course, hacc, sats, battery], seeded."""
    rnd = random.Random(seed)
    t, lat, lon, alt, course = 1700000000000, 311234567, 1211234567, 12000, 35000
    rows = []
    for i in range(n):
        t += change.get("step_ms", 1000)
        lat += 90 + rnd.randint(-30, 30)
        lon += 120 + rnd.randint(-30, 30)
        alt += rnd.choice((-500, 0, 0, 0, 500))
        course = (course + rnd.randint(-900, 1200)) % 36000
        rows.append([t, lat, lon, 3, alt, 1440 + rnd.randint(-90, 90), course, 4000 + i * 20, 9 + i // 20, 80])
    return rows


def batch(rows: list[list[int]], resolution: int = 6, rice: bool = True, omit: tuple[str, ...] = ()) -> bytes:
    """Return the body that the codec's own encoder makes of rows."""
    encoder = track.TrackEncoder(len(rows), resolution, rice, omit)
    for t, *row in rows:
        encoder.add(t // 86400000, t % 86400000, row)
    buf = bytearray(8192)
    return bytes(buf[: encoder.encode_into(buf, 0, len(rows))])


def _start(n: int, present: int = 0, r: int = 1) -> BitWriter:
    """Header of a hand-made batch with no optional column."""
    return BitWriter().eg(n - 1, 0).put(r, 2).put(0, 2).put(present, 7).put(1700000000, 32)


def _simple(bits: BitWriter, n: int, until: str = "") -> BitWriter:
    """Columns of a hand-made batch that does not move: time, lat, lon, state."""
    for name, value, width in (("time", 0, 0), ("lat", 31123456, 28), ("lon", 121123456, 29)):
        if name == until:
            return bits
        bits.put(value, width)
        if n > 1:
            bits.put(4, 3).eg(2, 0) if name == "time" else bits.put(0, 3)
    bits.eg(3, 4)
    if n > 1:
        bits.put(0, 3)
    return bits


def _zigzag(v: int) -> int:
    return v << 1 if v >= 0 else (-v << 1) - 1


def _lat(n: int, coding: BitWriter) -> bytes:
    """A batch whose latitude is coded by hand; all else stands still."""
    bits = _simple(_start(n), n, "lat").put(31123456, 28)
    bits.bits += coding.bits
    bits.put(121123456, 29).put(0, 3).eg(3, 4).put(0, 3)
    return bits.body()


def _batches(build: Builder) -> None:
    kind = m.POSITION_BATCH

    def add(name: str, req: str | list[str], about: str, body: bytes, reject: str | None = None) -> None:
        build.body(f"batch-{name}", req, about, kind, body, reject)

    for r in (5, 6, 7):
        for n in (1, 2, 3, 60):
            for rice in (False, True):
                reqs = ["BATCH-1", "BATCH-5" if rice else "BATCH-4"]
                add(f"walk-{n}-r{r}-{'rice' if rice else 'fixed'}", reqs, "a walk", batch(walk(n, n), r, rice))
    for step in (100, 200, 1300, 5000, 37, 10):
        add(f"every-{step}-ms", "BATCH-1", f"a row each {step} ms", batch(walk(20, step, step_ms=step)))
    rows = walk(30, 1)
    for i in (10, 20, 21):
        for row in rows[i:]:
            row[0] += 61000 * i
    add("gaps", ["BATCH-1", "BATCH-5"], "pauses of ten and twenty minutes", batch(rows))
    rows = walk(12, 2)
    rows[3][0], rows[7][0] = rows[7][0], rows[3][0]
    add("disorder", "BATCH-1", "times that run backwards", batch(rows))
    rows = walk(40, 3)
    for i, row in enumerate(rows):
        row[6] = (35000 + 400 * i) % 36000
        row[4:] = [U if (i + j) % 7 == 0 else v for j, v in enumerate(row[4:])]
    add("unknown", ["BATCH-1", "BATCH-7"], "values that come and go, a course past north", batch(rows))
    add(
        "north",
        "BATCH-7",
        "a course round and round",
        batch([[*r[:6], 9000 * i % 36000, *r[7:]] for i, r in enumerate(walk(9, 4))]),
    )
    add(
        "north-fixed",
        "BATCH-7",
        "the same in the baseline",
        batch([[*r[:6], 35800 * i % 36000, *r[7:]] for i, r in enumerate(walk(9, 4))], rice=False),
    )
    add("full-turn", "BATCH-7", "359.99 degrees is 0", batch([[*walk(1, 5)[0][:6], 35999, 4000, 9, 80]]))
    add(
        "omit",
        "BATCH-1",
        "speed and course left out for the host to derive",
        batch(walk(60, 6), omit=("speed", "course")),
    )
    bare = [[*r[:4], U, U, U, U, U, U] for r in walk(60, 7)]
    add("bare", "BATCH-1", "time and place only", batch(bare))
    add("bare-fixed", "BATCH-4", "time and place only, baseline", batch(bare, rice=False))
    corners = [(-900000000, -1800000000), (900000000, 1800000000), (0, 0), (900000000, -1800000000)] * 2
    extreme = [-1000000, 20000000, U, 0]
    rows = [
        [
            1700000000000 + i,
            a,
            o,
            1 + i % 3,
            extreme[i % 4],
            1000000 * (i & 1),
            35999 * (i & 1),
            1000000 * (i & 1),
            99 * (i & 1),
            100 * (i & 1),
        ]
        for i, (a, o) in enumerate(corners)
    ]
    for r in (5, 6, 7):
        add(f"extremes-r{r}", "BATCH-1", "every limit in one batch", batch(rows, r))
        add(f"extremes-r{r}-fixed", "BATCH-4", "every limit in one batch, baseline", batch(rows, r, False))
    add(
        "states",
        "BATCH-1",
        "every legal state",
        batch([[*walk(1, 8)[0][:3], s, *walk(1, 8)[0][4:]] for s in range(32) if s & 3]),
    )
    still = [[1700000000000 + 1000 * i, *walk(1, 9)[0][1:]] for i in range(255)]
    add("still-255", "BATCH-1", "255 rows that stand still", batch(still))
    rnd = random.Random(10)
    sparse = [[*r[:8], 9 + (rnd.random() < 0.1), 80 - i // 60] for i, r in enumerate(still)]
    add("sparse-255", ["BATCH-1", "BATCH-5"], "columns that change now and then", batch(sparse))
    # Codings by hand: every kind over both orders, every parameter.
    steps = [3, -2, 0, 5, 0, 0, 0, -7, 1]
    n = len(steps) + 1
    for w in (5, 20, 34):
        bits = BitWriter().put(1, 3).put(w, 6)
        for s in steps:
            bits.put(_zigzag(s), w)
        add(f"fixed-{w}", "BATCH-4", f"first differences in {w} bits", _lat(n, bits))
        bits = BitWriter().put(5, 3).eg(_zigzag(4), 0).put(w, 6)
        for s in steps[1:]:
            bits.put(_zigzag(s), w)
        add(f"fixed-{w}-second", "BATCH-4", f"second differences in {w} bits", _lat(n, bits))
    bits = BitWriter().put(3, 3)
    for i in range(n - 1):
        bits.put(31123456 + 1000 * i, 28)
    add("raw", "BATCH-4", "raw values", _lat(n, bits))
    add("linear", "BATCH-4", "constant second differences", _lat(n, BitWriter().put(4, 3).eg(_zigzag(-90), 0)))
    for order in (0, 4):
        lead = BitWriter().put(order | 2, 3)
        if order:
            lead.eg(_zigzag(2), 0)
        for k in range(13):
            bits = BitWriter()
            bits.bits = lead.bits
            bits.put(k, 4)
            for s in [900, *steps[1:]] if order == 0 else steps[1:]:
                z = _zigzag(s)
                if z >> k < 12:
                    bits.put(0, z >> k).put(1, 1).put(z, k)
                else:
                    bits.put(0, 12).eg(z - (12 << k), k + 3)
            add(f"rice-{k}-order-{1 if order else 0}", "BATCH-5", f"Rice, p = {k}", _lat(n, bits))
        for p in (13, 14, 15):
            bits = BitWriter()
            bits.bits = lead.bits
            bits.put(p, 4)
            run = 0
            for s in steps[1:] if order else steps:
                if s:
                    bits.eg(run, p - 11).eg(_zigzag(s) - 1, 0)
                    run = 0
                else:
                    run += 1
            add(f"runs-{p}-order-{1 if order else 0}", "BATCH-5", f"zero runs, p = {p}", _lat(n, bits))
    _bad_batches(add)


def _bad_batches(add: Any) -> None:
    good = batch(walk(9, 11))
    for cut in (0, 1, 2, 5, 12, 20, len(good) - 1):
        add(f"cut-{cut}", "BATCH-2", f"{cut} of {len(good)} bytes", good[:cut], "length")
    add("byte-behind", "BATCH-2", "a byte behind the end", good + b"\x00", "length")
    one = _simple(_start(1), 1)
    add("hand-made", "BATCH-1", "one row by hand", one.body())
    spare = -len(one.bits) % 8
    add(
        "bit-behind",
        "BATCH-2",
        "a one bit behind the end",
        BitWriter().put(int(one.bits + "0" * (spare - 1) + "1", 2), len(one.bits) + spare).body(),
        "length",
    )
    add("256-rows", "BATCH-3", "256 rows", BitWriter().eg(255, 0).body() + bytes(40), "range")
    add("2147483648-rows", "BATCH-3", "2^31 rows in eight bytes", BitWriter().eg((1 << 31) - 1, 0).body(), "range")
    add("endless-count", "BATCH-6", "a count of more than 36 bits", bytes(40), "range")
    add("resolution-3", "BATCH-3", "resolution code 3", _simple(_start(1, r=3), 1).body(), "range")
    bits = BitWriter().eg(0, 0).put(1, 2).put(1, 2).put(0, 7).put(1700000000, 32).put(1000, 10)
    add("millisecond-1000", "BATCH-3", "millisecond 1000", _simple(bits, 1).body(), "range")
    add("mode-0", "BATCH-3", "mode 0", _start(1).put(0, 28).put(0, 29).eg(4, 4).body(), "range")
    add("state-32", "BATCH-3", "state 35", _start(1).put(0, 28).put(0, 29).eg(35, 4).body(), "range")
    add("lat-91", "BATCH-3", "latitude 91 degrees", _start(1).put(91000000, 28).put(0, 29).eg(3, 4).body(), "range")
    add(
        "lat-minus-91",
        "BATCH-3",
        "latitude -91 degrees",
        _start(1).put(-91000000, 28).put(0, 29).eg(3, 4).body(),
        "range",
    )
    add("lon-181", "BATCH-3", "longitude 181 degrees", _start(1).put(0, 28).put(181000000, 29).eg(3, 4).body(), "range")
    for name, bit, value, k in (("speed", 2, 10002, 5), ("hacc", 8, 1002, 3), ("sats", 16, 101, 4)):
        body = _simple(_start(1, bit), 1).eg(value, k).body()
        add(f"{name}-over", "BATCH-3", f"{name} over its range", body, "range")
    add("alt-over", "BATCH-3", "altitude 20,001 m", _simple(_start(1, 1), 1).eg(_zigzag(40002) + 1, 9).body(), "range")
    add("battery-over", "BATCH-3", "battery 101 %", _simple(_start(1, 32), 1).put(102, 7).body(), "range")
    add(
        "course-over",
        "BATCH-3",
        "course stored 181, which is a full turn",
        _simple(_start(1, 4), 1).put(181, 8).body(),
        "range",
    )
    n = 5
    add(
        "lat-walks-off",
        "BATCH-3",
        "latitude passes 90 degrees",
        _lat(n, BitWriter().put(4, 3).eg(_zigzag(30000000), 0)),
        "range",
    )
    add("raw-second", "BATCH-6", "raw second differences", _lat(n, BitWriter().put(7, 3).put(0, 28 * 4)), "range")
    for w in (0, 35, 63):
        add(
            f"width-{w}",
            "BATCH-6",
            f"difference width {w}",
            _lat(n, BitWriter().put(1, 3).put(w, 6).put(0, w * 4)),
            "range",
        )
    add(
        "run-past-end",
        "BATCH-6",
        "a zero run past the end",
        _lat(n, BitWriter().put(2, 3).put(13, 4).eg(9, 2)),
        "range",
    )
    add(
        "rice-endless",
        "BATCH-6",
        "an escape code of more than 36 bits",
        _lat(n, BitWriter().put(2, 3).put(0, 4).put(0, 60)),
        "range",
    )


# --- sequences ----------------------------------------------------------------------------------------------------


def _sequences() -> list[Vector]:
    """Frames in order, for the rules that need a memory: accepted, repeated, or the reason."""
    body = _time_sync()

    def step(counter: int, expect: str, epoch: int = 0) -> dict[str, str]:
        return {"frame": seal(m.TIME_SYNC, body, counter, epoch=epoch).hex(), "expect": expect}

    def down(counter: int, expect: str) -> dict[str, str]:
        return {"frame": seal(m.TIME_SYNC, body, counter, 1).hex(), "expect": expect}

    def sequence(
        name: str, req: str, about: str, direction: int, steps: list[dict[str, str]], known: bool = True
    ) -> Vector:
        at = {"key": KEY.hex() if known else None, "device": DEVICE, "direction": direction, "epoch": 0}
        return {"id": name, "req": [req], "about": about, **at, "steps": steps}

    size = m.REPLAY_WINDOW
    window = [
        *(step(5000, "accepted"), step(5000, "repeated"), step(4990, "accepted"), step(5001, "accepted")),
        *(step(4990, "repeated"), step(5002 - size, "accepted"), step(5001 - size, "replay"), step(0, "replay")),
        *(step(60000, "accepted"), step(5001, "replay"), step(60001 - size, "accepted"), step(60000, "repeated")),
    ]
    upwards = [(3, "accepted"), (3, "replay"), (2, "replay"), (9, "accepted"), (8, "replay")]
    rotation = [
        *(step(10, "accepted"), step(11, "tag", 2), step(0, "accepted", 1), step(12, "tag"), step(1, "accepted", 1)),
        *(step(0, "repeated", 1), step(5, "accepted", 2), step(6, "tag", 1)),
    ]
    return [
        sequence("replay-host", "REPLAY-1", "a host's window", 0, window),
        sequence("replay-device", "REPLAY-2", "a device only goes up", 1, [down(*s) for s in upwards]),
        sequence("key-rotation", "KEY-2", "the next epoch ends the one before", 0, rotation),
        sequence("no-key", "FRAME-7", "a device whose key is not known", 0, [step(1, "key"), step(2, "key")], False),
    ]


def _json(schema: Schema, vectors: list[Vector]) -> str:
    head = json.dumps({"protocol": schema.protocol["name"], "version": m.VERSION, "schema_hash": f"{schema.hash:08x}"})
    lines = ",\n".join(json.dumps(v, ensure_ascii=False) for v in vectors)
    return f'{head[:-1]}, "vectors": [\n{lines}\n]}}\n'


def render(schema: Schema) -> dict[str, str]:
    """Return file name → text. SchemaError when a requirement has no vector, or the codec disagrees with one."""
    build = Builder()
    _frames(build)
    scalar, batches = Builder(), Builder()
    for message in schema.messages:
        if message.fields is not None:
            _scalar(scalar, message)
    _batches(batches)
    sequences = _sequences()
    every = build.vectors + scalar.vectors + batches.vectors + sequences
    shown = {req for v in every for req in v["req"]}
    if shown != set(schema.requirements):
        raise SchemaError(
            f"requirements without a vector, or the other way round: {sorted(shown ^ set(schema.requirements))}"
        )
    if len({v["id"] for v in every}) != len(every):
        raise SchemaError("two vectors of one id")
    return {
        "frames.json": _json(schema, build.vectors),
        "messages.json": _json(schema, scalar.vectors),
        "batches.json": _json(schema, batches.vectors),
        "sequences.json": _json(schema, sequences),
    }
