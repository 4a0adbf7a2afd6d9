"""Loops over samples of voice, compiled to machine code by MicroPython (see patrolink_protocol.native).

Samples are signed 16-bit integers, little-endian, 8000 per second. A-law is in patrolink_protocol.g711.
"""

from patrolink_protocol.native import const, micropython, ptr8, ptr32  # noqa: F401

UNIT = const(80)  # samples in 10 ms, the unit of all audio processing
# One period of a sine, with an offset of 128.
_SINE = bytes(
    (128, 153, 177, 199, 218, 234, 245, 253, 255, 253, 245, 234, 218, 199, 177, 153)
    + (128, 103, 79, 57, 38, 22, 11, 3, 1, 3, 11, 22, 38, 57, 79, 103)
)


@micropython.viper
def fade(pcm: ptr8, n: int, gain: int) -> int:
    """Multiply n samples by gain / 256 in place; return the mean magnitude that they had before."""
    i = 0
    total = 0
    while i < 2 * n:
        v = pcm[i] | pcm[i + 1] << 8
        if v >= 32768:
            v = 65536 - v
            total += v
            v = 65536 - (v * gain >> 8)
        else:
            total += v
            v = v * gain >> 8
        pcm[i] = v & 255
        pcm[i + 1] = v >> 8 & 255
        i += 2
    return total // n


@micropython.viper
def blend(previous: ptr8, pcm: ptr8, n: int):
    """Crossfade from the n samples of `previous` to those of `pcm`, in place in `pcm`."""
    i = 0
    while i < n:
        a = previous[2 * i] | previous[2 * i + 1] << 8
        b = pcm[2 * i] | pcm[2 * i + 1] << 8
        if a >= 32768:
            a -= 65536
        if b >= 32768:
            b -= 65536
        v = (a * (n - i) + b * i) // n
        if v < 0:
            v += 65536
        pcm[2 * i] = v & 255
        pcm[2 * i + 1] = v >> 8 & 255
        i += 1


@micropython.viper
def copy(source: ptr8, at: int, out: ptr8, to: int, n: int):
    """Copy n bytes from source[at:] to out[to:], in ascending order."""
    i = 0
    while i < n:
        out[to + i] = source[at + i]
        i += 1


@micropython.viper
def _tone(sine: ptr8, pcm: ptr8, n: int, phase: int, step: int, amplitude: int) -> int:
    i = 0
    while i < n:
        v = (sine[phase >> 11 & 31] - 128) * amplitude
        pcm[2 * i] = v & 255
        pcm[2 * i + 1] = v >> 8 & 255
        phase = (phase + step) & 0xFFFF
        i += 1
    return phase


def tone(pcm, n, phase, hz, amplitude):
    """Write n samples of a sine with a peak of 127 * amplitude; return the phase of the next sample, 65536 a period."""
    return _tone(_SINE, pcm, n, phase, hz * 65536 // 8000, amplitude)


@micropython.viper
def add_transit(transits: ptr32, lateness: ptr32, n: int, slot: int, transit: int) -> int:
    """Store the transit time of a packet, and its difference to the shortest one.

    Args:
        transits: ring of the last n transit times.
        lateness: ring of their differences.
        n: number of valid entries, the new one included.
        slot: index of the new entry.
        transit: its transit time.

    Returns:
        The shortest of the n transit times.
    """
    transits[slot] = transit
    shortest = transit
    i = 0
    while i < n:
        v = int(transits[i])
        if v < shortest:
            shortest = v
        i += 1
    lateness[slot] = transit - shortest
    return shortest


@micropython.viper
def percentile_95(values: ptr32, n: int) -> int:
    """Return the 95th percentile of n values, 0 if it is negative."""
    rank = n // 20  # this many values are above the result
    limit = 0x3FFFFFFF
    while True:
        # The largest value below the limit, and how often it occurs.
        largest = -1
        count = 0
        i = 0
        while i < n:
            v = int(values[i])
            if v < limit:
                if v > largest:
                    largest = v
                    count = 1
                elif v == largest:
                    count += 1
            i += 1
        if count > rank or largest < 0:
            return largest if largest > 0 else 0
        rank -= count
        limit = largest
