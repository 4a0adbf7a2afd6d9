"""The clock of the device: UTC that runs on without a receiver, never backwards, and follows it when there is a fix.

A receiver sends the time of an epoch 50 to 500 ms after it, as long as it computes and as busy as its line is. Of the
last 16 to 32 epochs the one with the least delay is nearest to the truth; the clock approaches it by 8 ms a second at
most, and drifts by the tolerance of the crystal without a fix: 20 ppm are 0.9 s in 12 hours.

The clock is stepped only by the first fix, by the first time from the network, and after eight epochs that agree on
another time.
"""

import patrolink_enums as enums
from agent.gps.fix import DATE_SUSPECT, HAS_POSITION, MANUAL, SIMULATED
from patrolink_protocol.native import const

NONE, NETWORK, RECEIVER = 0, 1, 2
_DAY_MS = const(86400000)
_FAR_MS = const(2000)
_FAR_SAMPLES = const(8)
_AGREE_MS = const(300)  # epochs that waited in a buffer differ by their interval: their delay is no other time
_WINDOW = const(16)  # samples
_SLEW_PER_S = const(8)  # ms
_NO_ERROR = const(-1000000)


class DeviceClock:
    """Keeps the time.

    Attributes:
        source: NONE, NETWORK or RECEIVER. NONE while there is no time, or only that of a receiver without a fix.
    """

    def __init__(self):
        self.source = NONE
        self._is_set = False
        self._day = self._ms = self._mono_ms = 0  # UTC at a monotonic time
        self._answered_mono_ms = self._answered_day = self._answered_ms = 0  # the last answer
        self._slewed_ms = 0
        self._best_ms = self._last_best_ms = _NO_ERROR  # greatest error of this window, and of the one before
        self._samples = 0
        self._far_ms = self._far_samples = 0

    def is_set(self):
        """Return whether there is a time."""
        return self._is_set

    def set_network(self, day, ms, now_ms):
        """Set the time from the network or the hub; ignored once it is known from there or from a fix.

        Args:
            day: Days since 1970-01-01.
            ms: Milliseconds of that day, UTC.
            now_ms: Monotonic milliseconds of that time.
        """
        if self.source == NONE:
            self._step(day, ms, now_ms)
            self.source = NETWORK

    def on_fix(self, fix, now_ms):
        """Follow the time of a fix that is reported at the monotonic time `now_ms`."""
        if fix.day == enums.UNKNOWN or fix.ms == enums.UNKNOWN or fix.flags & DATE_SUSPECT:
            return
        at_ms = now_ms - fix.age_ms
        if fix.flags & (HAS_POSITION | MANUAL | SIMULATED) != HAS_POSITION:
            if not self._is_set:
                self._step(fix.day, fix.ms, at_ms)
            return
        if self.source != RECEIVER:
            self._step(fix.day, fix.ms, at_ms)
            self.source = RECEIVER
            return
        ms = self._ms + at_ms - self._mono_ms
        day = self._day + ms // _DAY_MS
        error_ms = max(-10, min(fix.day - day, 10)) * _DAY_MS + fix.ms - ms % _DAY_MS
        if -_FAR_MS <= error_ms <= _FAR_MS:
            self._far_samples = 0
            self._slew(error_ms, at_ms)
            return
        agrees = self._far_samples and -_AGREE_MS <= error_ms - self._far_ms <= _AGREE_MS
        self._far_samples = self._far_samples + 1 if agrees else 1
        self._far_ms = error_ms
        if self._far_samples >= _FAR_SAMPLES:
            self._step(fix.day, fix.ms, at_ms)

    def time(self, now_ms):
        """Return (day, millisecond of the day) at a monotonic time. Not before the time is set."""
        ms = self._ms + now_ms - self._mono_ms
        day = self._day + ms // _DAY_MS
        ms %= _DAY_MS
        if now_ms >= self._answered_mono_ms:
            if day < self._answered_day or (day == self._answered_day and ms < self._answered_ms):
                return self._answered_day, self._answered_ms  # it was slewed back since the last answer
            self._answered_mono_ms = now_ms
            self._answered_day = day
            self._answered_ms = ms
        return day, ms

    def unix_ms(self, now_ms):
        """Return the unix time of a monotonic time, both in ms; None while no time is known."""
        if not self._is_set:
            return None
        day, ms = self.time(now_ms)
        return day * _DAY_MS + ms

    def _step(self, day, ms, at_ms):
        self._is_set = True
        self._day = day
        self._ms = ms
        self._mono_ms = self._slewed_ms = at_ms
        self._answered_mono_ms = self._answered_day = self._answered_ms = 0
        self._best_ms = self._last_best_ms = _NO_ERROR
        self._samples = self._far_samples = 0

    def _slew(self, error_ms, at_ms):
        """Take a sample of the clock's error; approach that of the least delay, the greatest."""
        self._best_ms = max(self._best_ms, error_ms)
        wanted_ms = max(self._best_ms, self._last_best_ms)
        most_ms = max((at_ms - self._slewed_ms) * _SLEW_PER_S // 1000, 0)
        if most_ms:
            self._slewed_ms = at_ms
        step_ms = max(-most_ms, min(wanted_ms, most_ms))
        ms = self._ms + step_ms + at_ms - self._mono_ms
        self._day += ms // _DAY_MS
        self._ms = ms % _DAY_MS
        self._mono_ms = at_ms
        self._best_ms -= step_ms
        self._last_best_ms -= step_ms
        self._samples += 1
        if self._samples >= _WINDOW:
            self._samples = 0
            self._last_best_ms = self._best_ms
            self._best_ms = _NO_ERROR
