"""Groups sentences into epochs and reports one fix per epoch.

As in gpsd, one record (`_new`) holds the values of the current sentence, and another (`_fix`) accumulates the values
that each sentence type may set. `_fix` is cleared when the time of day changes. An epoch is reported when the next one
starts, when no byte arrives for 80 ms, or on `flush`.
"""

import patrolink_enums as enums
from patrolink_protocol.native import const

from .fix import DATE_SUSPECT, DIFFERENTIAL, ESTIMATED, Fix
from .framer import Framer

# Status of a position: 0 for none, plain, differential or better, dead reckoning.
PLAIN, DGPS, DR = 1, 2, 6

_QUIET_MS = const(80)
_SILENCE_MS = const(3000)
_READS_MAX = const(16)  # per call: a receiver that sends without pause must not block the link
_UART_BYTES = const(256)
_ROLLOVER_DAYS = const(1023 * 7)


class EpochReporter(Framer):
    """Accumulates the open epoch and calls on_fix(fix) once per epoch. `GpsReceiver` parses the sentences.

    Args:
        on_sentence: Called for each good sentence.
        on_fix: Called once per epoch. The Fix is reused: copy values that must outlive the call.
        date_floor: Days since 1970-01-01; an earlier date is flagged DATE_SUSPECT (GPS week rollover), as is a
            step back by 1023 weeks or more.
        uart: HAL UART of the receiver, or None if the caller uses `feed`.

    Attributes:
        silent: True if the UART has received nothing for 3 s.
    """

    def __init__(self, on_sentence, on_fix, date_floor, uart):
        super().__init__(on_sentence)
        self._uart = uart
        self._uart_buf = None if uart is None else bytearray(_UART_BYTES)
        self._received_ms = None
        self.silent = True
        self._on_fix = on_fix
        self._date_floor = date_floor
        self._now_ms = self._epoch_ms = 0  # time of the last bytes, and of the first bytes of the open epoch
        self._latest_day = enums.UNKNOWN
        self._new = Fix()
        self._fix = Fix()
        self._day = enums.UNKNOWN  # last received date and time of day
        self._tod = 0
        self._hdop = self._sats = enums.UNKNOWN
        self._status = 0
        self._used_systems = 0
        self._dirty = False  # values changed since the last report
        self._reported = False  # by poll: late sentences of the same epoch cause no second report
        self._untimed_seen = 0
        # The last fix with a time. gpsd's rules need no more of the past than this and `_old_alt`.
        self._last_day = self._last_ms = self._last_mode = 0
        self._last_alt = self._old_alt = False

    def feed(self, buf, n, now_ms):
        """Process buf[:n], received at now_ms. Never raises, whatever the bytes are."""
        if not self._dirty:
            self._epoch_ms = now_ms
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
            self._received_ms = now_ms
        self.poll(now_ms)
        self.silent = self._received_ms is None or now_ms - self._received_ms > _SILENCE_MS

    def poll(self, now_ms):
        """Report the open epoch if no byte has arrived for 80 ms. Call it when the UART is empty."""
        if self._dirty and now_ms - self._now_ms >= _QUIET_MS:
            self._now_ms = now_ms
            self.flush()
            self._reported = True

    def flush(self):
        """Report the open epoch now, if values changed since the last report."""
        if not self._dirty:
            return
        self._dirty = False
        fix = self._fix
        mode = fix.mode
        had = fix.flags
        flags = had if mode > 1 else 0
        if not mode:
            fix.mode = 1
        # These values are final only at the end of the epoch.
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
        """Report the open epoch; later sentences cause a new report."""
        self.flush()
        self._reported = False
        self._untimed_seen = 0

    def _next_epoch(self, hdop_is_new):
        """Report the open epoch and start the next one, as the time of day has changed."""
        self.flush()
        self._reported = False
        self._untimed_seen = 0
        self._fix.clear()
        self._epoch_ms = self._now_ms
        if not hdop_is_new:
            self._hdop = enums.UNKNOWN

    def _keep_3d(self):
        """Keep mode 3 if the new sentence reports 2 but cannot distinguish 2D from 3D (gpsd's rule)."""
        if self._fix.mode == 3 and (self._last_alt or self._old_alt):
            self._new.mode = 3
