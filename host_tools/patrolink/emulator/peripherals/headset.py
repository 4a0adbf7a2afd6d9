"""An emulated headset: microphone and speaker of a device, in real time, in a thread.

Samples are 16 bit, little-endian, 8000 per second. The microphone delivers blocks of 10 ms, as a converter does, from
the moment the device opens it; blocks that the device does not read in time are lost.
"""

import contextlib
import os
import select
import threading
import time

from patrolink.emulator.peripherals.serial_line import Line

RATE = 8000
_UNIT = 160  # bytes in 10 ms
_UNIT_S = 0.01
_WATCH_S = 0.002  # polling interval of the microphone's state
_SILENCE = bytes(_UNIT)


class Headset:
    """A headset on two PTYs.

    Attributes:
        mic: Path of the microphone's PTY.
        speaker: Path of the speaker's PTY.
        opened_s: Monotonic time at which the microphone was last opened; None while it is closed.
        played: All samples sent to the speaker, as (monotonic seconds, bytes).
    """

    def __init__(self) -> None:
        self._mic, self._speaker = Line(held=False), Line()
        self.mic, self.speaker = self._mic.path, self._speaker.path
        self.opened_s: float | None = None
        self.played: list[tuple[float, bytes]] = []
        self._voice = b""
        self._from = self._delivered = 0  # offset of the speech in the microphone's data, and number of bytes delivered
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="headset")
        self._thread.start()

    def speak(self, samples: bytes, after_s: float = 0.0) -> None:
        """Speak when the microphone is opened next, after a delay, with silence before and after."""
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
        return max(0.0, self.opened_s + (self._delivered // _UNIT + 1) * _UNIT_S - time.monotonic())

    def _speak(self) -> None:
        if not self._mic.in_use():
            self.opened_s = None
            return
        now = time.monotonic()
        if self.opened_s is None:
            self.opened_s, self._delivered = now, 0
        while self.opened_s + (self._delivered // _UNIT + 1) * _UNIT_S <= now:
            at = self._delivered - self._from
            unit = self._voice[at : at + _UNIT] if at >= 0 else b""
            with contextlib.suppress(OSError):  # no reader
                os.write(self._mic.master, unit + _SILENCE[len(unit) :])
            self._delivered += _UNIT

    def close(self) -> None:
        """Unplug the headset."""
        self._stop = True
        self._thread.join()
        self._mic.close()
        self._speaker.close()
