"""Parses NMEA 0183 sentences into statements about the open epoch (agent.gps.epoch). Fields: NMEA 0183 v4.11."""

from array import array

import patrolink_enums as enums
from patrolink_protocol.native import const

from .accuracy import two_drms_mm
from .calendar import RELEASE_DAY
from .epoch import EpochAssembler
from .fix import days_from_civil
from .framer import scan

# Sentence kinds by their last three letters.
_RMC = const(0x524D43)
_GGA = const(0x474741)
_GNS = const(0x474E53)
_GLL = const(0x474C4C)
_VTG = const(0x565447)
_GSA = const(0x475341)
_GSV = const(0x475356)
_ZDA = const(0x5A4441)
_GST = const(0x475354)
_GBS = const(0x474253)

# Copies of scan's constants: MicroPython folds constants only within a module.
_EMPTY = const(1 - (1 << 30))
_COUNT = const(5)
_KIND = const(6)

# Kinds and mode letters, as in epoch.
_IS_RMC = const(1)
_IS_GGA = const(2)
_IS_GNS = const(4)
_IS_GLL = const(8)
_IS_GSA = const(16)
_IS_VTG = const(32)
_IS_ZDA = const(64)
_IS_ERROR = const(128)
_TIMED = const(15)
_A = const(1)
_D = const(1 << 3)
_E = const(1 << 4)
_F = const(1 << 5)
_M = const(1 << 12)
_N = const(1 << 13)  # not valid
_R = const(1 << 17)
_S = const(1 << 18)
_U = const(1 << 20)
_VALID = const(0x3FFFFFF - (1 << 13))  # letters besides "not valid"

_FIELDS = 20
_NO_DOP = const(9000)  # receivers send 0.00 or 99.99 for an unknown DOP
_SPEED_MAX_MMS = const(9999900)
# GGA quality as mode letters: none, GPS, DGPS, PPS, RTK, RTK float, dead reckoning, manual, simulator, SBAS (NovAtel)
_QUALITY = (_N, _A, _D, _A, _R, _F, _E, _M, _S, _D)
# NMEA 4.11 system id by the second letter of the talker: GA GB BD GI GL GP GQ QZ
_TALKER_SYSTEM = {65: 3, 66: 4, 68: 4, 73: 6, 76: 2, 80: 1, 81: 5, 90: 5}


class GpsReceiver(EpochAssembler):
    """Parses NMEA 0183 sentences and calls on_fix(fix) once per epoch.

    Args:
        on_fix: As of EpochAssembler.
        date_floor: As of EpochAssembler.
        uart: As of EpochAssembler.

    Attributes:
        ignored: Number of valid sentences that were not used.
    """

    def __init__(self, on_fix, date_floor=RELEASE_DAY, uart=None):
        super().__init__(self._sentence, on_fix, date_floor, uart)
        # Minimum number of fields; bit of the kind; conversions for scan.fields; field of the time if the sentence may
        # start an epoch; parser.
        self._kinds = {
            _RMC: (8, _IS_RMC, b".tcn.e.32d..mc", 1, self._rmc),
            _GGA: (13, _IS_GGA, b".tn.e.0023", 1, self._gga),
            _GNS: (13, _IS_GNS, b".tn.e.m023...c", 1, self._gns),
            _GLL: (7, _IS_GLL, b".n.e.tcm", 5, self._gll),
            _VTG: (5, _IS_VTG, b".2...3.3.m", 0, self._vtg),
            _GSA: (18, _IS_GSA, b"..0000000000000.2.0", 0, self._gsa),
            _GSV: (4, 0, None, 0, None),  # satellites in view: not needed for a fix
            _ZDA: (4, _IS_ZDA, b".t000", 0, self._zda),
            _GST: (8, _IS_ERROR, b".t....33", 0, self._gst),
            _GBS: (4, _IS_ERROR, b".t33", 0, self._gbs),
        }
        self.ignored = 0
        self._values = array("i", [0] * _FIELDS)
        self._placed = False  # the current sentence has a latitude and a longitude
        self._date = -1  # the last valid ddmmyy, and its day
        self._date_day = 0

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
            return
        _, bit, spec, clock, take = known
        if spec is None:
            return
        epoch = self._open
        if bit == _IS_VTG and epoch.kinds & _IS_RMC and epoch.speed_mms != enums.UNKNOWN:
            epoch.kinds |= _IS_VTG  # it repeats RMC
            return
        v = self._values
        n = scan.fields(line, self.ends, count, spec, len(spec), v)
        if clock:
            tod_ms = v[clock]
            if tod_ms != epoch.tod_ms or tod_ms < 0:
                if tod_ms == enums.UNKNOWN:
                    self.ignored += 1  # damaged: it would start another epoch
                    return
                self._take_time(bit, tod_ms if tod_ms >= 0 else enums.UNKNOWN)
            self._placed = n == 2
        take(v)
        epoch.kinds |= bit
        self._line_ms = self._now_ms

    # --- parts of sentences ---

    def _confirm(self, bit, letters, v, latitude):
        """Note a position, in the fields from `latitude`, that a sentence calls valid."""
        epoch = self._open
        if not self._placed:
            epoch.denied |= bit  # "valid" without a position
            return
        epoch.confirmed |= bit
        epoch.letters |= letters
        epoch.placed = True
        epoch.lat_e7 = v[latitude]
        epoch.lon_e7 = v[latitude + 2]

    def _velocity(self, speed_mms, angle):
        epoch = self._open
        if 0 <= speed_mms <= _SPEED_MAX_MMS:
            epoch.speed_mms = speed_mms
        if angle != _EMPTY and angle != enums.UNKNOWN:
            epoch.course_cd = angle % 36000

    def _heights(self, sats, hdop, alt):
        epoch = self._open
        if sats != _EMPTY:
            epoch.sats = 0 if sats < 0 else 99 if sats > 99 else sats
        if 0 < hdop < _NO_DOP:
            epoch.hdop_e2 = hdop
        if alt != _EMPTY and alt != enums.UNKNOWN:
            epoch.alt_mm = alt

    def _calendar_date(self, date):
        """Set the date of the open epoch from ddmmyy. GPS began in 1980: years from 80 are of the last century."""
        if date != self._date:
            day = date // 10000
            month = date // 100 % 100
            year = date % 100
            if not (1 <= day <= 31 and 1 <= month <= 12):
                return
            self._date = date
            self._date_day = days_from_civil(year + (2000 if year < 80 else 1900), month, day)
        self._open.date_day = self._date_day

    # --- sentences; v holds the fields selected in `_kinds` ---

    def _rmc(self, v):
        letters = v[12]
        if v[9] >= 0 and v[1] >= 0:
            self._calendar_date(v[9])
        if v[2] != 65 or (letters > 0 and not letters & _VALID):
            self._open.denied |= _IS_RMC
            return
        if letters < 0:
            letters = _A
        self._confirm(_IS_RMC, letters | _U if v[13] == 85 else letters, v, 3)
        knots = v[7]
        # 463 / 900 in two steps: on small boards integers above 30 bits take memory.
        self._velocity(knots // 900 * 463 + (knots % 900 * 463 + 450) // 900, v[8])

    def _gga(self, v):
        quality = v[6]
        if 0 < quality < 10:
            self._confirm(_IS_GGA, _QUALITY[quality], v, 2)
            self._heights(v[7], v[8], v[9])
        else:
            epoch = self._open
            epoch.denied |= _IS_GGA
            if epoch.sats == enums.UNKNOWN:  # or it is that of a constellation without a fix
                self._heights(v[7], v[8], _EMPTY)

    def _gns(self, v):
        letters = v[6]
        if letters > 0 and letters & _VALID:
            self._confirm(_IS_GNS, letters & _VALID | (_U if v[13] == 85 else 0), v, 2)
            self._heights(v[7], v[8], v[9])
        else:
            self._open.denied |= _IS_GNS

    def _gll(self, v):
        letters = v[7]
        if v[6] == 65 and (letters <= 0 or letters & _VALID):
            self._confirm(_IS_GLL, letters if letters > 0 else _A, v, 1)
        else:
            self._open.denied |= _IS_GLL

    def _vtg(self, v):
        if v[9] == _N:
            return
        if v[5] >= 0:
            knots = v[5]
            self._velocity(knots // 900 * 463 + (knots % 900 * 463 + 450) // 900, v[1])
        else:
            self._velocity((v[7] * 5 + 9) // 18 if v[7] >= 0 else -1, v[1])

    def _gsa(self, v):
        epoch = self._open
        mode = v[2]
        if mode == 2 or mode == 3:
            epoch.confirmed |= _IS_GSA
            epoch.gsa_mode = max(epoch.gsa_mode, mode)
        elif mode == 1:
            epoch.denied |= _IS_GSA
        if 0 < v[16] < _NO_DOP and self.state[_COUNT] <= 19 and epoch.hdop_e2 == enums.UNKNOWN:
            epoch.hdop_e2 = v[16]
        epoch.systems |= scan.systems(v, self._gsa_system(v, self.line[1]))

    def _gsa_system(self, v, talker):
        """NMEA system id of this GSA: the talker's, or field 18 (NMEA 4.10) for GN and PQ; 0 if unknown."""
        system = v[18] if self.state[_COUNT] == 19 and 0 <= v[18] <= 6 else 0
        if talker == 78:
            return system
        if talker == 81 and self.line[0] == 80 and system:
            return system
        return _TALKER_SYSTEM.get(talker, 0)

    def _zda(self, v):
        tod_ms = v[1]
        day = v[2]
        month = v[3]
        year = v[4]
        if tod_ms < 0 or not (1900 <= year <= 2200 and 1 <= month <= 12 and 1 <= day <= 31):
            return
        if not (self._open.kinds | self._last_kinds) & _TIMED:
            self._take_time(_IS_ZDA, tod_ms)
        self._zda_day = days_from_civil(year, month, day)
        self._zda_tod_ms = tod_ms

    def _gst(self, v):
        self._error_tod_ms = v[1]
        self._error_mm = two_drms_mm(v[6], v[7])

    def _gbs(self, v):
        if self._error_mm == enums.UNKNOWN or self._error_tod_ms != v[1]:  # GST comes first
            self._error_tod_ms = v[1]
            self._error_mm = two_drms_mm(v[2], v[3])
