"""Speech of which every syllable can be recognised, and what a listener heard of it."""

from typing import NamedTuple

import numpy as np

RATE = 8000
SYLLABLE = 1600  # samples
PERIOD = 2400  # from one syllable to the next
_UNIT = 80  # samples in 10 ms
_ALIKE = 0.4  # correlation from which a syllable is recognised; others give less than 0.2
_INTACT = 0.9  # correlation of 10 ms from which they were not concealed


class Syllable(NamedTuple):
    """A syllable that was received.

    Attributes:
        number: Its number in the speech.
        delay_ms: Time from mouth to ear.
        intact: Part of its 10 ms units that was heard as spoken, not concealed.
    """

    number: int
    delay_ms: float
    intact: float


def make_speech(seed: int, seconds: float) -> np.ndarray:
    """Return noise in syllables of 200 ms with pauses of 100 ms; it correlates only with a copy of it."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    syllables = (np.arange(n) % PERIOD) < SYLLABLE
    return (rng.normal(0, 4000, n) * syllables).clip(-32000, 32000).astype(np.int16)


def find_syllables(spoken: np.ndarray, received: np.ndarray) -> list[Syllable]:
    """Return the syllables that were received, in the order of hearing; one that was heard twice is there twice.

    Args:
        spoken: Speech of `make_speech`.
        received: What the speaker played, from the time on at which the first syllable was spoken.
    """
    matches = []
    window = received.astype(float)
    squares = np.concatenate([[0], np.cumsum(window**2)])
    energy = squares[SYLLABLE:] - squares[:-SYLLABLE]
    size = 1 << (len(window) + SYLLABLE).bit_length()
    spectrum = np.fft.rfft(window, size)
    for number, start in enumerate(range(0, len(spoken) - SYLLABLE + 1, PERIOD)):
        pattern = spoken[start : start + SYLLABLE].astype(float)
        product = np.fft.irfft(spectrum * np.conj(np.fft.rfft(pattern, size)), size)[: len(energy)]
        alike = product / np.sqrt(energy * np.dot(pattern, pattern) + 1)
        while (best := int(np.argmax(alike))) >= 0 and alike[best] > _ALIKE:
            intact = _intact(pattern, window[best : best + SYLLABLE])
            matches.append((best, Syllable(number, (best - start) * 1000 / RATE, intact)))
            alike[max(0, best - SYLLABLE) : best + SYLLABLE] = 0
    return [syllable for _, syllable in sorted(matches)]


def _intact(spoken: np.ndarray, received: np.ndarray) -> float:
    a, b = spoken.reshape(-1, _UNIT), received.reshape(-1, _UNIT)
    alike = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1) + 1)
    return float((alike > _INTACT).mean())
