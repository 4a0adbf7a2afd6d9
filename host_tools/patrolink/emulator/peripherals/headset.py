"""An emulated headset: the far end of a device's microphone and speaker, in real time, in a thread of its own.

Samples are 16 bits, little-endian, 8000 a second. The microphone gives ten milliseconds when they are over, as a
converter does, from the moment the device opens it; what the device does not read in time is lost.
"""

import contextlib
import os
import select
import threading
import time

from patrolink.emulator.peripherals.serial_line import Line

RATE = 8000
_UNIT = 160  # bytes of 10 ms
_UNIT_S = 0.01
_WATCH_S = 0.002  # how closely the opening of the microphone is watched
_SILENCE = bytes(_UNIT)


class Headset:
    """Give the device the paths `mic` and `speaker`.

    opened_s   when the microphone was opened last, on the monotonic clock; None while it is closed
    heard      (monotonic seconds, samples) of everything that came to the speaker, in order
    """

    def __init__(self) -> None:
        self._mic, self._speaker = Line(held=False), Line()
        self.mic, self.speaker = self._mic.path, self._speaker.path
        self.opened_s: float | None = None
        self.played: list[tuple[float, bytes]] = []
        self._voice = b""
        self._from = self._given = 0  # bytes: where in what the microphone gives the voice begins; what it has given
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="headset")
        self._thread.start()

    def speak(self, samples: bytes, after_s: float = 0.0) -> None:
        """When the microphone is opened next, speak so long after that; silence before and behind."""
        self._voice, self._from = samples, int(after_s / _UNIT_S) * _UNIT

    def _run(self) -> None:
        while not self._stop:
            ready, _, _ = select.select([self._speaker.master], [], [], self._wait_s())
            if ready:
                with contextlib.suppress(OSError):
                    self.played.append((time.monotonic(), os.read(self._speaker.master, 4096)))
            self._speak()

    def _wait_s(self) -> float:
        if self.opened_s is None:
            return _WATCH_S
        return max(0.0, self.opened_s + (self._given // _UNIT + 1) * _UNIT_S - time.monotonic())

    def _speak(self) -> None:
        if not self._mic.in_use():
            self.opened_s = None
            return
        now = time.monotonic()
        if self.opened_s is None:
            self.opened_s, self._given = now, 0
        while self.opened_s + (self._given // _UNIT + 1) * _UNIT_S <= now:
            at = self._given - self._from
            unit = self._voice[at : at + _UNIT] if at >= 0 else b""
            with contextlib.suppress(OSError):  # nobody reads
                os.write(self._mic.master, unit + _SILENCE[len(unit) :])
            self._given += _UNIT

    def close(self) -> None:
        """Pull the plug."""
        self._stop = True
        self._thread.join()
        self._mic.close()
        self._speaker.close()
