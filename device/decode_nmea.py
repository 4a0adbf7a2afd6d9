"""Decodes NMEA to fixes as JSON Lines, with the device's own receiver.

usage: <runtime> device/decode_nmea.py FILE [DATE-FLOOR]

FILE is a path, or - for standard input. Dates before DATE-FLOOR (days since 1970-01-01, the release of the software by
default) and more than 20 years after it are flagged as suspect. The last line has the receiver's counters.
"""

import json
import sys

FOLDER = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for folder in ("", "/../protocol", "/../protocol/generated"):
    sys.path.insert(0, FOLDER + folder)

import patrolink_enums as enums  # noqa: E402  # after sys.path is set
from agent.gps import fix as fixes  # noqa: E402
from agent.gps.calendar import RELEASE_DAY  # noqa: E402
from agent.gps.sentences import GpsReceiver  # noqa: E402
from agent.tracking.plausibility import PositionJudge  # noqa: E402

_SYSTEMS = ("gps", "glonass", "galileo", "beidou", "qzss", "navic")
_DOUBTS = (
    (fixes.ESTIMATED, "dead_reckoning"),
    (fixes.MANUAL, "manual"),
    (fixes.SIMULATED, "simulated"),
    (fixes.CONTRADICTORY, "contradictory"),
    (fixes.IMPLAUSIBLE, "implausible"),
    (fixes.HELD, "held"),
)
_NOT_MEASURED = fixes.DOUBTFUL & ~fixes.IMPLAUSIBLE
_COUNTERS = ("sentences", "bad_checksum", "overlong", "skipped_bytes", "ignored")
_NULL = "null"


def decimal(value, places):
    """Return value / 10^places as text without using floats; null for UNKNOWN."""
    if value == enums.UNKNOWN:
        return _NULL
    sign = "-" if value < 0 else ""
    value = abs(value)
    unit = 10**places
    return "%s%d.%0*d" % (sign, value // unit, places, value % unit)


def rfc3339(day, ms):
    """Return the time as an RFC 3339 string in JSON quotes, or null."""
    if day == enums.UNKNOWN:
        return _NULL
    year, month, date = fixes.civil_from_days(day)
    second = ms // 1000
    clock = (year, month, date, second // 3600, second // 60 % 60, second % 60, ms % 1000)
    return '"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ"' % clock


def json_line(fix):
    """Return a fix as a line of JSON."""
    has_position = fix.flags & fixes.HAS_POSITION
    systems = [name for i, name in enumerate(_SYSTEMS) if fix.systems >> i & 1]
    parts = (
        ("record", '"fix"'),
        ("time", rfc3339(fix.day, fix.ms)),
        ("lat_deg", decimal(fix.lat_e7, 7) if has_position else _NULL),
        ("lon_deg", decimal(fix.lon_e7, 7) if has_position else _NULL),
        ("alt_m", decimal(fix.alt_mm, 3) if has_position else _NULL),
        ("mode", str(fix.mode)),
        ("speed_mps", decimal(fix.speed_mms, 3)),
        ("course_deg", decimal(fix.course_cd, 2)),
        ("hdop", decimal(fix.hdop_e2, 2)),
        ("hacc_m", decimal(fix.hacc_mm, 3)),
        ("sats", _NULL if fix.sats == enums.UNKNOWN else str(fix.sats)),
        ("systems", json.dumps(systems)),
        ("date_suspect", "true" if fix.flags & fixes.DATE_SUSPECT else "false"),
        ("estimated", "true" if fix.flags & _NOT_MEASURED else "false"),
        ("differential", "true" if fix.flags & fixes.DIFFERENTIAL else "false"),
        ("doubts", json.dumps([name for flag, name in _DOUBTS if fix.flags & flag])),
    )
    return "{" + ", ".join(['"%s": %s' % part for part in parts]) + "}"


class Printer:
    """Prints fixes, judged as on a device. A log has no times of reception: those of the fixes stand for them."""

    def __init__(self):
        self._judge = PositionJudge()
        self._now_ms = self._unix_ms = 0

    def on_fix(self, fix):
        """Judge and print a fix."""
        elapsed_ms = 1000
        if fix.day != enums.UNKNOWN:
            unix_ms = fix.day * 86400000 + fix.ms
            if 0 <= unix_ms - self._unix_ms < 3600000:
                elapsed_ms = unix_ms - self._unix_ms
            self._unix_ms = unix_ms
        self._now_ms += elapsed_ms
        self._judge.on_fix(fix, self._now_ms)
        print(json_line(fix))


def main(args):
    """Decode the file named in `args`; return the exit code."""
    if not 1 <= len(args) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    receiver = GpsReceiver(Printer().on_fix, int(args[1]) if len(args) == 2 else RELEASE_DAY)
    buf = bytearray(4096)
    try:
        source = open("/dev/stdin" if args[0] == "-" else args[0], "rb")
    except OSError as e:
        print("error: %s: %s; give the path of an NMEA log" % (args[0], e), file=sys.stderr)
        return 2
    with source:
        while True:
            n = source.readinto(buf)
            if not n:
                break
            receiver.feed(buf, n, 0)
    receiver.flush()
    # Not from a dictionary, whose order differs between the runtimes.
    counts = ['"%s": %d' % (name, getattr(receiver, name)) for name in _COUNTERS]
    print('{"record": "summary", %s}' % ", ".join(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
