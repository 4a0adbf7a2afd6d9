"""A-law (ITU-T G.711) for numpy arrays, with tables computed by the one implementation in `patrolink_protocol`."""

import functools

import numpy as np
from numpy.typing import NDArray
from patrolink_protocol import g711

Samples = NDArray[np.int16]
_LEVEL_BITS = 13  # A-law ignores the lowest 3 bits of a 16-bit sample


@functools.cache
def _decoding_table() -> Samples:
    linear = bytearray(2 * 256)
    g711.decode(bytes(range(256)), 0, 256, linear, 0)
    return np.frombuffer(linear, "<i2").astype(np.int16)


@functools.cache
def _encoding_table() -> NDArray[np.uint8]:
    levels = 1 << _LEVEL_BITS
    linear = (np.arange(levels, dtype=np.uint16) << (16 - _LEVEL_BITS)).astype("<u2").tobytes()
    codes = bytearray(levels)
    g711.encode(linear, levels, codes, 0)
    return np.frombuffer(codes, np.uint8)


def decode(alaw: bytes) -> Samples:
    """Return A-law as 16-bit samples."""
    return _decoding_table()[np.frombuffer(alaw, np.uint8)]


def encode(samples: Samples) -> bytes:
    """Return 16-bit samples as A-law."""
    levels = samples.astype(np.int16).view(np.uint16) >> (16 - _LEVEL_BITS)
    codes: NDArray[np.uint8] = _encoding_table()[levels]
    return codes.tobytes()
