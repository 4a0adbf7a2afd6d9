"""What each NMEA sentence says, taken into one record, and what it vouches for. The rules are gpsd's
(drivers/driver_nmea0183.c as it behaves), so that both say the same of the same bytes.
"""

from .fix import BEIDOU, GALILEO, GLONASS, GPS, NAVIC, QZSS, UNKNOWN, Fix, days
from .framer import Framer

# What a sentence vouches for.
TIME, LATLON, MODE, STATUS, ALT, TRACK, SPEED, DOP = 1, 2, 4, 8, 16, 32, 64, 128

# Sentence kinds by their last three letters.
_RMC, _GGA, _GNS, _GLL, _VTG, _GSA, _GSV, _ZDA = (
    0x524D43,
    0x474741,
    0x474E53,
    0x474C4C,
    0x565447,
    0x475341,
    0x475356,
    0x5A4441,
)
_FEWEST = {_RMC: 8, _GGA: 13, _GNS: 13, _GLL: 7, _VTG: 5, _GSA: 18, _GSV: 4, _ZDA: 4}
UNTIMED_BIT = {_RMC: 1, _GGA: 2, _GNS: 4, _GLL: 8}

# NMEA 4.11 system ids, index 0 unknown.
_SYSTEM = (0, GPS, GLONASS, GALILEO, BEIDOU, QZSS, NAVIC)
_MOST_SATS = 64

# How good a position is: none, plain, differential or better, dead reckoning.
_PLAIN, DGPS, DR = 1, 2, 6
# GGA quality: none, GPS, DGPS, PPS, RTK, RTK float, dead reckoning, surveyed, simulated
_GGA_STATUS = (0, _PLAIN, DGPS, _PLAIN, DGPS, DGPS, DR, _PLAIN, _PLAIN)
# Second letter of the talker: GA GB BD GI GL GP GQ QZ
_TALKER_SYSTEM = {65: 3, 66: 4, 68: 4, 73: 6, 76: 2, 80: 1, 81: 5, 90: 5}


def _faa(mode):
    """Status of an FAA mode letter: D, F, P, R differential or better; E estimated; N, V, O none."""
    if mode in (68, 70, 80, 82):
        return DGPS
    if mode == 69:
        return DR
    return 0 if mode in (0, 78, 79, 86) else _PLAIN


class Sentences(Framer):
    """Reads sentences into `_new`, which is never cleared: the record that gpsd calls newdata.

    Rules of gpsd's that look back read `_fix` (the epoch so far), `_last_mode` and `_old_alt`; the subclass keeps them.
    """

    def __init__(self, on_sentence):
        super().__init__(on_sentence)
        self._handlers = {
            _RMC: self._rmc,
            _GGA: self._gga,
            _GNS: self._gns,
            _GLL: self._gll,
            _VTG: self._vtg,
            _GSA: self._gsa,
            _GSV: self._gsv,
            _ZDA: self._zda,
        }
        self.ignored = 0
        self._new = Fix()
        self._fix = Fix()
        self._day = UNKNOWN  # calendar and time of day as last told
        self._tod = 0
        self._this_tod = UNKNOWN  # time of day of the sentence before, for epoch changes
        self._timed = False
        self._hdop = UNKNOWN
        self._last_mode = 0
        self._old_alt = False
        self._gga_talker = 0
        self._gga_tod = -1
        self._latch = False
        self._gsa_talker = 0
        self._gsa_other = False
        self._used = bytearray(2 * _MOST_SATS)
        self._used_n = 0
        self._used_systems = 0
        self._sats = UNKNOWN
        self._status = 0

    def _kind(self):
        """Three-letter kind of the sentence at hand as a number; 0 when it is of no use here, which is counted."""
        line = self.line
        kind = 0
        if self.ends[0] == 5:
            kind = line[2] << 16 | line[3] << 8 | line[4]
            # "P" is for proprietary sentences, but Quectel says PQGSA and PQGSV for BeiDou and QZSS.
            if line[0] == 80 and (line[1] != 81 or (kind != _GSA and kind != _GSV)):
                kind = 0
        if kind != _GSA:
            self._gsa_talker = 0
        if kind not in self._handlers or self.count < _FEWEST[kind]:
            self.ignored += 1
            self._gsa_talker = 0
            return 0
        return kind

    def _read(self, kind):
        """Take the sentence into `_new`; return the mask of what it vouches for. `_timed`: it had a time."""
        self._timed = False
        return self._handlers[kind]()

    # --- pieces of sentences ---

    def _clock(self, f):
        """Take the time of day in field f; return TIME when a date goes with it."""
        tod = self.time_of_day(f)
        if tod == UNKNOWN:
            return 0
        self._tod = self._this_tod = tod
        self._timed = True
        return 0 if self._day == UNKNOWN else TIME

    def _position(self, f):
        """Take latitude, N/S, longitude, E/W from fields f to f+3; return whether they were there."""
        ns = self.first(f + 1)
        ew = self.first(f + 3)
        if not ns or not ew:
            return False
        lat = self.degrees(f)
        lon = self.degrees(f + 2)
        if lat == UNKNOWN or lon == UNKNOWN:
            return False
        new = self._new
        new.lat_e7 = -lat if ns == 83 else lat
        new.lon_e7 = -lon if ew == 87 else lon
        return True

    def _velocity(self, speed, course):
        mask = 0
        new = self._new
        if self.first(speed):
            knots = self.number(speed, 3)
            new.speed_mms = UNKNOWN if knots < 0 else (knots * 463 + 450) // 900
            if new.speed_mms > 9999900:
                new.speed_mms = UNKNOWN
            mask = SPEED
        if self.first(course):
            angle = self.number(course, 2)
            new.course_cd = UNKNOWN if angle == UNKNOWN else angle % 36000
            mask |= TRACK
        return mask

    def _dop(self, f):
        """Take HDOP from field f; receivers say 0.00 or 99.99 for none."""
        dop = self.number(f, 2)
        if 1 <= dop <= 8999:
            self._hdop = dop
            return DOP
        return 0

    def _forget_date(self):
        self._day = UNKNOWN

    # --- sentences ---

    def _rmc(self):
        new = self._new
        if self.first(2) != 65:
            new.mode = 1
            self._status = 0
            if not self.first(1) or not self.first(9):
                self._forget_date()
                return STATUS | MODE | TIME
            return STATUS | MODE
        mask = MODE | STATUS
        if self.first(1) and self.count > 9 and self.first(9):
            tod = self.time_of_day(1)
            if tod != UNKNOWN:
                self._tod = tod
                if self._date(9):
                    self._clock(1)
                    mask |= TIME
        status = 1
        if self._position(3):
            mask |= LATLON
            if self._last_mode <= 2:
                new.mode = 2
            else:
                new.mode = 3
        else:
            new.mode = 1
            status = 0
        mask |= self._velocity(7, 8)
        if self.count > 12 and self.first(12):
            status = _faa(self.first(12))
        if self._used_n > 3 or self._fix.alt_mm != UNKNOWN:
            new.mode = 3
        self._status = status
        return mask

    def _date(self, f):
        """Take ddmmyy from field f; return whether it is a date. Two-digit years below 69 are of this century."""
        i = self.ends[f - 1] + 1
        if self.ends[f] - i != 6:
            return False
        day = self._pair(i)
        month = self._pair(i + 2)
        year = self._pair(i + 4)
        if not (1 <= day <= 31 and 1 <= month <= 12 and year >= 0):
            return False
        self._day = days(year + (2000 if year < 69 else 1900), month, day)
        return True

    def _gga(self):
        new = self._new
        mask = MODE
        quality = self.number(6, 0)
        if 0 <= quality <= 8:
            mask |= STATUS
            self._status = _GGA_STATUS[quality]
            if quality == 0 and not self.first(1):
                self._forget_date()
        talker = self.line[1]
        tod = self.time_of_day(1)
        if self._gga_talker and self._gga_talker != talker:
            self._latch = False
        else:
            self._latch = tod == self._gga_tod or (tod == UNKNOWN and self._gga_tod < 0)
        self._gga_talker = talker
        if self._latch:
            self._status = 0
        else:
            self._gga_tod = tod
        sats = max(self.number(7, 0), 0)
        if self.first(7):
            self._sats = min(sats, 99)
        mask |= self._clock(1)
        if self._position(2):
            new.mode = 2
            mask |= LATLON
            if self.first(9):
                new.alt_mm = self.number(9, 3)
                mask |= ALT
                if sats >= 4:
                    new.mode = 3
            if sats < 3 and self.line[0] == 71 and (talker == 80 or talker == 78):
                new.mode = 1
        else:
            new.mode = 1
        return mask | self._dop(8)

    def _gns(self):
        new = self._new
        mask = self._clock(1)
        faa = self.first(6)
        if faa == 0 or faa == 78:
            new.mode = 1
            return mask | MODE
        safety = self.first(13)
        if safety == 85 or safety == 86:
            return mask
        sats = max(self.number(7, 0), 0)
        self._sats = min(sats, 99)
        if self._position(2):
            mask |= LATLON
            new.mode = 2
            if self.first(9):
                new.alt_mm = self.number(9, 3)
                mask |= ALT
                if sats > 3:
                    new.mode = 3
        else:
            new.mode = 1
        self._status = _faa(faa)
        return mask | MODE | STATUS | self._dop(8)

    def _gll(self):
        new = self._new
        mask = self._clock(5) | MODE | STATUS
        faa = self.first(7) if self.count >= 8 else 65
        if self.first(6) == 65 and faa != 78 and self._position(1):
            mask |= LATLON
            if self._fix.alt_mm != UNKNOWN or self._used_n > 3:
                new.mode = 3
            elif self._fix.mode < 2 or not self._old_alt:
                new.mode = 2
            self._status = _faa(faa)
        else:
            new.mode = 1
            self._status = 0
        return mask

    def _vtg(self):
        if not self.first(1) or not self.first(5):
            return 0
        faa = self.first(9)
        if faa == 69 or faa == 78:  # estimated, not valid
            return 0
        return self._velocity(5, 1)

    def _gsa(self):
        mask = 0
        talker = self.line[1]
        before = self._gsa_talker
        if not self._latch:
            mode = self.number(2, 0)
            if 1 <= mode <= 3:
                self._new.mode = mode
                mask = MODE
            if self.count <= 19:
                mask |= self._dop(16)
            self._take_used(talker, before)
        if talker != 80:
            self._gsa_other = True
        elif self._gsa_other:
            return 0
        if talker == 78 and before != 78:
            return MODE
        return mask

    def _take_used(self, talker, before):
        """Count the satellites used, over the GSA sentences of all constellations and without repeats."""
        if not before or (before == talker and talker != 78 and talker != 81):
            self._used_n = 0
            self._used_systems = 0
        self._gsa_talker = talker
        system = self._gsa_system(talker)
        used = self._used
        # The tag, two mode fields and three DOPs surround the satellites.
        for f in range(3, min(self.count - 3, 15)):
            number = self.number(f, 0) if self.first(f) else 0
            if not 1 <= number <= 600:
                continue
            if system == 0:
                kind = 2 if 65 <= number <= 99 else 1
            else:
                kind = system
            self._used_systems |= _SYSTEM[kind]
            high = kind << 4 | number >> 8
            low = number & 255
            n = self._used_n
            for i in range(n):
                if used[2 * i] == high and used[2 * i + 1] == low:
                    break
            else:
                if n < _MOST_SATS:
                    used[2 * n] = high
                    used[2 * n + 1] = low
                    self._used_n = n + 1

    def _gsa_system(self, talker):
        """NMEA system id of this GSA: the talker's, or field 18 (NMEA 4.10) for GN and PQ; 0 when not told."""
        told = 0
        if self.count == 19:
            told = self.number(18, 0)
            if not 0 <= told <= 6:
                told = 0
        if talker == 78:
            return told
        if talker == 81 and self.line[0] == 80 and told:
            return told
        return _TALKER_SYSTEM.get(talker, 0)

    def _gsv(self):
        """Satellites in view: nothing that a fix needs."""
        return 0

    def _zda(self):
        if not (self.first(1) and self.first(2) and self.first(3) and self.first(4)):
            return 0
        tod = self.time_of_day(1)
        if tod == UNKNOWN:
            return 0
        self._tod = tod
        day = self.number(2, 0)
        month = self.number(3, 0)
        year = self.number(4, 0)
        if not (1900 <= year <= 2200 and 1 <= month <= 12 and 1 <= day <= 31):
            return 0
        self._day = days(year, month, day)
        self._clock(1)
        return TIME
