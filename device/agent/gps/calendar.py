"""The date of an epoch: receivers send it rarely, late, or wrong by a week rollover.

A date is believed within 20 years from the build of the firmware. Of several that contradict each other, the one that
more epochs with a fix confirmed prevails (Boyer and Moore's majority vote): one bad date never outvotes many good ones,
and many good ones displace a bad one. Epochs without a date get the day nearest to the time that has passed since.
"""

import patrolink_enums as enums
from patrolink_protocol.native import const

RELEASE_DAY = const(20089)  # 2025-01-01: before the first release, so that no true date is earlier
_WINDOW_DAYS = const(7305)  # 20 years
# After a rollover by 1,023 or 1,024 weeks a true date of the first months after the build would be in the window.
_FAR_DAYS = const(7000)
_DAY_MS = const(86400000)
_HALF_MS = const(43200000)
_WEIGHT_MAX = const(3600)  # an hour at 1 Hz


def nearest_shift(tod_ms, near_ms):
    """Return the number of days (-1, 0, 1) to add so that a time of day is within 12 h of another one."""
    difference = tod_ms - near_ms
    return 1 if difference < -_HALF_MS else -1 if difference > _HALF_MS else 0


class Calendar:
    """Finds the date of each epoch.

    Args:
        floor_day: Days since 1970-01-01 of the build; an earlier date is wrong.

    Attributes:
        suspect: Whether the last result of `resolve` is not to be believed.
    """

    def __init__(self, floor_day):
        self._floor_day = floor_day
        self._day = enums.UNKNOWN  # date, time of day and monotonic time of the last epoch
        self._tod_ms = 0
        self._mono_ms = 0
        # Epochs with a fix that confirmed the date, less those that contradicted it; -1: not to be believed.
        self._weight = -1
        self.suspect = False

    def resolve(self, stated_day, stated_tod_ms, tod_ms, now_ms, has_fix):
        """Return the day of an epoch, or UNKNOWN.

        Args:
            stated_day: Date that the receiver sent with this epoch, or UNKNOWN.
            stated_tod_ms: Time of day for which it was sent.
            tod_ms: Time of day of the epoch.
            now_ms: Monotonic time of the epoch.
            has_fix: Whether the epoch has a measured position. Without one a receiver sends its own clock.
        """
        if stated_day == enums.UNKNOWN:
            day = self._expected(tod_ms, now_ms)
            self.suspect = self._weight < 0
            if day != enums.UNKNOWN:
                self._keep(day, tod_ms, now_ms)
            return day
        day = stated_day
        if tod_ms != stated_tod_ms:
            day += nearest_shift(tod_ms, stated_tod_ms)
        above = day - self._floor_day
        if not 0 <= above <= _WINDOW_DAYS:
            self.suspect = True
            if self._weight < 0:
                self._keep(day, tod_ms, now_ms)
            return day
        vote = 1 if has_fix and above < _FAR_DAYS else 0
        if self._weight >= 0 and day == self._expected(tod_ms, now_ms):
            if self._weight < _WEIGHT_MAX:
                self._weight += vote
        elif self._weight <= 0:
            self._weight = vote
        else:
            self._weight -= vote
            self.suspect = True
            return day
        self.suspect = False
        self._keep(day, tod_ms, now_ms)
        return day

    def _keep(self, day, tod_ms, now_ms):
        self._day = day
        self._tod_ms = tod_ms
        self._mono_ms = now_ms

    def _expected(self, tod_ms, now_ms):
        """Return the day on which `tod_ms` is nearest to the last epoch plus the time that has passed."""
        if self._day == enums.UNKNOWN:
            return enums.UNKNOWN
        at_ms = self._tod_ms + now_ms - self._mono_ms
        if at_ms < _DAY_MS and -_HALF_MS <= tod_ms - at_ms <= _HALF_MS:
            return self._day
        return self._day + at_ms // _DAY_MS + nearest_shift(tod_ms, at_ms % _DAY_MS)
