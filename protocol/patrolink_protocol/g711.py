"""A-law companding of ITU-T G.711: one byte per sample. MicroPython subset.

Linear samples are signed 16-bit integers, little-endian; A-law keeps their upper 13 bits. The loops are machine code
where MicroPython can emit it (see `native`).
"""

from patrolink_protocol.native import const, micropython, ptr8  # noqa: F401

SILENCE = const(0xD5)  # the code of sample 0


@micropython.viper
def encode(pcm: ptr8, n: int, alaw: ptr8, offset: int) -> int:
    """Encode linear samples as A-law (G.711, table 1a).

    Args:
        pcm: Linear samples; the first `n` are encoded.
        n: Number of samples, at least 1.
        alaw: Writable buffer for the codes.
        offset: Index in `alaw` of the first code.

    Returns:
        The mean magnitude of the samples, 0 to 32767.
    """
    i = 0
    total = 0
    while i < n:
        v = pcm[2 * i] | pcm[2 * i + 1] << 8
        mask = 0xD5
        if v >= 32768:
            v = 65535 - v
            mask = 0x55
        total += v
        v >>= 3
        segment = 0
        while v >> (segment + 5):
            segment += 1
        v = (v >> (segment if segment > 1 else 1)) & 15 | segment << 4
        alaw[offset + i] = v ^ mask
        i += 1
    return total // n


@micropython.viper
def decode(alaw: ptr8, offset: int, n: int, pcm: ptr8, pcm_offset: int):
    """Decode A-law to linear samples: the middle of each quantising interval (G.711, table 1a).

    Args:
        alaw: Codes; those from `offset` on are decoded.
        offset: Index in `alaw` of the first code.
        n: Number of samples.
        pcm: Writable buffer for the linear samples.
        pcm_offset: Position in `pcm` of the first sample, in samples.
    """
    i = 0
    while i < n:
        a = alaw[offset + i] ^ 0x55
        v = (a & 15) << 4 | 8
        segment = a >> 4 & 7
        if segment:
            v = (v + 256) << (segment - 1)
        if a < 128:
            v = 65536 - v
        pcm[2 * (pcm_offset + i)] = v & 255
        pcm[2 * (pcm_offset + i) + 1] = v >> 8 & 255
        i += 1
