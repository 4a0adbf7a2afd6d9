"""Decode many position batches side by side, with numpy.

Results equal those of `patrolink_protocol.track_decoder`, at many times its speed. Batches with the same row count,
resolution and tick are decoded column by column, side by side. Malformed batches, and those that share these with too
few others, are left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol import track_encoder

from patrolink.core.bit_reader import BitReader, Bools, Ints

Columns = dict[str, npt.NDArray[np.signedinteger]]


class _Rule(NamedTuple):
    """Coding of a column, in the order of `track_encoder.column_specs`."""

    name: str
    low: int
    high: int
    divisor: int
    bits: int
    k: int
    signed: bool
    optional: bool
    modulus: int


_TIME_RULE = _Rule("time", 0, 0, 1, 32, 0, True, False, 0)
_RULES = {r: [_Rule(*column) for column in track_encoder.column_specs(r)[1:]] for r in (5, 6, 7)}
NAMES: tuple[str, ...] = ("time", *(rule.name for rule in _RULES[6]))
_TICKS_MS = np.array(track_encoder.TICKS_MS, np.int64)
_GROUP_MIN = 8  # a smaller group is not worth its overhead
_HEAD_BITS = 40  # of any batch
_RAW_SECOND = 7  # raw values have no second differences


class Part(NamedTuple):
    """Rows of some of the batches of a block.

    Args:
        indices: numbers of the batches, ascending.
        counts: rows of each.
        columns: name → one value per row in the schema's row units, UNKNOWN where not known; time in unix ms.
    """

    indices: Ints
    counts: Ints
    columns: Columns


class NumpyDecoder:
    """Decodes batches with numpy."""

    block_batches = 4096  # many enough that numpy's calls cost little; their rows take some 30 MB

    def decode_parts(self, bodies: Sequence[bytes | memoryview]) -> list[Part]:
        """Decode the batches that share row count, resolution and tick with enough others; the rest is left out."""
        return _decode_parts(bodies)


def _decode_parts(bodies: Sequence[bytes | memoryview]) -> list[Part]:
    scratch = [np.empty(len(bodies) * m.MAX_BATCH, np.int64) for _ in range(4)]
    reader = BitReader(bodies, scratch)
    rows, at, valid = reader.exp_golomb(reader.starts, 0)
    rows += 1
    head = reader.get(at, 5)
    valid &= (rows <= m.MAX_BATCH) & (reader.ends - reader.starts > _HEAD_BITS) & (head >> 3 < 3)
    key = np.where(valid, rows << 5 | head, -1)
    parts = []
    for value in np.unique(key):
        members = np.flatnonzero(key == value)
        if value >= 0 and len(members) >= _GROUP_MIN:
            columns, valid = _decode_group(reader, at[members] + 4, int(value))
            if not valid.all():
                members, columns = members[valid], {name: array[valid] for name, array in columns.items()}
            counts = np.full(len(members), value >> 5)
            parts.append(Part(members, counts, {name: array.ravel() for name, array in columns.items()}))
    return parts


def _decode_group(reader: BitReader, at: Ints, key: int) -> tuple[Columns, Bools]:
    """Return the columns of batches with one row count, resolution and tick, and which batches are valid."""
    n, resolution, tick = key >> 5, (key >> 3 & 3) + 5, key >> 1 & 3
    size = len(at)
    valid = np.ones(size, bool)
    ends = reader.ends[np.searchsorted(reader.ends, at, "right")]
    optional = sum(rule.optional for rule in _RULES[resolution])
    has_all = reader.get(at, 1).astype(bool)
    present = np.where(has_all, (1 << optional) - 1, reader.get(at + 1, optional))
    at = at + np.where(has_all, 1, 1 + optional)
    start_ms = reader.get(at, 32) * 1000
    at = at + 32
    if tick:
        ms = reader.get(at, 10)
        valid &= ms <= 999
        start_ms += ms
        at = at + 10
    times, at = _stored_values(reader, at, np.zeros(size, np.int64), n, _TIME_RULE, valid)
    if tick != 3:
        times *= _TICKS_MS[tick]
    columns: Columns = {"time": times + start_ms[:, None]}
    valid &= (columns["time"].min(axis=1) >= 0) & (columns["time"].max(axis=1) <= m.TIME_MAX_MS)
    for rule in _RULES[resolution]:
        batches: Ints | slice = slice(None)
        if rule.optional:
            has_column = (present & 1).astype(bool)
            present >>= 1
            if not has_column.all():
                batches = np.flatnonzero(has_column)
        values, after = _column(reader, at[batches], valid, batches, n, rule)
        if isinstance(batches, slice):
            columns[rule.name], at = values, after
        else:
            at = at.copy()
            at[batches] = after
            columns[rule.name] = np.full((size, n), enums.UNKNOWN, np.int32)
            columns[rule.name][batches] = values
    valid &= (columns["state"] & track_encoder.MODE_MASK != 0).all(axis=1)
    padding = ends - at
    valid &= (padding >= 0) & (padding < 8)
    valid &= reader.get(at, np.maximum(padding, 1)) * (padding > 0) == 0
    return columns, valid


def _column(
    reader: BitReader, at: Ints, valid: Bools, batches: Ints | slice, n: int, rule: _Rule
) -> tuple[npt.NDArray[np.int32], Ints]:
    """Return one column of the batches that have it, in row units, and the positions after it."""
    holds = valid[batches].copy()
    least = rule.low // rule.divisor
    if rule.k < 0:
        first, at = reader.get(at, rule.bits), at + rule.bits
    else:
        first, at, first_valid = reader.exp_golomb(at, rule.k)
        holds &= first_valid
    if rule.signed and not rule.optional:
        first = first - ((first >> (rule.bits - 1)) << rule.bits)
    elif rule.signed:
        first = np.where(first == 0, 0, _unzigzag(first - 1) + 1 - least)
    values, at = _stored_values(reader, at, first, n, rule, holds)
    offset = ((least if rule.signed else 0) - 1) if rule.optional else 0
    floor = 0 if rule.optional else least
    # Rounding may carry a legal value to the next multiple of the divisor, no further.
    top = (rule.high + rule.divisor - 1) // rule.divisor - offset
    if rule.modulus:
        top = min(top, rule.modulus - 1)
    if values.min(initial=floor) < floor or values.max(initial=floor) > top:
        holds &= (values.min(axis=1) >= floor) & (values.max(axis=1) <= top)
    valid[batches] = holds
    unknown = values == 0 if rule.optional and not values.all() else None
    if offset:
        values += offset
    if rule.divisor != 1:
        values *= rule.divisor
    if unknown is not None:
        values[unknown] = enums.UNKNOWN
    return values.astype(np.int32), at  # row values fit, and half the memory takes half the time


def _stored_values(reader: BitReader, at: Ints, first: Ints, n: int, rule: _Rule, valid: Bools) -> tuple[Ints, Ints]:
    """Return the stored values of a column, of shape (batches, n), and the positions after them.

    Clears `valid` where the coding is malformed.
    """
    size = len(at)
    out = reader.table(0, (size, n))
    if n == 1:
        out[:, 0] = first
        return out, at
    mode = reader.get(at, 3)
    at = at + 3
    coding, order = mode & 3, mode >> 2
    valid &= mode != _RAW_SECOND
    after = at.copy()
    for second_order in (0, 1):
        for kind in (track_encoder.CONSTANT, track_encoder.FIXED, track_encoder.RICE):
            members = np.flatnonzero((coding == kind) & (order == second_order))
            if len(members) == size:
                after, members_valid = _differences(reader, at, first, out, kind, second_order, rule.modulus)
                valid &= members_valid
                return out, after
            if len(members):
                values = np.empty((len(members), n), np.int64)
                after[members], members_valid = _differences(
                    reader, at[members], first[members], values, kind, second_order, rule.modulus
                )
                valid[members] &= members_valid
                out[members] = values
    members = np.flatnonzero(coding == track_encoder.RAW)
    if len(members):
        bits = rule.bits
        raw = reader.codes(at[members], np.full(len(members), bits), n - 1)
        out[members, 0] = first[members]
        is_signed = rule.signed and not rule.optional
        out[members, 1:] = raw - ((raw >> (bits - 1)) << bits) if is_signed else raw
        after[members] = at[members] + bits * (n - 1)
    return out, after


def _differences(
    reader: BitReader, at: Ints, first: Ints, out: Ints, coding: int, second_order: int, modulus: int
) -> tuple[Ints, Bools]:
    """Write values that are coded as differences of first or second order to `out`, of shape (batches, n).

    Returns:
        The positions after them, and which batches are valid.
    """
    n = out.shape[1]
    valid = np.ones(len(at), bool)
    if second_order:
        lead, at, valid = reader.exp_golomb(at, 0)
        lead = _unzigzag(lead)
    if coding == track_encoder.CONSTANT:
        out[:] = first[:, None]
        if second_order:
            out += lead[:, None] * np.arange(n)
    else:
        read = reader.fixed if coding == track_encoder.FIXED else reader.rice
        codes, at, codes_valid = read(at, n - 1 - second_order)
        valid = valid & codes_valid
        out[:, 1 + second_order :] = _unzigzag(codes)
        if second_order:
            out[:, 1] = lead
            np.cumsum(out[:, 1:], axis=1, out=out[:, 1:])
        out[:, 0] = first
        np.cumsum(out, axis=1, out=out)
    if modulus:
        # Exact for sums this small, and several times faster than an integer division.
        out[:, 1:] -= modulus * np.floor(out[:, 1:] * (1.0 / modulus) + 0.25 / modulus).astype(np.int64)
    return at, valid


def _unzigzag(codes: Ints) -> Ints:
    """Undo zigzag coding in place, and return the array."""
    signs = codes & 1
    np.negative(signs, out=signs)
    codes >>= 1
    codes ^= signs
    return codes
