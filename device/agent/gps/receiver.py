"""Sentences to fixes, one an epoch.

Two records are kept, as gpsd does: `_new` takes what the sentence at hand says; `_fix` takes from it just what that
sentence vouches for, and is cleared when the time of day moves. An epoch is reported when the next one starts, when the
line falls quiet, or on `flush`.
"""

from .fix import DATE_SUSPECT, DIFFERENTIAL, ESTIMATED, UNKNOWN
from .framer import scan
from .sentences import ALT, DGPS, DOP, DR, GSA, GSV, LATLON, MODE, SPEED, TIME, TRACK, Sentences

_QUIET_MS = 80
_SAME_MS = 10  # gpsd: times of day up to 10 ms apart are one epoch
_ROLLOVER_DAYS = 1023 * 7
_DAY_MS = 86400000
_ANY = TIME | LATLON | MODE | ALT | TRACK | SPEED
_KIND = scan.KIND
_COUNT = scan.COUNT


class GpsReceiver(Sentences):
    """Calls on_fix(fix) once an epoch, with one Fix that is used again: copy what must outlive the call.

    date_floor  days since 1970-01-01; an earlier date is flagged DATE_SUSPECT (GPS week rollover), as is a jump back
                by 1023 weeks or more
    ignored     counts well-formed sentences of no use here
    """

    def __init__(self, on_fix, date_floor=0):
        super().__init__(self._sentence)
        self._on_fix = on_fix
        self._date_floor = date_floor
        self._dirty = False
        self._reported = False  # by poll: what comes late of the same epoch makes no second report
        self._now_ms = self._heard_ms = self._epoch_ms = 0
        self._latest_day = UNKNOWN
        self._untimed_seen = 0
        # The last fix with a time: with `_last_mode` and `_old_alt` all that gpsd's rules ask of the past.
        self._last_day = self._last_ms = 0
        self._last_alt = False

    # --- the outside ---

    def feed(self, buf, n, now_ms):
        """Take buf[:n], received at now_ms. Never raises, whatever the bytes are."""
        if not self._dirty:
            self._epoch_ms = now_ms
        self._now_ms = self._heard_ms = now_ms
        super().feed(buf, n)

    def poll(self, now_ms):
        """Report the open epoch once the line has been quiet. Call it when no bytes are waiting."""
        if self._dirty and now_ms - self._heard_ms >= _QUIET_MS:
            self._now_ms = now_ms
            self.flush()
            self._reported = True

    def flush(self):
        """Report the open epoch now, if anything came since the last report."""
        if not self._dirty:
            return
        self._dirty = False
        fix = self._fix
        mode = fix.mode
        had = fix.flags
        flags = had if mode > 1 else 0
        if not mode:
            fix.mode = 1
        # What only the whole epoch tells.
        status = self._status
        hdop = self._hdop
        fix.hdop_e2 = hdop
        fix.sats = self._sats
        fix.systems = self._used_systems
        if status == DR:
            flags |= ESTIMATED
        elif status == DGPS:
            flags |= DIFFERENTIAL
        if hdop != UNKNOWN:
            fix.hacc_mm = hdop * 75 // 2 if status == DGPS else hdop * 150
        day = fix.day
        if day != UNKNOWN:
            if day < self._date_floor or (self._latest_day != UNKNOWN and self._latest_day - day >= _ROLLOVER_DAYS):
                flags |= DATE_SUSPECT
            else:
                self._latest_day = day
        fix.flags = flags
        fix.age_ms = self._now_ms - self._epoch_ms
        self._on_fix(fix)
        fix.mode = mode
        fix.flags = had

    # --- one sentence ---

    def _sentence(self):
        state = self.state
        kind = state[_KIND]
        count = state[_COUNT]
        line = self.line
        # "P" is for proprietary sentences, but Quectel says PQGSA and PQGSV for BeiDou and QZSS.
        if line[0] == 80 and (line[1] != 81 or (kind != GSA and kind != GSV)):
            kind = 0
        known = self._kinds.get(kind)
        if known is None or count < known[0]:
            self.ignored += 1
            self._gsa_talker = 0
            return
        if kind != GSA:
            self._gsa_talker = 0
            if kind == GSV:
                return
        before = self._this_tod
        mask = self._read(known, count)
        if mask & TIME and self._day == UNKNOWN and self._fix.day != UNKNOWN:
            self._renew()  # what had a time is told before the time is lost
        if self._timed:
            tod = self._this_tod
            if tod != before:
                if before == UNKNOWN or abs(tod - before) > _SAME_MS:
                    self._next_epoch(mask)
                else:
                    self._renew()
        elif known[2]:
            if self._untimed_seen & known[2]:
                self._renew()
            self._untimed_seen |= known[2]
        if mask:
            self._merge(mask, self._new)

    def _renew(self):
        """Report what is open; what follows makes a report of its own."""
        self.flush()
        self._reported = False
        self._untimed_seen = 0

    def _next_epoch(self, mask):
        """The time of day has moved: report the epoch before, and start afresh."""
        if mask & MODE and self._new.mode == 2:
            self._keep_3d()
        self.flush()
        self._reported = False
        self._untimed_seen = 0
        self._fix.clear()
        self._epoch_ms = self._now_ms
        if not mask & DOP:
            self._hdop = UNKNOWN

    def _keep_3d(self):
        """gpsd: a sentence that says 2D, and cannot tell it from 3D, does not take 3D away."""
        if self._fix.mode == 3 and (self._last_alt or self._old_alt):
            self._new.mode = 3

    def _merge(self, mask, new):
        fix = self._fix
        if mask & MODE:
            if new.mode == 2:
                self._keep_3d()
            fix.mode = new.mode
        if mask & TIME:
            if self._day == UNKNOWN:
                fix.day = fix.ms = UNKNOWN
            else:
                fix.day = self._day + self._tod // _DAY_MS
                fix.ms = self._tod % _DAY_MS
        if mask & LATLON:
            fix.lat_e7 = new.lat_e7
            fix.lon_e7 = new.lon_e7
            fix.flags = new.flags
        if mask & ALT:
            fix.alt_mm = new.alt_mm
        if mask & TRACK:
            fix.course_cd = new.course_cd
        if mask & SPEED:
            fix.speed_mms = new.speed_mms
        if mask & _ANY:
            self._dirty = not self._reported
        day = fix.day
        if day != UNKNOWN:
            ms = fix.ms
            if day != self._last_day or not -_SAME_MS < ms - self._last_ms < _SAME_MS:
                self._old_alt = self._last_alt
                self._last_day = day
                self._last_ms = ms
            self._last_alt = fix.alt_mm != UNKNOWN
            self._last_mode = fix.mode
