"""Loops over samples: level, tone, crossfade and percentile."""

import struct
from array import array

from agent.audio import samples
from seeded_random import seeded


def test_fade_scales_and_returns_the_mean_magnitude():
    pcm = bytearray(struct.pack("<4h", 1000, -1000, 500, -500))
    assert samples.fade(pcm, 4, 128) == 750
    assert struct.unpack("<4h", pcm) == (500, -500, 250, -250)
    pcm = bytearray(struct.pack("<2h", -32768, 32767))
    samples.fade(pcm, 2, 256)
    assert struct.unpack("<2h", pcm) == (-32768, 32767)


def test_tone_has_its_frequency_and_amplitude():
    pcm = bytearray(1600)
    samples.tone(pcm, 800, 0, 1000, 48)
    values = struct.unpack("<800h", pcm)
    assert max(values) <= 127 * 48 and min(values) >= -128 * 48 and max(values) > 5000
    crossings = sum([1 for a, b in zip(values, values[1:]) if a < 0 <= b])
    assert 98 <= crossings <= 101  # 100 ms of 1000 Hz


def test_blend_crossfades():
    previous = bytearray(struct.pack("<4h", 4000, 4000, -4000, 32767))
    pcm = bytearray(struct.pack("<4h", 0, 0, 4000, -32768))
    samples.blend(previous, pcm, 4)
    assert struct.unpack("<4h", pcm) == (4000, 3000, 0, -16385)


def test_percentile_95_matches_a_sorted_list():
    below = seeded(95)
    for _ in range(50):
        n = 1 + below(100)
        values = [below(50) for _ in range(n)]
        result = samples.percentile_95(array("i", values + [999] * 3), n)
        assert result == sorted(values)[n - 1 - n // 20], (n, values)
