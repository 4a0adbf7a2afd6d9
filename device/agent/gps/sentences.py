"""Parses NMEA sentences into one record per epoch and tracks which fields each sentence type may set.

The rules follow the behaviour of gpsd (drivers/driver_nmea0183.c), so that both decode the same bytes alike.
"""

from array import array

import patrolink_enums as enums
from patrolink_protocol.native import const

from .epoch import DGPS, DR, PLAIN, EpochReporter
from .fix import HAS_POSITION, days_from_civil
from .framer import scan

# Values that a sentence may set.
TIME = const(1)
LATLON = const(2)
MODE = const(4)
STATUS = const(8)
ALT = const(16)
TRACK = const(32)
SPEED = const(64)
DOP = const(128)

# Sentence kinds by their last three letters.
_RMC = const(0x524D43)
_GGA = const(0x474741)
_GNS = const(0x474E53)
_GLL = const(0x474C4C)
_VTG = const(0x565447)
_GSA = const(0x475341)
_GSV = const(0x475356)
_ZDA = const(0x5A4441)

# Copies of scan's constants: MicroPython folds constants only within a module.
_EMPTY = const(1 - (1 << 30))
_COUNT = const(5)
_KIND = const(6)

_ANY = const(TIME | LATLON | MODE | ALT | TRACK | SPEED)
_SAME_MS = const(10)  # gpsd: times of day up to 10 ms apart are one epoch
_DAY_MS = const(86400000)
_FIELDS = 20
_NO_DOP = const(9000)  # receivers send 0.00 or 99.99 for an unknown DOP
# GGA quality: none, GPS, DGPS, PPS, RTK, RTK float, dead reckoning, surveyed, simulated
_GGA_STATUS = (0, PLAIN, DGPS, PLAIN, DGPS, DGPS, DR, PLAIN, PLAIN)
# NMEA 4.11 system id by the second letter of the talker: GA GB BD GI GL GP GQ QZ
_TALKER_SYSTEM = {65: 3, 66: 4, 68: 4, 73: 6, 76: 2, 80: 1, 81: 5, 90: 5}


def _faa(mode):
    """Status of an FAA mode letter: D, F, P, R differential or better; E estimated; N, V, O none."""
    if mode in (68, 70, 80, 82):
        return DGPS
    if mode == 69:
        return DR
    return 0 if mode in (0, 78, 79, 86) else PLAIN


class GpsReceiver(EpochReporter):
    """Parses NMEA 0183 sentences and calls on_fix(fix) once per epoch.

    A sentence is parsed into `_new`, which is never cleared (gpsd's `newdata`). The mask of the sentence selects the
    values that are copied to `_fix`.

    Args:
        on_fix: As of EpochReporter.
        date_floor: As of EpochReporter.
        uart: As of EpochReporter.

    Attributes:
        ignored: Number of valid sentences that were not used.
    """

    def __init__(self, on_fix, date_floor=0, uart=None):
        super().__init__(self._sentence, on_fix, date_floor, uart)
        # Minimum number of fields; conversions for scan.fields; a bit for kinds that may lack a time; the fields of the
        # time of day and of the latitude if they are used regardless of the sentence's status; the parser.
        self._kinds = {
            _RMC: (8, b".tcn.e.32d..c", 1, 0, 3, self._rmc),
            _GGA: (13, b".tn.e.0023", 2, 1, 2, self._gga),
            _GNS: (13, b".tn.e.c023...c", 4, 1, 2, self._gns),
            _GLL: (7, b".n.e.tcc", 8, 5, 1, self._gll),
            _VTG: (5, b".2...3...c", 0, 0, 0, self._vtg),
            _GSA: (18, b"..0000000000000.2.0", 0, 0, 0, self._gsa),
            _GSV: (4, None, 0, 0, 0, None),  # satellites in view: not needed for a fix
            _ZDA: (4, b".t000", 0, 0, 0, self._zda),
        }
        self.ignored = 0
        self._values = array("i", [0] * _FIELDS)
        self._placed = False  # the current sentence has a latitude and a longitude
        self._this_tod = enums.UNKNOWN  # time of day of the previous sentence, to detect a new epoch
        self._timed = False
        self._date = -1  # the last valid ddmmyy, and its day
        self._date_day = 0
        self._gga_talker = 0
        self._gga_tod = -1
        self._latch = False
        self._gsa_talker = 0
        self._gsa_other = False
        self._used = bytearray(8)
        self._used_n = 0  # satellites used; more than four count as four

    def _sentence(self):
        """Process the current sentence."""
        state = self.state
        kind = state[_KIND]
        count = state[_COUNT]
        line = self.line
        # "P" marks proprietary sentences, but Quectel sends PQGSA and PQGSV for BeiDou and QZSS.
        if line[0] == 80 and (line[1] != 81 or (kind != _GSA and kind != _GSV)):
            kind = 0
        known = self._kinds.get(kind)
        if known is None or count < known[0]:
            self.ignored += 1
            self._gsa_talker = 0
            return
        if kind != _GSA:
            self._gsa_talker = 0
            if kind == _GSV:
                return
        before = self._this_tod
        _, spec, untimed, clock, place, take = known
        v = self._values
        n = scan.fields(line, self.ends, count, spec, len(spec), v)
        mask = 0
        self._timed = False
        if clock and v[clock] >= 0:
            self._tod = self._this_tod = v[clock]
            self._timed = True
            if self._day != enums.UNKNOWN:
                mask = TIME
        new = self._new
        if place:
            self._placed = n & 15 == 2
            if self._placed:
                new.lat_e7 = v[place]
                new.lon_e7 = v[place + 2]
                new.flags = HAS_POSITION if n == 2 else 0
        mask |= take(v)
        if mask & TIME and self._day == enums.UNKNOWN and self._fix.day != enums.UNKNOWN:
            self._renew()  # report the epoch that has a date before the date is lost
        if self._timed:
            tod = self._this_tod
            if tod != before:
                if before == enums.UNKNOWN or abs(tod - before) > _SAME_MS:
                    if mask & MODE and new.mode == 2:
                        self._keep_3d()
                    self._next_epoch(mask & DOP != 0)
                else:
                    self._renew()
        elif untimed:
            if self._untimed_seen & untimed:
                self._renew()
            self._untimed_seen |= untimed
        if mask:
            self._merge(mask, new)

    def _merge(self, mask, new):
        """Copy the values in `mask` from `new` to the open epoch."""
        fix = self._fix
        if mask & MODE:
            if new.mode == 2:
                self._keep_3d()
            fix.mode = new.mode
        if mask & TIME:
            if self._day == enums.UNKNOWN:
                fix.day = fix.ms = enums.UNKNOWN
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
        if day != enums.UNKNOWN:
            ms = fix.ms
            if day != self._last_day or not -_SAME_MS < ms - self._last_ms < _SAME_MS:
                self._old_alt = self._last_alt
                self._last_day = day
                self._last_ms = ms
            self._last_alt = fix.alt_mm != enums.UNKNOWN
            self._last_mode = fix.mode

    # --- parts of sentences ---

    def _velocity(self, knots, angle):
        """Set speed (1e-3 knots) and course (1e-2 degrees); return the mask of those present."""
        mask = 0
        new = self._new
        if knots != _EMPTY:
            # 463 / 900 in two steps: on small boards integers above 30 bits take memory.
            speed = knots // 900 * 463 + (knots % 900 * 463 + 450) // 900
            new.speed_mms = speed if 0 <= knots and speed <= 9999900 else enums.UNKNOWN
            mask = SPEED
        if angle != _EMPTY:
            new.course_cd = enums.UNKNOWN if angle == enums.UNKNOWN else angle % 36000
            mask |= TRACK
        return mask

    def _calendar(self, date):
        """Set the day from ddmmyy; return False if it is not a date. Years below 69 are in this century."""
        day = date // 10000
        month = date // 100 % 100
        year = date % 100
        if date < 0 or not (1 <= day <= 31 and 1 <= month <= 12):
            return False
        self._date = date
        self._date_day = days_from_civil(year + (2000 if year < 69 else 1900), month, day)
        return True

    # --- sentences; v holds the fields selected in `_kinds` ---

    def _rmc(self, v):
        new = self._new
        tod = v[1]
        date = v[9]
        if v[2] != 65:
            new.mode = 1
            self._status = 0
            if tod == _EMPTY or date == _EMPTY:
                self._day = enums.UNKNOWN
                return STATUS | MODE | TIME
            return STATUS | MODE
        mask = MODE | STATUS
        if tod >= 0 and date != _EMPTY:
            self._tod = tod
            if date == self._date or self._calendar(date):
                self._day = self._date_day
                self._this_tod = tod
                self._timed = True
                mask |= TIME
        status = 1
        if self._placed:
            mask |= LATLON
            new.mode = 2 if self._last_mode <= 2 else 3
        else:
            new.mode = 1
            status = 0
        if v[12] != _EMPTY:
            status = _faa(v[12])
        if self._used_n > 3 or self._fix.alt_mm != enums.UNKNOWN:
            new.mode = 3
        self._status = status
        return mask | self._velocity(v[7], v[8])

    def _gga(self, v):
        new = self._new
        mask = MODE
        quality = v[6]
        tod = v[1]
        if 0 <= quality <= 8:
            mask |= STATUS
            self._status = _GGA_STATUS[quality]
            if quality == 0 and tod == _EMPTY:
                self._day = enums.UNKNOWN
        talker = self.line[1]
        if self._gga_talker and self._gga_talker != talker:
            self._latch = False
        else:
            self._latch = tod == self._gga_tod or (tod < 0 and self._gga_tod < 0)
        self._gga_talker = talker
        if self._latch:
            self._status = 0
        else:
            self._gga_tod = tod
        sats = v[7]
        if sats != _EMPTY:
            self._sats = 0 if sats < 0 else 99 if sats > 99 else sats
        if self._placed:
            new.mode = 2
            mask |= LATLON
            if v[9] != _EMPTY:
                new.alt_mm = v[9]
                mask |= ALT
                if sats >= 4:
                    new.mode = 3
            if sats < 3 and self.line[0] == 71 and (talker == 80 or talker == 78):
                new.mode = 1
        else:
            new.mode = 1
        if 0 < v[8] < _NO_DOP:
            self._hdop = v[8]
            mask |= DOP
        return mask

    def _gns(self, v):
        new = self._new
        faa = v[6]
        if faa == _EMPTY or faa == 78:
            new.mode = 1
            return MODE
        safety = v[13]
        if safety == 85 or safety == 86:
            return 0
        mask = MODE | STATUS
        sats = max(v[7], 0)
        self._sats = min(sats, 99)
        if self._placed:
            mask |= LATLON
            new.mode = 2
            if v[9] != _EMPTY:
                new.alt_mm = v[9]
                mask |= ALT
                if sats > 3:
                    new.mode = 3
        else:
            new.mode = 1
        self._status = _faa(faa)
        if 0 < v[8] < _NO_DOP:
            self._hdop = v[8]
            mask |= DOP
        return mask

    def _gll(self, v):
        new = self._new
        mask = MODE | STATUS
        faa = v[7] if self.state[_COUNT] >= 8 else 65
        if v[6] == 65 and faa != 78 and self._placed:
            mask |= LATLON
            if self._fix.alt_mm != enums.UNKNOWN or self._used_n > 3:
                new.mode = 3
            elif self._fix.mode < 2 or not self._old_alt:
                new.mode = 2
            self._status = _faa(faa)
        else:
            new.mode = 1
            self._status = 0
        return mask

    def _vtg(self, v):
        if v[1] == _EMPTY or v[5] == _EMPTY:
            return 0
        faa = v[9]
        if faa == 69 or faa == 78:  # estimated, not valid
            return 0
        return self._velocity(v[5], v[1])

    def _gsa(self, v):
        mask = 0
        talker = self.line[1]
        before = self._gsa_talker
        if not self._latch:
            if 0 < v[2] < 4:
                self._new.mode = v[2]
                mask = MODE
            if 0 < v[16] < _NO_DOP and self.state[_COUNT] <= 19:
                self._hdop = v[16]
                mask |= DOP
            # Satellites used, over the GSA sentences of all constellations and without repeats.
            if not before or (before == talker and talker != 78 and talker != 81):
                self._used_n = 0
                self._used_systems = 0
            self._gsa_talker = talker
            result = scan.satellites(v, self._gsa_system(v, talker), self._used, self._used_n)
            self._used_n = result & 255
            self._used_systems |= result >> 8
        if talker != 80:
            self._gsa_other = True
        elif self._gsa_other:
            return 0
        if talker == 78 and before != 78:
            return MODE
        return mask

    def _gsa_system(self, v, talker):
        """NMEA system id of this GSA: the talker's, or field 18 (NMEA 4.10) for GN and PQ; 0 if unknown."""
        system = v[18] if self.state[_COUNT] == 19 and 0 <= v[18] <= 6 else 0
        if talker == 78:
            return system
        if talker == 81 and self.line[0] == 80 and system:
            return system
        return _TALKER_SYSTEM.get(talker, 0)

    def _zda(self, v):
        tod = v[1]
        if tod < 0 or v[2] == _EMPTY or v[3] == _EMPTY or v[4] == _EMPTY:
            return 0
        self._tod = tod
        day = v[2]
        month = v[3]
        year = v[4]
        if not (1900 <= year <= 2200 and 1 <= month <= 12 and 1 <= day <= 31):
            return 0
        self._day = days_from_civil(year, month, day)
        self._this_tod = tod
        self._timed = True
        return TIME
