"""A receiver with a known truth: sentences of many orders, talkers and kinds of faults, from a seed."""

from agent.gps import fix as gps
from agent.gps.fix import civil_from_days
from agent.gps.sentences import GpsReceiver

DAY_MS = 86400000
FLOOR = gps.days_from_civil(2024, 1, 1)
DAY = gps.days_from_civil(2026, 12, 31)
BASE_E7 = 475000000
STEP_E7 = 1000  # of latitude, per epoch: a place tells its epoch
LON_E7 = 82600000
FIELDS = "day ms mode lat_e7 lon_e7 alt_mm speed_mms course_cd hacc_mm hdop_e2 sats systems age_ms flags".split()


def line(body):
    """Return a sentence with its checksum."""
    check = 0
    for byte in body.encode():
        check ^= byte
    return b"$%s*%02X\r\n" % (body.encode(), check)


class FixRecorder:
    """A GpsReceiver, and copies of the fixes that it reported."""

    def __init__(self, data=b"", floor=FLOOR):
        self.fixes = []
        self.receiver = GpsReceiver(self.on_fix, floor)
        if data:
            self.receiver.feed(data, len(data), 0)
            self.receiver.flush()

    def on_fix(self, fix):
        self.fixes.append(dict([(name, getattr(fix, name)) for name in FIELDS]))


def angle(e7, width):
    """Return 1e-7 degrees as ddmm.mmmmmm; exact for multiples of 5e-7."""
    return "%0*d%02d.%06d" % (width, e7 // 10000000, e7 % 10000000 * 60 // 10000000, e7 % 10000000 * 6 % 1000000)


def clock(ms):
    """Return a time of day as hhmmss.ss."""
    second = ms // 1000
    return "%02d%02d%02d.%02d" % (second // 3600, second // 60 % 60, second % 60, ms % 1000 // 10)


class Epoch:
    """One epoch: `i` counts them, `unix_ms` is its time."""

    def __init__(self, i, unix_ms, has_fix, with_date):
        self.unix_ms = unix_ms
        self.has_fix = has_fix
        self.with_date = with_date
        self.lat_e7 = BASE_E7 + STEP_E7 * i

    def sentence(self, kind, style, talker):
        """Return one of its sentences.

        Args:
            kind: "RMC", "GGA", "GNS", "GLL", "GSA", "VTG" or "ZDA".
            style: How a receiver without a fix says so: 0 empty fields, 1 and 2 with the old position.
            talker: "GP", "GN", ...
        """
        tod = clock(self.unix_ms % DAY_MS)
        year, month, day = civil_from_days(self.unix_ms // DAY_MS)
        place = angle(self.lat_e7, 2) + ",N," + angle(LON_E7, 3) + ",E"
        if not self.has_fix and not style:
            place = ",,,"
        fix = self.has_fix
        if kind == "RMC":
            date = "%02d%02d%02d" % (day, month, year % 100)
            body = "%s,%s,%s,1.0,90.0,%s,,,%s" % (tod, "AV"[not fix], place, date, "AN"[not fix])
        elif kind == "GGA":
            body = "%s,%s,%d,%s,0.9,410.5,M,48.0,M,," % (
                tod,
                place,
                1 if fix else 0,
                "08" if fix else ("00", "05")[style > 1],
            )
        elif kind == "GNS":
            body = "%s,%s,%s,08,0.9,410.5,48.0,," % (tod, place, "NA" if fix else "NN")
        elif kind == "GLL":
            body = "%s,%s,%s,%s" % (place, tod, "AV"[not fix], "AN"[not fix])
        elif kind == "GSA":
            body = "A,%d,02,05,12,25,,,,,,,,,2.1,0.9,1.7" % (3 if fix else 1)
        elif kind == "VTG":
            body = "90.0,T,,M,1.0,N,1.9,K,%s" % "AN"[not fix]
        else:
            body = "%s,%02d,%02d,%d,00,00" % (tod, day, month, year)
        return line(talker + kind + "," + body)


class Stream:
    """Epochs of one receiver, and their sentences in its order.

    Args:
        below: Random numbers, see seeded_random.
        epochs: Number of epochs. They begin shortly before midnight of the last day of a year.
    """

    def __init__(self, below, epochs):
        self.interval_ms = (100, 200, 1000, 1000, 5000)[below(5)]
        kinds = ["RMC", "GGA"] if below(3) else (["GNS", "ZDA"], ["RMC"], ["GLL", "ZDA"])[below(3)]
        for kind in ("GSA", "VTG", "GLL"):
            if kind not in kinds and below(2):
                kinds.append(kind)
        for i in range(len(kinds) - 1, 0, -1):  # untimed sentences follow the first timed one
            j = below(i + 1)
            kinds[i], kinds[j] = kinds[j], kinds[i]
        timed = [kind for kind in kinds if kind not in ("GSA", "VTG")]
        self.kinds = timed[:1] + [kind for kind in kinds if kind != timed[0]]
        self.style = below(3)
        self.talkers = ("GP", "GN", "GL", "GA", "GB", "BD", "GQ")
        self.below = below
        date_each = 1 + below(5)
        start_ms = (DAY + 1) * DAY_MS - epochs // 2 * self.interval_ms
        self.epochs = []
        has_fix = True
        for i in range(epochs):
            if below(8) == 0:
                has_fix = not has_fix
            self.epochs.append(Epoch(i, start_ms + i * self.interval_ms, has_fix, i % date_each == 0))

    def sentences(self, epoch):
        """Return the sentences of an epoch."""
        talker = self.talkers[self.below(7)]
        kinds = [kind for kind in self.kinds if kind != "ZDA" or epoch.with_date]
        return [epoch.sentence(kind, self.style, talker) for kind in kinds]

    def text(self):
        """Return the kinds and their order, for messages of failing tests."""
        return "%s at %d ms, style %d" % (" ".join(self.kinds), self.interval_ms, self.style)
