"""Judges positions by what a wearer can do: jumps, and the drift of a receiver at rest.

The received position is never changed: a judged one stands beside it in the fix, with a flag that tells why it differs.
Batches carry the received positions; events and geofences use the judged ones.

Speed gate: a position farther from the last good one than the wearer can have moved, errors included, is IMPLAUSIBLE.
Four of them that are plausible among themselves are believed: then the last good one was wrong, or the way led through
a tunnel.

Static hold: after 10 s slower than 0.5 m/s and near one place the position is HELD there, until it leaves the error
around it or the wearer walks.
"""

import patrolink_enums as enums
from agent.gps.fix import HAS_POSITION, HELD, IMPLAUSIBLE
from patrolink_protocol.native import const

from .distance import is_within

_SPEED_MAX_MMS = const(70000)  # 250 km/h, in a vehicle
_ACCELERATION = const(10)  # mm/s per ms: 10 m/s^2
_BELIEVED = const(4)
_HACC_UNKNOWN_MM = const(15000)
_STILL_MMS = const(500)
_WALKING_MMS = const(1000)
_WALKING_FIXES = const(2)
_HOLD_AFTER_MS = const(10000)
_HOLD_MIN_MM = const(5000)
_HOLD_MAX_MM = const(30000)
_DAY_MS = const(86400000)
_HOUR_MS = const(3600000)


class _Place:
    """A position, and what limits the next one."""

    def __init__(self):
        self.lat_e7 = self.lon_e7 = 0
        self.now_ms = self.hacc_mm = 0
        self.tod_ms = self.speed_mms = enums.UNKNOWN

    def take(self, fix, now_ms):
        """Set it to the position of a fix."""
        self.lat_e7 = fix.lat_e7
        self.lon_e7 = fix.lon_e7
        self.now_ms = now_ms
        self.tod_ms = fix.ms
        self.speed_mms = fix.speed_mms
        self.hacc_mm = _HACC_UNKNOWN_MM if fix.hacc_mm == enums.UNKNOWN else fix.hacc_mm

    def reaches(self, fix, now_ms):
        """Return whether the wearer can have moved from here to the position of a fix."""
        # Epochs that waited in a buffer arrive together: their own times tell how far they are apart.
        elapsed_ms = now_ms - self.now_ms
        if fix.ms != enums.UNKNOWN and self.tod_ms != enums.UNKNOWN:
            by_fix_ms = (fix.ms - self.tod_ms) % _DAY_MS
            if elapsed_ms < by_fix_ms < _HOUR_MS:
                elapsed_ms = by_fix_ms
        speed_mms = _SPEED_MAX_MMS
        if fix.speed_mms != enums.UNKNOWN and self.speed_mms != enums.UNKNOWN:
            speed_mms = min(max(fix.speed_mms, self.speed_mms) + _ACCELERATION * min(elapsed_ms, 7000), speed_mms)
        hacc_mm = _HACC_UNKNOWN_MM if fix.hacc_mm == enums.UNKNOWN else fix.hacc_mm
        limit_mm = speed_mms // 10 * (elapsed_ms // 10) // 10 + hacc_mm + self.hacc_mm
        return is_within(self.lat_e7, self.lon_e7, fix.lat_e7, fix.lon_e7, limit_mm)


class PositionJudge:
    """Sets the judged position of each fix, and its flags IMPLAUSIBLE and HELD."""

    def __init__(self):
        self._good = None
        self._jumped = _Place()
        self._jumps = 0  # consecutive implausible positions that are plausible among themselves
        self._lat_e7 = self._lon_e7 = 0  # where the wearer may be at rest, and since when
        self._since_ms = 0
        self._is_held = False
        self._walking = 0

    def on_fix(self, fix, now_ms):
        """Judge a fix that was received at the monotonic time `now_ms`."""
        if not fix.flags & HAS_POSITION:
            return
        good = self._good
        if good is None:
            good = self._good = _Place()
            self._rest_at(fix, now_ms)
        elif not good.reaches(fix, now_ms):
            self._jumps = self._jumps + 1 if self._jumps and self._jumped.reaches(fix, now_ms) else 1
            self._jumped.take(fix, now_ms)
            if self._jumps < _BELIEVED:
                fix.flags |= IMPLAUSIBLE
                fix.judged_lat_e7 = self._lat_e7 if self._is_held else good.lat_e7
                fix.judged_lon_e7 = self._lon_e7 if self._is_held else good.lon_e7
                return
            self._rest_at(fix, now_ms)
        self._jumps = 0
        good.take(fix, now_ms)
        self._hold(fix, now_ms)

    def _rest_at(self, fix, now_ms):
        self._lat_e7 = fix.lat_e7
        self._lon_e7 = fix.lon_e7
        self._since_ms = now_ms
        self._is_held = False
        self._walking = 0

    def _hold(self, fix, now_ms):
        speed_mms = fix.speed_mms
        self._walking = self._walking + 1 if speed_mms >= _WALKING_MMS else 0
        limit_mm = min(max(self._good.hacc_mm, _HOLD_MIN_MM), _HOLD_MAX_MM)
        if (
            self._walking >= _WALKING_FIXES
            or (speed_mms >= _STILL_MMS and not self._is_held)
            or not is_within(self._lat_e7, self._lon_e7, fix.lat_e7, fix.lon_e7, limit_mm)
        ):
            self._rest_at(fix, now_ms)
        elif now_ms - self._since_ms >= _HOLD_AFTER_MS:
            self._is_held = True
        if self._is_held:
            fix.flags |= HELD
            fix.judged_lat_e7 = self._lat_e7
            fix.judged_lon_e7 = self._lon_e7
