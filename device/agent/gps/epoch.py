"""Sentences to epochs, one fix each.

Two records are kept, as gpsd does: `_new` takes what the sentence at hand says; `_fix` takes from it just what that
sentence vouches for, and is cleared when the time of day moves. An epoch is reported when the next one starts, when the
line falls quiet, or on `flush`.
"""

import patrolink_enums as enums
from patrolink_protocol.native import const

from .fix import DATE_SUSPECT, DIFFERENTIAL, ESTIMATED, Fix
from .framer import Framer

# How good a position is: none, plain, differential or better, dead reckoning.
PLAIN, DGPS, DR = 1, 2, 6

_QUIET_MS = const(80)
_SILENCE_MS = const(3000)
_READS_MAX = const(16)  # in a call, so that a receiver that sends without pause cannot starve the link
_UART_BYTES = const(256)
_ROLLOVER_DAYS = const(1023 * 7)


class EpochReporter(Framer):
    """Keeps the open epoch and calls on_fix(fix) once per epoch. `GpsReceiver` reads the sentences.

    Args:
        on_sentence: Called for each good sentence.
        on_fix: Called once per epoch with one Fix that is reused: copy what must outlive the call.
        date_floor: Days since 1970-01-01; an earlier date is flagged DATE_SUSPECT (GPS week rollover), as is a jump
            back by 1023 weeks or more.
        uart: hal Uart of the receiver; None when the caller feeds the bytes.

    Attributes:
        silent: Whether nothing has arrived at the UART for 3 s.
    """

    def __init__(self, on_sentence, on_fix, date_floor, uart):
        super().__init__(on_sentence)
        self._uart = uart
        self._uart_buf = None if uart is None else bytearray(_UART_BYTES)
        self._received_ms = None
        self.silent = True
        self._on_fix = on_fix
        self._date_floor = date_floor
        self._now_ms = self._epoch_ms = 0  # of the last bytes, and of the first bytes of the open epoch
        self._latest_day = enums.UNKNOWN
        self._new = Fix()
        self._fix = Fix()
        self._day = enums.UNKNOWN  # calendar and time of day as last told
        self._tod = 0
        self._hdop = self._sats = enums.UNKNOWN
        self._status = 0
        self._used_systems = 0
        self._dirty = False  # something came since the last report
        self._reported = False  # by poll: what comes late of the same epoch makes no second report
        self._untimed_seen = 0
        # The last fix with a time: with `_old_alt` all that gpsd's rules ask of the past.
        self._last_day = self._last_ms = self._last_mode = 0
        self._last_alt = self._old_alt = False

    def feed(self, buf, n, now_ms):
        """Take buf[:n], received at now_ms. Never raises, whatever the bytes are."""
        if not self._dirty:
            self._epoch_ms = now_ms
        self._now_ms = now_ms
        super().feed(buf, n)

    def read_uart(self, now_ms):
        """Process the bytes that have arrived at the UART, and report the open epoch when it is complete."""
        buf = self._uart_buf
        for _ in range(_READS_MAX):
            n = self._uart.readinto(buf)
            if not n:
                break
            self.feed(buf, n, now_ms)
            self._received_ms = now_ms
        self.poll(now_ms)
        self.silent = self._received_ms is None or now_ms - self._received_ms > _SILENCE_MS

    def poll(self, now_ms):
        """Report the open epoch once the line has been quiet. Call it when no bytes are waiting."""
        if self._dirty and now_ms - self._now_ms >= _QUIET_MS:
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
        if hdop != enums.UNKNOWN:
            fix.hacc_mm = hdop * 75 // 2 if status == DGPS else hdop * 150
        day = fix.day
        if day != enums.UNKNOWN:
            latest = self._latest_day
            if day < self._date_floor or (latest != enums.UNKNOWN and latest - day >= _ROLLOVER_DAYS):
                flags |= DATE_SUSPECT
            else:
                self._latest_day = day
        fix.flags = flags
        fix.age_ms = self._now_ms - self._epoch_ms
        self._on_fix(fix)
        fix.mode = mode
        fix.flags = had

    def _renew(self):
        """Report the open epoch, so that what follows makes another report."""
        self.flush()
        self._reported = False
        self._untimed_seen = 0

    def _next_epoch(self, hdop_is_new):
        """Report the epoch before and begin the next one: the time of day has moved."""
        self.flush()
        self._reported = False
        self._untimed_seen = 0
        self._fix.clear()
        self._epoch_ms = self._now_ms
        if not hdop_is_new:
            self._hdop = enums.UNKNOWN

    def _keep_3d(self):
        """gpsd: a sentence that says 2D, and cannot tell it from 3D, does not take 3D away."""
        if self._fix.mode == 3 and (self._last_alt or self._old_alt):
            self._new.mode = 3
