"""The loops over each sample of voice: machine code where MicroPython can, see patrolink_protocol.native.

Samples are signed 16-bit integers, little-endian, 8000 per second. A-law is patrolink_protocol.g711's.
"""

from patrolink_protocol.native import const, micropython, ptr8, ptr32  # noqa: F401

UNIT = const(80)  # samples in 10 ms: everything comes and goes in multiples of it
# A sine's period, 128 added.
_SINE = bytes(
    (128, 153, 177, 199, 218, 234, 245, 253, 255, 253, 245, 234, 218, 199, 177, 153)
    + (128, 103, 79, 57, 38, 22, 11, 3, 1, 3, 11, 22, 38, 57, 79, 103)
)


@micropython.viper
def fade(pcm: ptr8, n: int, keep: int) -> int:
    """Make n samples keep / 256 as loud; return the mean of their magnitudes before."""
    i = 0
    total = 0
    while i < 2 * n:
        v = pcm[i] | pcm[i + 1] << 8
        if v >= 32768:
            v = 65536 - v
            total += v
            v = 65536 - (v * keep >> 8)
        else:
            total += v
            v = v * keep >> 8
        pcm[i] = v & 255
        pcm[i + 1] = v >> 8 & 255
        i += 2
    return total // n


@micropython.viper
def blend(before: ptr8, pcm: ptr8, n: int):
    """Let n samples of `pcm` rise out of those of `before` that fall: two units in the time of one."""
    i = 0
    while i < n:
        a = before[2 * i] | before[2 * i + 1] << 8
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
    """Copy n bytes, upwards."""
    i = 0
    while i < n:
        out[to + i] = source[at + i]
        i += 1


@micropython.viper
def _tone(sine: ptr8, pcm: ptr8, n: int, phase: int, step: int, loud: int) -> int:
    i = 0
    while i < n:
        v = (sine[phase >> 11 & 31] - 128) * loud
        pcm[2 * i] = v & 255
        pcm[2 * i + 1] = v >> 8 & 255
        phase = (phase + step) & 0xFFFF
        i += 1
    return phase


def tone(pcm, n, phase, hz, loud):
    """Write n samples of a tone, 127 * loud at its peak; return the phase of the next one."""
    return _tone(_SINE, pcm, n, phase, hz * 65536 // 8000, loud)


@micropython.viper
def delays(transits: ptr32, later: ptr32, n: int, slot: int, transit: int) -> int:
    """Put a packet's transit time into the ring of n at `slot`, and how far it is behind the quickest into `later`.

    Return the transit of the quickest.
    """
    transits[slot] = transit
    least = transit
    i = 0
    while i < n:
        v = int(transits[i])
        if v < least:
            least = v
        i += 1
    later[slot] = transit - least
    return least


@micropython.viper
def percentile(later: ptr32, n: int) -> int:
    """Return the value that a twentieth of the n values is above."""
    above = n // 20
    bound = 0x3FFFFFFF
    while True:
        most = -1
        same = 0
        i = 0
        while i < n:
            v = int(later[i])
            if v < bound:
                if v > most:
                    most = v
                    same = 1
                elif v == most:
                    same += 1
            i += 1
        if same > above or most < 0:
            return most if most > 0 else 0
        above -= same
        bound = most
