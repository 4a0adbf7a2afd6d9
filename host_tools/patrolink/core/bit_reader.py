"""Read bit fields of many byte strings at once, with numpy."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from patrolink_protocol import track_encoder

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_FIXED_MAX_BITS = 34
# A float64 holds this many bits without rounding, which would change the number of leading zeros.
_EXP_GOLOMB_HEAD_BITS = 48
_EXP_GOLOMB_MAX_BITS = 24  # no real batch comes near
# Leading zeros of the bits that can be the unary part of a Rice code.
_LEADING_ZEROS = np.array(
    [track_encoder.ESCAPE - value.bit_length() for value in range(1 << track_encoder.ESCAPE)], np.int64
)
_ESCAPE_SHIFT = np.uint64(64 - track_encoder.ESCAPE)


class BitReader:
    """All bodies of a block as one bit string, readable at many positions at once.

    Positions are bit numbers from the start of the string, one per body. Tables of values are written to `scratch`
    and overwritten by the next column: new memory costs more time than the decoding.

    Args:
        bodies: byte strings.
        scratch: four arrays, each large enough for a table of one value per row of the block.

    Attributes:
        starts: position of each body's first bit.
        ends: position after each body's last bit.
    """

    def __init__(self, bodies: Sequence[bytes | memoryview], scratch: list[Ints]) -> None:
        self._scratch = scratch
        sizes = np.array([len(b) for b in bodies], np.int64)
        data = b"".join(bodies) + bytes(16)
        # The eight bytes that begin at every byte: a field of up to 57 bits is one look-up and two shifts.
        self._windows = np.ndarray((len(data) - 8,), ">u8", data, 0, (1,)).astype(np.uint64)
        self._last = len(self._windows) - 1
        self.ends = np.cumsum(sizes) * 8
        self.starts = self.ends - sizes * 8

    def table(self, which: int, shape: tuple[int, int]) -> Ints:
        """Return scratch table `which`; its content is undefined."""
        return self._scratch[which][: shape[0] * shape[1]].reshape(shape)

    def get(self, at: Ints, bits: Ints | int, index: Ints | None = None, out: Ints | None = None) -> Ints:
        """Return the unsigned field of `bits` bits (1 to 57) at each position.

        A field that reaches past the end of the string has an undefined value.

        Args:
            at: positions.
            bits: width, one for all or one per position.
            index: array of the shape of `at` for intermediate values; None allocates one.
            out: array for the result; None allocates one.
        """
        index = np.right_shift(at, 3, out=index)
        np.minimum(index, self._last, out=index)
        words = self._windows.take(index, out=None if out is None else out.view(np.uint64), mode="clip")
        np.bitwise_and(at, 7, out=index)
        words <<= index.view(np.uint64)
        words >>= np.asarray(64 - bits).astype(np.uint64)
        result: Ints = words.view(np.int64)
        return result

    def codes(self, at: Ints, width: Ints, count: int) -> Ints:
        """Return `count` consecutive fields of `width` bits from each position, as a scratch table."""
        shape = (len(at), count)
        positions = np.multiply(width[:, None], np.arange(count), out=self.table(1, shape))
        positions += at[:, None]
        return self.get(positions, width[:, None], self.table(2, shape), self.table(3, shape))

    def fixed(self, at: Ints, count: int) -> tuple[Ints, Ints, Bools]:
        """Read `count` codes of fixed width at each position: the width in 6 bits, then the codes.

        Returns:
            The codes as a scratch table, the positions after them, and which batches are valid.
        """
        width = self.get(at, 6)
        valid = (width >= 1) & (width <= _FIXED_MAX_BITS)
        width = np.clip(width, 1, _FIXED_MAX_BITS)
        return self.codes(at + 6, width, count), at + 6 + width * count, valid

    def exp_golomb(self, at: Ints, k: Ints | int) -> tuple[Ints, Ints, Bools]:
        """Read an Exp-Golomb code at each position.

        Args:
            at: positions.
            k: order of the code, one for all or one per position.

        Returns:
            The values, the positions after them, and which values are valid.
        """
        head = self.get(at, _EXP_GOLOMB_HEAD_BITS).astype(np.float64)
        zeros = _EXP_GOLOMB_HEAD_BITS - np.frexp(head)[1].astype(np.int64)
        valid = zeros + k < _EXP_GOLOMB_MAX_BITS
        zeros = np.where(valid, zeros, 0)
        size = zeros + k + 1
        base: Ints | int = np.left_shift(1, k)
        return self.get(at + zeros, size) - base, at + zeros + size, valid

    def rice(self, at: Ints, count: int) -> tuple[Ints, Ints, Bools]:
        """Read `count` codes of the profile rice at each position: a parameter of 4 bits, then Rice codes or zero runs.

        Returns:
            The codes as a scratch table, the positions after them, and which batches are valid.
        """
        parameter = self.get(at, 4)
        after, valid = at + 4, np.ones(len(at), bool)
        by_row = self.table(1, (count, len(at)))  # a code of every batch is one row, so that they are written in order
        plain = parameter < track_encoder.RUNS
        if plain.all():
            self._rice_codes(after, valid, parameter, by_row)
        else:
            for members, read in (
                (np.flatnonzero(plain), self._rice_codes),
                (np.flatnonzero(~plain), self._zero_runs),
            ):
                positions, members_valid = after[members], valid[members]
                values = np.empty((count, len(members)), np.int64)
                read(positions, members_valid, parameter[members], values)
                after[members], valid[members] = positions, members_valid
                by_row[:, members] = values
        codes = self.table(3, (len(at), count))
        codes[:] = by_row.T
        return codes, after, valid

    def _rice_codes(self, at: Ints, valid: Bools, k: Ints, out: Ints) -> None:
        """Write Rice codes to the rows of `out`; advance positions and clear `valid` of malformed ones in place."""
        low_shift = (63 - k).astype(np.uint64)
        length = k + 1
        index, shift = np.empty_like(at), np.empty_like(at)
        words, heads = np.empty(len(at), np.uint64), np.empty(len(at), np.uint64)
        zeros = np.empty_like(at)
        for codes in out:
            np.right_shift(at, 3, out=index)
            self._windows.take(index, out=words, mode="clip")
            np.bitwise_and(at, 7, out=shift)
            np.left_shift(words, shift.view(np.uint64), out=words)
            np.right_shift(words, _ESCAPE_SHIFT, out=heads)
            _LEADING_ZEROS.take(heads.view(np.int64), out=zeros, mode="clip")
            # The one that ends the unary part is bit k of what follows it, so the quotient is one too many.
            np.left_shift(words, zeros.view(np.uint64), out=words)
            np.right_shift(words, low_shift, out=words)
            np.subtract(zeros, 1, out=index)
            np.left_shift(index, k, out=index)
            np.add(words.view(np.int64), index, out=codes)
            np.add(at, zeros, out=at)
            escaped = np.flatnonzero(zeros == track_encoder.ESCAPE)
            np.add(at, length, out=at)
            if len(escaped):
                orders = k[escaped]
                rest, after, rest_valid = self.exp_golomb(at[escaped] - length[escaped], orders + 3)
                codes[escaped] = np.left_shift(track_encoder.ESCAPE, orders) + rest
                at[escaped] = after
                valid[escaped] &= rest_valid

    def _zero_runs(self, at: Ints, valid: Bools, parameter: Ints, out: Ints) -> None:
        """Write the codes of zero runs to the rows of `out`; like `_rice_codes`."""
        count = len(out)
        out[:] = 0
        done = np.zeros(len(at), np.int64)
        active = np.arange(len(at) if count else 0)
        orders = parameter - track_encoder.RUNS + 2
        while len(active):
            run, at[active], run_valid = self.exp_golomb(at[active], orders[active])
            done[active] += run
            # A run past the end is malformed; the batch is not read further.
            valid[active] &= run_valid & (done[active] <= count)
            active = active[valid[active] & (done[active] < count)]
            code, at[active], code_valid = self.exp_golomb(at[active], 0)
            out[done[active], active] = code + 1
            done[active] += 1
            valid[active] &= code_valid
            active = active[valid[active] & (done[active] < count)]
