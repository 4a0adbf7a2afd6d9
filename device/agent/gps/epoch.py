"""Gathers what the sentences of one epoch say, and decides once, at its end, what is true of it.

A sentence never changes a fix: it leaves statements in the open epoch. When the epoch ends, `EpochAssembler` judges all
of them together and reports one Fix. Position, mode, time and date each have their source:

position   the last sentence that has one and calls it valid
validity   each of RMC, GGA, GNS, GLL and GSA confirms or denies the fix; of several talkers of one kind one that
           confirms is enough, since "no GLONASS fix" is not "no fix". More denials than confirmations: no fix. As many:
           a measured position is CONTRADICTORY, one that was not measured is none
mode       GSA of this epoch or of the last 5 s; else an altitude, unless the receiver counts one to three satellites
time       the first sentence of the epoch with a time of day, valid position or not
date       RMC or ZDA, see agent.gps.calendar
"""

import patrolink_enums as enums
from patrolink_protocol.native import const

from .accuracy import from_hdop_mm
from .calendar import Calendar
from .fix import CONTRADICTORY, DATE_SUSPECT, DIFFERENTIAL, DOUBTFUL, ESTIMATED, HAS_POSITION, MANUAL, SIMULATED, Fix
from .framer import Framer

# Kinds of sentences are bits: RMC 1, GGA 2, GNS 4, GLL 8, GSA 16; these confirm or deny a fix. VTG 32, ZDA 64, GST or
# GBS 128. Mode letters are bits as of scan.fields. `sentences` has copies: MicroPython folds constants within a module.
_ZDA = const(64)
_ALL_KINDS = const(256)  # of no sentence: an epoch is incomplete while the receiver's kinds are not known
_A = const(1)
_D = const(1 << 3)  # differential
_E = const(1 << 4)  # estimated
_F = const(1 << 5)  # RTK float
_M = const(1 << 12)  # manual
_P = const(1 << 15)  # precise
_R = const(1 << 17)  # RTK
_S = const(1 << 18)  # simulated
_U = const(1 << 20)  # navigational status: unsafe

_QUIET_MS = const(80)
_QUIET_INCOMPLETE_MS = const(500)
_EPOCH_MAX_MS = const(2000)  # a receiver that hangs may repeat a time without a pause
_SILENCE_MS = const(3000)
_SILENCE_MAX_MS = const(20000)
_READS_MAX = const(16)  # per call: a receiver that sends without pause must not block the link
_UART_BYTES = const(256)
_SAME_MS = const(10)  # times of day up to 10 ms apart are one epoch
_GSA_AGE_MS = const(5000)
_DAY_MS = const(86400000)
_BITS = bytes([sum([i >> b & 1 for b in range(5)]) for i in range(32)])


class Epoch:
    """What the sentences of one epoch say. UNKNOWN where none says it.

    Attributes:
        started: Whether it has a sentence that starts epochs.
        start_ms: Monotonic time of its first byte.
        tod_ms: Time of day; above 86,399,999 in a leap second.
        kinds: Kinds of sentences.
        confirmed: Kinds that confirm a fix.
        denied: Kinds that deny it.
        letters: Mode letters of the sentences that confirm a fix.
        placed: Whether it has a position.
        gsa_mode: Greatest mode of its GSA sentences, 0 without one.
        date_day: Date of RMC.
    """

    def __init__(self):
        self.start_ms = 0
        self.clear()

    def clear(self):
        """Forget everything but the start."""
        self.kinds = self.confirmed = self.denied = self.letters = self.gsa_mode = self.systems = 0
        self.started = self.placed = False
        self.lat_e7 = self.lon_e7 = 0
        self.tod_ms = self.date_day = enums.UNKNOWN
        self.alt_mm = self.speed_mms = self.course_cd = self.hdop_e2 = self.sats = enums.UNKNOWN


class EpochAssembler(Framer):
    """Calls on_fix(fix) once per epoch. `GpsReceiver` parses the sentences.

    An epoch ends with the first sentence of the next one, or when the line is quiet: for 80 ms if all kinds of the last
    two epochs are in, else for 500 ms, since slow lines have pauses within an epoch.

    Args:
        on_sentence: Called for each good sentence.
        on_fix: Called once per epoch. The Fix is reused: copy values that must outlive the call.
        date_floor: Days since 1970-01-01 of the build, see agent.gps.calendar.
        uart: HAL UART of the receiver, or None if the caller uses `feed`.

    Attributes:
        silent: True if the UART has brought no new epoch for 3 s (for twice the interval of slower receivers): the
            receiver sends nothing, nothing valid, or the same over and over.
    """

    def __init__(self, on_sentence, on_fix, date_floor, uart):
        super().__init__(on_sentence)
        self._uart = uart
        self._uart_buf = None if uart is None else bytearray(_UART_BYTES)
        self.silent = True
        self._on_fix = on_fix
        self._calendar = Calendar(date_floor)
        self._now_ms = self._line_ms = 0  # time of the last bytes, and of the first byte of the current sentence
        self._open = Epoch()
        self._fix = Fix()  # a field without a valid value is UNKNOWN, a position without HAS_POSITION is an older one
        self._reported = True  # the open epoch, or there is none
        self._report_ms = None
        self._silence_ms = _SILENCE_MS
        self._last_kinds = self._expected = _ALL_KINDS
        self._gsa_mode = 0  # of the last GSA, and its time of day
        self._gsa_tod_ms = 0
        # Sentences that start no epoch, as some receivers send them for another time: ZDA, and GST or GBS.
        self._zda_day = self._zda_tod_ms = enums.UNKNOWN
        self._error_mm = self._error_tod_ms = enums.UNKNOWN

    def feed(self, buf, n, now_ms):
        """Process buf[:n], received at now_ms. Never raises, whatever the bytes are."""
        if not self.state[0] or now_ms - self._now_ms > _QUIET_MS:
            self._line_ms = now_ms
        self._now_ms = now_ms
        super().feed(buf, n)

    def read_uart(self, now_ms):
        """Process the bytes in the UART and report the open epoch if it is complete."""
        buf = self._uart_buf
        for _ in range(_READS_MAX):
            n = self._uart.readinto(buf)
            if not n:
                break
            self.feed(buf, n, now_ms)
        self.poll(now_ms)
        self.silent = self._report_ms is None or now_ms - self._report_ms > self._silence_ms

    def poll(self, now_ms):
        """Report the open epoch if the line is quiet. Call it when the UART is empty."""
        if not self._reported:
            is_complete = self._open.kinds & self._expected == self._expected
            quiet_ms = _QUIET_MS if is_complete else _QUIET_INCOMPLETE_MS
            if now_ms - self._now_ms >= quiet_ms or now_ms - self._open.start_ms >= _EPOCH_MAX_MS:
                self._now_ms = now_ms
                self.flush()

    def flush(self):
        """Report the open epoch now, unless it was reported. Later sentences of it cause no second report."""
        if self._reported:
            return
        self._reported = True
        now_ms = self._now_ms
        if self._report_ms is not None:
            self._silence_ms = min(max(_SILENCE_MS, 2 * (now_ms - self._report_ms)), _SILENCE_MAX_MS)
        self._report_ms = now_ms
        self._conclude(now_ms)
        self._on_fix(self._fix)

    def _begin(self, tod_ms):
        """Report the open epoch and start one with this time of day, or UNKNOWN."""
        self.flush()
        epoch = self._open
        if epoch.kinds:
            self._expected = epoch.kinds | self._last_kinds
            self._last_kinds = epoch.kinds
            if self._expected & _ALL_KINDS:
                self._expected = epoch.kinds
        epoch.clear()
        epoch.tod_ms = tod_ms

    def _take_time(self, kind, tod_ms):
        """Assign a sentence with the time of day `tod_ms`, or UNKNOWN, to an epoch: the open one or the next.

        Args:
            kind: RMC, GGA, GNS or GLL; ZDA where the receiver sends none of them.
            tod_ms: Its time of day.
        """
        epoch = self._open
        open_ms = epoch.tod_ms
        if open_ms == enums.UNKNOWN:
            # Sentences without a time repeat their kinds in the next epoch.
            if epoch.kinds & kind:
                self._begin(tod_ms)
            else:
                epoch.tod_ms = tod_ms
        elif tod_ms == enums.UNKNOWN:
            if epoch.kinds & kind or epoch.confirmed:
                self._begin(tod_ms)
        elif not -_SAME_MS <= tod_ms - open_ms <= _SAME_MS or (tod_ms != open_ms and epoch.kinds & kind):
            self._begin(tod_ms)
        if not epoch.started:
            epoch.started = True
            epoch.start_ms = self._line_ms
            self._reported = False

    def _conclude(self, now_ms):
        """Judge the open epoch; set the fix."""
        epoch = self._open
        fix = self._fix
        flags = self._quality(epoch) if epoch.placed else 0
        fix.flags = flags
        fix.sats = epoch.sats
        fix.systems = epoch.systems
        fix.speed_mms = epoch.speed_mms
        fix.course_cd = epoch.course_cd
        fix.hdop_e2 = epoch.hdop_e2
        if flags:
            fix.lat_e7 = fix.judged_lat_e7 = epoch.lat_e7
            fix.lon_e7 = fix.judged_lon_e7 = epoch.lon_e7
            fix.alt_mm = epoch.alt_mm
            fix.mode = self._mode(epoch)
            fix.hacc_mm = self._error(epoch, flags)
        else:
            fix.mode = 1
            fix.alt_mm = fix.hacc_mm = enums.UNKNOWN
        if epoch.tod_ms == enums.UNKNOWN and epoch.kinds & _ZDA:
            epoch.tod_ms = self._zda_tod_ms  # a receiver without a fix may send its time there only
        fix.day = fix.ms = enums.UNKNOWN
        if epoch.tod_ms != enums.UNKNOWN:
            self._set_time(epoch, fix)
        fix.age_ms = now_ms - epoch.start_ms

    def _quality(self, epoch):
        """Return the flags of the epoch's position, 0 if it is not valid."""
        if not epoch.denied and epoch.letters == _A:
            return HAS_POSITION  # nearly always
        confirmed = _BITS[epoch.confirmed]
        denied = _BITS[epoch.denied & ~epoch.confirmed]
        if denied > confirmed:
            return 0
        flags = HAS_POSITION
        letters = epoch.letters
        if letters & (_D | _F | _P | _R):
            flags |= DIFFERENTIAL
        if letters & (_E | _M | _S | _U):
            if letters & (_E | _U):
                flags |= ESTIMATED
            if letters & _M:
                flags |= MANUAL
            if letters & _S:
                flags |= SIMULATED
        if denied == confirmed:
            flags = 0 if flags & DOUBTFUL else flags | CONTRADICTORY
        return flags

    def _mode(self, epoch):
        mode = epoch.gsa_mode
        if mode:
            self._gsa_mode = mode
            self._gsa_tod_ms = epoch.tod_ms
        elif 0 <= epoch.tod_ms - self._gsa_tod_ms <= _GSA_AGE_MS:
            mode = self._gsa_mode
        if mode > 1:
            return mode
        return 2 if epoch.alt_mm == enums.UNKNOWN or 0 < epoch.sats < 4 else 3

    def _error(self, epoch, flags):
        if self._error_mm != enums.UNKNOWN and -_SAME_MS <= self._error_tod_ms - epoch.tod_ms <= _SAME_MS:
            return self._error_mm
        letters = epoch.letters
        return from_hdop_mm(epoch.hdop_e2, flags, 2 if letters & _R else 1 if letters & _F else 0)

    def _set_time(self, epoch, fix):
        """Set the time of the fix."""
        stated_day = epoch.date_day
        stated_ms = tod_ms = epoch.tod_ms
        if stated_day == enums.UNKNOWN:
            stated_day = self._zda_day
            stated_ms = self._zda_tod_ms
        self._zda_day = enums.UNKNOWN
        has_fix = fix.flags & (HAS_POSITION | DOUBTFUL) == HAS_POSITION
        day = self._calendar.resolve(stated_day, stated_ms, tod_ms, epoch.start_ms, has_fix)
        if day != enums.UNKNOWN:
            fix.day = day
            # Unix time has no leap second: it becomes the last millisecond before it, so that time does not go back.
            fix.ms = min(tod_ms, _DAY_MS - 1)
            if self._calendar.suspect:
                fix.flags |= DATE_SUSPECT
