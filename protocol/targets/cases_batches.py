"""Vectors of position batches: each coding by the encoder and by hand, and codes that no encoder produces."""

import random
from collections.abc import Callable

import patrolink_messages as m

from .vectors import COLUMNS, BitWriter, Builder, Reject, U, batch, walk

Add = Callable[..., None]  # (name, requirements, about, body, reason of the refusal)
EITHER = ["length", "range"]  # both are right: the rest of the stream is wrong, too
ROW_STEPS = [3, -2, 0, 5, 0, 0, 0, -7, 1]  # differences of hand-coded latitudes


def _start(n: int, present: int = 0, r: int = 1) -> BitWriter:
    """Begin a hand-coded batch without optional columns."""
    return BitWriter().eg(n - 1, 0).put(r, 2).put(0, 2).put(present, 7).put(1700000000, 32)


def _simple(bits: BitWriter, n: int, column: str = "", after: bool = False) -> BitWriter:
    """Append the columns time, lat, lon and state of a hand-coded batch with a constant position.

    With `column`, only those before it, or only those after it.
    """
    ready = not after
    for name, value, width in (("time", 0, 0), ("lat", 31123456, 28), ("lon", 121123456, 29)):
        if name == column:
            if not after:
                return bits
            ready = True
            continue
        if not ready:
            continue
        bits.put(value, width)
        if n > 1:
            bits.put(4, 3).eg(2, 0) if name == "time" else bits.put(0, 3)
    if column == "state":
        return bits
    bits.eg(3, 4)
    if n > 1:
        bits.put(0, 3)
    return bits


def _zigzag(v: int) -> int:
    return v << 1 if v >= 0 else (-v << 1) - 1


def _lat(n: int, coding: BitWriter) -> bytes:
    """Return a batch whose latitude is coded by hand; the other columns are constant."""
    bits = _simple(_start(n), n, "lat").put(31123456, 28)
    bits.bits += coding.bits
    bits.put(121123456, 29).put(0, 3).eg(3, 4).put(0, 3)
    return bits.body()


def add_all(build: Builder) -> None:
    """Add all vectors of position batches."""

    def add(name: str, req: str | list[str], about: str, body: bytes, reject: Reject = None) -> None:
        build.body(f"batch-{name}", req, about, m.POSITION_BATCH, body, reject)

    _add_walks(add)
    _add_columns(add)
    _add_limits(add)
    _add_fixed_codings(add)
    for order in (0, 4):
        _add_rice_codings(add, order)
    _add_malformed(add)
    _add_out_of_range(add)
    _add_out_of_range_later(add)
    _add_times(add)
    _add_impossible_codes(add)


def _add_walks(add: Add) -> None:
    """Batches of walks as the encoder codes them."""
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


def _add_columns(add: Add) -> None:
    """Unknown values, omitted columns and cyclic courses."""
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


def _add_limits(add: Add) -> None:
    """Limits of all columns, constant and nearly constant columns."""
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


def _add_fixed_codings(add: Add) -> None:
    """Fixed-width, raw and constant codings by hand, over both orders of differences."""
    steps = ROW_STEPS
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


def _add_rice_codings(add: Add, order: int) -> None:
    """Rice and zero-run codings by hand, with each parameter."""
    steps = ROW_STEPS
    n = len(steps) + 1
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


def _add_malformed(add: Add) -> None:
    """Batches that end early or late, and impossible headers."""
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
    add("256-rows", "BATCH-3", "256 rows", BitWriter().eg(255, 0).body() + bytes(40), EITHER)
    add("2147483648-rows", "BATCH-3", "2^31 rows in eight bytes", BitWriter().eg((1 << 31) - 1, 0).body(), EITHER)
    add("endless-count", "BATCH-6", "a count of more than 36 bits", bytes(40), EITHER)
    add("resolution-3", "BATCH-3", "resolution code 3", _simple(_start(1, r=3), 1).body(), "range")
    bits = BitWriter().eg(0, 0).put(1, 2).put(1, 2).put(0, 7).put(1700000000, 32).put(1000, 10)
    add("millisecond-1000", "BATCH-3", "millisecond 1000", _simple(bits, 1).body(), "range")


def _add_out_of_range(add: Add) -> None:
    """Values outside the range of their column."""
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
    add(
        "lat-walks-off",
        "BATCH-3",
        "latitude passes 90 degrees",
        _lat(5, BitWriter().put(4, 3).eg(_zigzag(30000000), 0)),
        "range",
    )


def _add_impossible_codes(add: Add) -> None:
    """Codes that no encoder produces."""
    n = 5
    add("raw-second", "BATCH-6", "raw second differences", _lat(n, BitWriter().put(7, 3).put(0, 28 * 4)), EITHER)
    for w in (0, 35, 63):
        add(
            f"width-{w}",
            "BATCH-6",
            f"difference width {w}",
            _lat(n, BitWriter().put(1, 3).put(w, 6).put(0, w * 4)),
            EITHER,
        )
    add(
        "run-past-end",
        "BATCH-6",
        "a zero run past the end",
        _lat(n, BitWriter().put(2, 3).put(13, 4).eg(9, 2)),
        EITHER,
    )
    add(
        "rice-endless",
        "BATCH-6",
        "an escape code of more than 36 bits",
        _lat(n, BitWriter().put(2, 3).put(0, 4).put(0, 60)),
        EITHER,
    )
    for more, reject in ((36, None), (37, EITHER)):
        bits = _start_ms(2).put(4, 3).eg(1 << more, 0)  # constant second differences
        about = f"a code of {more} bits after the first one bit"
        add(f"code-{more}-bits", ["BATCH-6", "BATCH-8"], about, _simple(bits, 2, "time", True).body(), reject)


def _start_ms(n: int, second: int = 1700000000) -> BitWriter:
    """Begin a hand-coded batch without optional columns whose tick is 1 ms."""
    return BitWriter().eg(n - 1, 0).put(1, 2).put(3, 2).put(0, 7).put(second, 32).put(0, 10)


def _add_out_of_range_later(add: Add) -> None:
    """Values outside the range of their column after the first row."""
    n = 5
    raw = BitWriter().put(3, 3)
    for value in (31123456, 90000001, 31123456, 31123456):
        raw.put(value, 28)
    add("lat-raw-over", "BATCH-3", "a raw latitude over 90 degrees", _lat(n, raw), "range")
    raw = BitWriter().put(3, 3)
    for value in (31123456, 31123456, 31123456, -90000001):
        raw.put(value, 28)
    add("lat-raw-under", "BATCH-3", "a raw latitude under -90 degrees", _lat(n, raw), "range")
    states = _simple(_start(n), n, "state").eg(3, 4).put(3, 3)
    for state in (3, 2, 4, 3):
        states.put(state, 5)
    add("mode-0-later", "BATCH-3", "mode 0 in the fourth row", states.body(), "range")
    for first in (181, 200, 255):
        bits = _simple(_start(2, 4), 2).put(first, 8).put(0, 3)
        add(f"course-keyframe-{first}", ["BATCH-3", "BATCH-7"], f"course stored {first}", bits.body(), "range")
        bits = _simple(_start(2, 4), 2).put(first, 8).put(1, 3).put(2, 6).put(0, 2)
        add(f"course-keyframe-{first}-fixed", "BATCH-3", f"course stored {first}, differences", bits.body(), "range")
        bits = _simple(_start(2, 4), 2).put(46, 8).put(3, 3).put(first, 8)
        add(f"course-raw-{first}", ["BATCH-3", "BATCH-7"], f"a raw course stored {first}", bits.body(), "range")
    still = [[1700000000000 + 1000 * i, *walk(1, 9)[0][1:]] for i in range(255)]
    body = batch(still, omit=tuple(COLUMNS[4:]))
    text = format(int.from_bytes(b"\1" + body, "big"), "b")[1:]
    whole = BitWriter().eg(255, 0)
    whole.bits += text[len(BitWriter().eg(254, 0).bits) :]
    add("256-rows-whole", "BATCH-3", "256 rows that are otherwise legal", whole.body(), "range")


def _add_times(add: Add) -> None:
    """Times at the limits, raw times and times that go back."""
    last = (1 << 32) - 1
    for name, second in (("2038", 1 << 31), ("2106", last), ("1970", 0)):
        bits = BitWriter().eg(0, 0).put(1, 2).put(0, 2).put(0, 7).put(second, 32)
        add(f"year-{name}", "BATCH-8", f"second {second}", _simple(bits, 1).body())
    for name, step, second, reject in (
        ("after-2106", 1, last, "range"),
        ("before-1970", -1, 0, "range"),
        ("to-2106", 1, last - 1, None),
        ("to-1970", -1, 1, None),
        ("back", -1000, 1700000000, None),
    ):
        bits = BitWriter().eg(1, 0).put(1, 2).put(0, 2).put(0, 7).put(second, 32)
        bits.put(1, 3).put(20, 6).put(_zigzag(step), 20)  # first differences, fixed width
        about = f"a row {step} s after second {second}"
        add(f"time-{name}", "BATCH-8", about, _simple(bits, 2, "time", True).body(), reject)
        bits = BitWriter().eg(1, 0).put(1, 2).put(0, 2).put(0, 7).put(second, 32).put(3, 3).put(step, 32)
        add(f"time-raw-{name}", ["BATCH-8", "BATCH-4"], f"{about}, raw", _simple(bits, 2, "time", True).body(), reject)
