"""Read bit fields of many byte strings at once, with numpy."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_GET_MAX_BITS = 57
# Longer codes would lose digits in a float64. No real batch comes near.
_EXP_GOLOMB_MAX_BITS = 24


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

    def exp_golomb(self, at: Ints, k: int) -> tuple[Ints, Ints, Bools]:
        """Read an Exp-Golomb code of order k at each position.

        Returns:
            The values, the positions after them, and which values are valid.
        """
        head = self.get(at, _GET_MAX_BITS).astype(np.float64)
        zeros = _GET_MAX_BITS - np.frexp(head)[1].astype(np.int64)
        valid = zeros + k < _EXP_GOLOMB_MAX_BITS
        zeros = np.where(valid, zeros, 0)
        size = zeros + k + 1
        return self.get(at + zeros, size) - (1 << k), at + zeros + size, valid
