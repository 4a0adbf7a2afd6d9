"""Many position batches at once, with numpy: the values of `patrolink_protocol.track_decoder`, many times faster.

Frames of the same row count go through the columns side by side. Whatever is not plain baseline coding, or not well
formed, is handed to the plain decoder one by one, which decodes it or says why not: so both agree by construction.
"""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol import frame, receiver, replay, track_decoder, track_encoder
from patrolink_protocol.errors import RejectError

Ints = npt.NDArray[np.int64]
NAMES: tuple[str, ...] = tuple(c[0] for c in track_encoder.column_specs(6))
_RULES = {r: track_encoder.column_specs(r)[1:] for r in (5, 6, 7)}
_TICKS = np.array(track_encoder.TICKS_MS, np.int64)
_BLOCK = 1024  # frames at a time: what stays in the processor's cache
_FEW = 8  # a group smaller than this is not worth its overhead
_HEADER = frame.HEADER_BYTES


@dataclass
class Batches:
    """Rows of many batches, one after the other.

    columns  name → one value a row in the schema's row units, track.UNKNOWN where not known; time in unix milliseconds
    counts   rows of each batch, 0 where it was rejected
    rejected  index of a batch → reason
    """

    columns: dict[str, npt.NDArray[np.signedinteger]]
    counts: Ints
    rejected: dict[int, str] = field(default_factory=dict)


def open_batches(
    receiving: receiver.Receiver, frames: Sequence[bytes]
) -> tuple[list[memoryview], list[int], list[str]]:
    """Verify frames in order; return the bodies of the new position batches, and for every frame why it gave none.

    The second value holds the index of each body's frame; the third, a frame each: "" for a body, "repeated", "other"
    for a genuine frame of another type, or the reject reason.
    """
    bodies, where, said = [], [], [""] * len(frames)
    channel = receiving.channel
    inner, outer = (hashlib.sha256(pad) for pad in channel.pads)
    inner.update(channel.context)
    first = m.VERSION << 5 | m.POSITION_BATCH
    phase = (m.FLAG_PHASE if channel.phase else 0) << 4
    take = receiving.window.accept
    for i, data in enumerate(frames):
        # The plain case in place; everything else by the receiver's own way.
        if (
            13 <= len(data) <= m.MAX_FRAME
            and data[0] == first
            and data[1] & 0xF0 == phase
            and receiving.channel is channel
        ):
            h = inner.copy()
            h.update(data[:-8])
            o = outer.copy()
            o.update(h.digest())
            if not hmac.compare_digest(o.digest()[:8], data[-8:]):
                said[i] = "tag"
                continue
            taken = take(int.from_bytes(data[1:5], "big") & frame.COUNTER_MAX)
            if taken == replay.ReplayWindow.NEW:
                bodies.append(memoryview(data)[_HEADER:-8])
                where.append(i)
            else:
                said[i] = "repeated" if taken == replay.ReplayWindow.SEEN else "replay"
            continue
        try:
            kind, _, body, _, repeated = receiving.open(data)
        except RejectError as e:
            said[i] = e.name
            continue
        if repeated or kind != m.POSITION_BATCH:
            said[i] = "repeated" if repeated else "other"
        else:
            bodies.append(body)
            where.append(i)
    return bodies, where, said


def blocks(bodies: Sequence[bytes | memoryview]) -> Iterator[Batches]:
    """Yield the rows of all batch bodies, a block of bodies at a time: memory stays bounded however many there are."""
    scratch = [np.empty(_BLOCK * m.MAX_BATCH, np.int64) for _ in range(4)]
    for i in range(0, len(bodies), _BLOCK):
        yield _block(bodies[i : i + _BLOCK], scratch)


def decode(bodies: Sequence[bytes | memoryview]) -> Batches:
    """Return the rows of all batch bodies, in order."""
    parts = list(blocks(bodies)) or [_block([], [])]
    rejected = {i * _BLOCK + at: why for i, part in enumerate(parts) for at, why in part.rejected.items()}
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in NAMES}
    return Batches(columns, np.concatenate([part.counts for part in parts]), rejected)


class _Stream:
    """All bodies of a block as one string of bits, readable at many places at once.

    Tables of values live in `scratch`, used anew for each column: fresh memory costs more than the work.
    """

    def __init__(self, bodies: Sequence[bytes | memoryview], scratch: list[Ints]) -> None:
        self._scratch = scratch
        sizes = np.array([len(b) for b in bodies], np.int64)
        data = b"".join(bodies) + bytes(16)
        # The eight bytes from every byte on: any code of up to 57 bits is one look-up and two shifts.
        self._windows = np.ndarray((len(data) - 8,), ">u8", data, 0, (1,)).astype(np.uint64)
        self._last = len(self._windows) - 1
        self.ends = np.cumsum(sizes) * 8
        self.starts = self.ends - sizes * 8

    def table(self, which: int, shape: tuple[int, int]) -> Ints:
        """Return scratch table `which`, with any content."""
        return self._scratch[which][: shape[0] * shape[1]].reshape(shape)

    def get(self, at: Ints, bits: Ints | int, index: Ints | None = None, found: Ints | None = None) -> Ints:
        """Return `bits` bits (1 to 57) from each place; what lies past the end reads as anything."""
        index = np.right_shift(at, 3, out=index)
        np.minimum(index, self._last, out=index)
        words = self._windows.take(index, out=None if found is None else found.view(np.uint64), mode="clip")
        np.bitwise_and(at, 7, out=index)
        words <<= index.view(np.uint64)
        words >>= np.asarray(64 - bits).astype(np.uint64)
        result: Ints = words.view(np.int64)
        return result

    def codes(self, at: Ints, w: Ints, n: int) -> Ints:
        """Return n codes of w bits from each place on, as a scratch table."""
        shape = (len(at), n)
        places = np.multiply(w[:, None], np.arange(n), out=self.table(1, shape))
        places += at[:, None]
        return self.get(places, w[:, None], self.table(2, shape), self.table(3, shape))

    def eg(self, at: Ints, k: int) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
        """Return Exp-Golomb codes of order k, the places after them, and which are short enough to be right."""
        zeros = 57 - np.frexp(self.get(at, 57).astype(np.float64))[1].astype(np.int64)
        fine = zeros + k < 24  # beyond, floats would round; no real batch comes near
        zeros = np.where(fine, zeros, 0)
        size = zeros + k + 1
        return self.get(at + zeros, size) - (1 << k), at + zeros + size, fine


def _unzigzag(codes: Ints) -> Ints:
    """Undo zigzag, in place."""
    signs = codes & 1
    np.negative(signs, out=signs)
    codes >>= 1
    codes ^= signs
    return codes


def _block(bodies: Sequence[bytes | memoryview], scratch: list[Ints]) -> Batches:
    count = len(bodies)
    counts = np.zeros(count, np.int64)
    plain = np.ones(count, bool)  # to be decoded by the plain decoder
    groups = []
    if count:
        stream = _Stream(bodies, scratch)
        rows, at, fine = stream.eg(stream.starts, 0)
        rows += 1
        head = stream.get(at, 5)
        fine &= (rows <= m.MAX_BATCH) & (stream.ends - stream.starts > 40) & (head >> 3 < 3)
        key = np.where(fine, rows << 5 | head, -1)
        for value in np.unique(key):
            members = np.flatnonzero(key == value)
            if value < 0 or len(members) < _FEW:
                continue
            done, good = _group(stream, at[members] + 4, int(value))
            kept = members[good]
            groups.append((kept, int(value) >> 5, done, good))
            counts[kept] = int(value) >> 5
            plain[kept] = False
    rejected = {}
    singles = []
    for i in np.flatnonzero(plain):
        try:
            _, values = track_decoder.decode_columns(bodies[int(i)])
        except RejectError as e:
            rejected[int(i)] = e.name
            continue
        counts[i] = len(values["time"])
        singles.append((i, values))
    if len(groups) == 1 and len(groups[0][0]) == count:
        return Batches({name: v.ravel() for name, v in groups[0][2].items()}, counts, rejected)
    offsets = np.cumsum(counts) - counts
    columns = {name: np.empty(int(counts.sum()), np.int64 if name == "time" else np.int32) for name in NAMES}
    for kept, n, done, good in groups:
        where = (offsets[kept][:, None] + np.arange(n)).ravel()
        for name, array in done.items():
            columns[name][where] = array[good].ravel()
    for i, values in singles:
        for name in NAMES:
            columns[name][offsets[i] : offsets[i] + counts[i]] = values[name]
    return Batches(columns, counts, rejected)


def _group(
    stream: _Stream, at: Ints, key: int
) -> tuple[dict[str, npt.NDArray[np.signedinteger]], npt.NDArray[np.bool_]]:
    """Decode frames of one row count, resolution and tick: columns of shape (frames, rows), and which frames hold."""
    n, resolution, tick = key >> 5, (key >> 3 & 3) + 5, key >> 1 & 3
    size = len(at)
    good = np.ones(size, bool)
    ends = stream.ends[np.searchsorted(stream.ends, at, "right")]
    optional = sum(c[7] for c in _RULES[resolution])
    every = stream.get(at, 1).astype(bool)
    present = np.where(every, (1 << optional) - 1, stream.get(at + 1, optional))
    at = at + np.where(every, 1, 1 + optional)
    start = stream.get(at, 32) * 1000
    at = at + 32
    if tick:
        ms = stream.get(at, 10)
        good &= ms <= 999
        start += ms
        at = at + 10
    values, at = _column(stream, at, np.zeros(size, np.int64), n, 32, True, good)
    if tick != 3:
        values *= _TICKS[tick]
    columns: dict[str, npt.NDArray[np.signedinteger]] = {"time": values + start[:, None]}
    for name, low, high, divisor, bits, k, signed, is_optional, modulus in _RULES[resolution]:
        rows: Ints | slice = slice(None)
        if is_optional:
            here = (present & 1).astype(bool)
            present >>= 1
            if not here.all():
                rows = np.flatnonzero(here)
        out, after = _one(stream, at[rows], good, rows, n, (low, high, divisor, bits, k, signed, is_optional, modulus))
        if isinstance(rows, slice):
            columns[name], at = out, after
        else:
            at = at.copy()
            at[rows] = after
            columns[name] = np.full((size, n), enums.UNKNOWN, np.int32)
            columns[name][rows] = out
    good &= (columns["state"] & track_encoder.MODE_MASK != 0).all(axis=1)
    spare = ends - at
    good &= (spare >= 0) & (spare < 8)
    good &= stream.get(at, np.maximum(spare, 1)) * (spare > 0) == 0
    return columns, good


def _one(
    stream: _Stream,
    at: Ints,
    good: npt.NDArray[np.bool_],
    rows: Ints | slice,
    n: int,
    rule: tuple[int, int, int, int, int, bool, bool, int],
) -> tuple[npt.NDArray[np.int32], Ints]:
    """Decode one column of the frames that have it, into row units."""
    low, high, divisor, bits, k, signed, optional, modulus = rule
    holds = good[rows].copy()
    least = low // divisor
    if k < 0:
        first, at = stream.get(at, bits), at + bits
    else:
        first, at, fine = stream.eg(at, k)
        holds &= fine
    if signed and not optional:
        first = first - ((first >> (bits - 1)) << bits)
    elif signed:
        first = np.where(first == 0, 0, _unzigzag(first - 1) + 1 - least)
    values, at = _column(stream, at, first, n, bits, signed and not optional, holds, modulus)
    offset = ((least if signed else 0) - 1) if optional else 0
    floor = 0 if optional else least
    top = (high + divisor - 1) // divisor - offset  # rounding may carry a legal value to the next multiple, no further
    if modulus:
        top = min(top, modulus - 1)
    smallest = values.min(initial=floor)
    if smallest < floor or values.max(initial=floor) > top:
        holds &= (values.min(axis=1) >= floor) & (values.max(axis=1) <= top)
    good[rows] = holds
    unknown = values == 0 if optional and not values.all() else None
    if offset:
        values += offset
    if divisor != 1:
        values *= divisor
    if unknown is not None:
        values[unknown] = enums.UNKNOWN
    return values.astype(np.int32), at  # row values fit, and half the memory is half the time


def _column(
    stream: _Stream,
    at: Ints,
    first: Ints,
    n: int,
    bits: int,
    signed: bool,
    good: npt.NDArray[np.bool_],
    modulus: int = 0,
) -> tuple[Ints, Ints]:
    """Return stored values of shape (frames, n), and the places after them; clear `good` where coding is not plain."""
    size = len(at)
    out = stream.table(0, (size, n))
    if n == 1:
        out[:, 0] = first
        return out, at
    mode = stream.get(at, 3)
    at = at + 3
    kind = mode & 3
    order = mode >> 2
    good &= (kind != track_encoder.RICE) & (mode != 7)
    after = at.copy()
    for second in (0, 1):
        for coding in (track_encoder.CONSTANT, track_encoder.FIXED):
            members = np.flatnonzero((kind == coding) & (order == second))
            if not len(members):
                continue
            every = len(members) == size
            here = at if every else at[members]
            steps = out if every else np.empty((len(members), n), np.int64)
            start = first if every else first[members]
            fine = np.ones(len(members), bool)
            if second:
                lead, here, fine = stream.eg(here, 0)
                lead = _unzigzag(lead)
            codes = n - 1 - second
            if coding == track_encoder.CONSTANT:
                steps[:] = start[:, None]
                if second:
                    steps += lead[:, None] * np.arange(n)
            else:
                w = stream.get(here, 6)
                fine = fine & (w >= 1) & (w <= 34)
                w = np.clip(w, 1, 34)
                here = here + 6
                if codes:
                    steps[:, 1 + second :] = _unzigzag(stream.codes(here, w, codes))
                here = here + w * codes
                if second:
                    steps[:, 1] = lead
                    np.cumsum(steps[:, 1:], axis=1, out=steps[:, 1:])
                steps[:, 0] = start
                np.cumsum(steps, axis=1, out=steps)
            if modulus:
                # Exact for sums this small, and several times faster than integer division.
                steps[:, 1:] -= modulus * np.floor(steps[:, 1:] * (1.0 / modulus) + 0.25 / modulus).astype(np.int64)
            if every:
                good &= fine
                return out, here
            good[members] &= fine
            out[members] = steps
            after[members] = here
    members = np.flatnonzero(kind == track_encoder.RAW)
    if len(members):
        values = stream.codes(at[members], np.full(len(members), bits), n - 1)
        out[members, 0] = first[members]
        out[members, 1:] = values - ((values >> (bits - 1)) << bits) if signed else values
        after[members] = at[members] + bits * (n - 1)
    out[kind == track_encoder.RICE] = 0
    return out, after
