"""The record of one epoch, in scaled integers."""

import patrolink_enums as enums

HAS_POSITION = 1
DATE_SUSPECT = 2
ESTIMATED = 4
DIFFERENTIAL = 8
MANUAL = 16
SIMULATED = 32
CONTRADICTORY = 64
IMPLAUSIBLE = 128
HELD = 256
# The receiver did not measure the position, or it is doubtful: bit "estimated" of a batch (SPEC.md, column state).
DOUBTFUL = ESTIMATED | MANUAL | SIMULATED | CONTRADICTORY | IMPLAUSIBLE

GPS, GLONASS, GALILEO, BEIDOU, QZSS, NAVIC = 1, 2, 4, 8, 16, 32


class Fix:
    """Position, time and quality of one epoch. Values are integers; UNKNOWN where the receiver sent no value.

    Attributes:
        day: UTC date as days since 1970-01-01.
        ms: UTC time as millisecond of the day.
        mode: 1 no fix, 2 2D, 3 3D.
        lat_e7: Latitude in 1e-7 degrees as received, valid if `flags` has HAS_POSITION.
        lon_e7: Longitude in 1e-7 degrees as received, valid if `flags` has HAS_POSITION.
        judged_lat_e7: Latitude after agent.tracking.plausibility; equal to `lat_e7` before that.
        judged_lon_e7: Longitude after agent.tracking.plausibility.
        alt_mm: Altitude above mean sea level.
        speed_mms: Speed over ground in mm/s.
        course_cd: Course over ground in 1e-2 degrees from true north.
        hacc_mm: Horizontal error, 95 %, see agent.gps.accuracy.
        hdop_e2: HDOP times 100.
        sats: Satellites used.
        systems: Bit mask of GPS ... NAVIC.
        age_ms: Time from the first byte of the epoch to this report.
        flags: HAS_POSITION; DATE_SUSPECT; DIFFERENTIAL (DGPS, RTK); ESTIMATED (dead reckoning); MANUAL (entered by
            hand); SIMULATED; CONTRADICTORY (as many sentences deny the fix as confirm it); and of
            agent.tracking.plausibility IMPLAUSIBLE (farther than the wearer can have moved; the judged position is the
            last good one) and HELD (at rest; the judged position does not follow the noise).
    """

    def __init__(self):
        self.clear()
        self.age_ms = 0

    def clear(self):
        """Reset every value except the age."""
        self.day = self.ms = enums.UNKNOWN
        self.mode = 0
        self.lat_e7 = self.lon_e7 = self.judged_lat_e7 = self.judged_lon_e7 = 0
        self.alt_mm = self.speed_mms = self.course_cd = enums.UNKNOWN
        self.hacc_mm = self.hdop_e2 = self.sats = enums.UNKNOWN
        self.systems = 0
        self.flags = 0


def days_from_civil(year, month, day):
    """Return days since 1970-01-01 of a Gregorian date (H. Hinnant, "days_from_civil")."""
    if month <= 2:
        year -= 1
        month += 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469


def civil_from_days(day):
    """Return (year, month, day) of a number of days since 1970-01-01."""
    day += 719468
    era = day // 146097
    doe = day - era * 146097
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    return yoe + era * 400 + (1 if month <= 2 else 0), month, doy - (153 * mp + 2) // 5 + 1
