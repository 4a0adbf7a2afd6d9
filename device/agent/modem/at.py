"""AT command channel over a UART (ITU-T V.250; 3GPP TS 27.007 and 27.005), one command at a time.

Pure: the caller passes the received bytes and the time. An answer consists of information lines and one final result
code. Unsolicited result codes (URCs) may appear between any two lines of it. A prompt asks for a payload. A payload of
stated length may follow an information line and may hold any bytes, also those of `OK`.
"""

from agent.gps.fix import days_from_civil
from patrolink_protocol.native import const

OK, ERROR, TIMEOUT = 0, 1, 2
# What a URC of a dialect reports: data to read, a socket closed or opened, the data context lost or activated.
URC_DATA, URC_CLOSED, URC_OPENED, URC_PDP_LOST, URC_PDP_RESULT = range(5)
_LINE_MAX = const(255)  # longer lines are truncated; no answer that is used is as long
_LINES_MAX = const(16)  # information lines kept of one answer
_QUEUE_MAX = const(8)
_QUIET_MS = const(500)  # silence required after a timeout, so that a late answer is not taken for the next one's


class QueueFullError(Exception):
    """The command queue is full: the modem does not answer, or not fast enough."""


class Command:
    """One command and its outcome.

    Args:
        text: the command without its line end, bytes.
        timeout_ms: longest time from writing the command to its final result code.
        prefix: start of its information lines (b"+CREG:"); b"": every line is one; None: it has none.
        payload: bytes to send at the prompt `>`.
        final: line that ends the command instead of `OK`, for example b"SEND OK".
        payload_length: function(line) returning how many payload bytes follow an information line.
        sink: bytearray for those bytes.

    Attributes:
        result: OK, ERROR or TIMEOUT; None until the command has ended.
        code: number of the +CME or +CMS ERROR, -1 without one.
        lines: information lines, at most 16.
        buffer_full: True after SEND FAIL: the send buffer of the modem is full.
        received: payload bytes in `sink`.
        overflow: payload bytes discarded because `sink` was full.
    """

    def __init__(self, text, timeout_ms=1000, prefix=None, payload=None, final=None, payload_length=None, sink=None):
        self.text = text
        self.timeout_ms = timeout_ms
        self.prefix = prefix
        self.payload = payload
        self.final = final
        self.payload_length = payload_length
        self.sink = sink
        self.result = None
        self.code = -1
        self.buffer_full = False
        self.lines = []
        self.received = 0
        self.overflow = 0

    def describe(self):
        """Return the outcome as text for an error message."""
        if self.result == OK:
            return "the answer lacks the requested data"
        if self.result == ERROR:
            return "ERROR" if self.code < 0 else "error %d" % self.code
        return "no answer in %d ms" % self.timeout_ms


class AtChannel:
    """Writes queued commands and assigns received lines to them.

    Args:
        write: function(bytes-like) that writes to the UART.
        on_urc: function(line) for every unsolicited line.

    Attributes:
        stray: final result codes received without a command.
        truncated: lines longer than 255 bytes.
        timeouts: commands that were not answered in time.
    """

    def __init__(self, write, on_urc):
        self._write = write
        self._on_urc = on_urc
        self._queue = []
        self._current = None
        self._deadline_ms = 0
        self._line = bytearray(_LINE_MAX)
        self._n = 0
        self._payload_left = 0
        self._prompted = False
        self._quiet_until_ms = None
        self.stray = self.truncated = self.timeouts = 0

    def is_idle(self):
        """Return True if no command is queued or being answered."""
        return self._current is None and not self._queue

    def submit(self, command):
        """Queue a command and return it.

        Raises:
            QueueFullError: eight commands are queued.
        """
        if len(self._queue) >= _QUEUE_MAX:
            raise QueueFullError("%d commands are queued; the modem does not answer" % _QUEUE_MAX)
        self._queue.append(command)
        return command

    def poll(self, now_ms):
        """End the current command if its time is over; write the next one if the channel is free."""
        if self._current is not None and now_ms - self._deadline_ms >= 0:
            self.timeouts += 1
            self._payload_left = 0
            self._quiet_until_ms = now_ms + _QUIET_MS
            self._end(TIMEOUT)
        if self._quiet_until_ms is not None:
            if now_ms - self._quiet_until_ms < 0:
                return
            self._quiet_until_ms = None
            self._n = 0
        if self._current is None and self._queue:
            command = self._current = self._queue.pop(0)
            self._deadline_ms = now_ms + command.timeout_ms
            self._prompted = False
            self._write(command.text + b"\r")

    def feed(self, buf, n, now_ms):
        """Process the bytes buf[:n] received from the UART."""
        if self._quiet_until_ms is not None:
            self._quiet_until_ms = now_ms + _QUIET_MS
        i = 0
        while i < n:
            if self._payload_left:
                i += self._feed_payload(buf, i, n)
                continue
            byte = buf[i]
            i += 1
            if byte == 10:
                end = min(self._n, _LINE_MAX)
                while end and self._line[end - 1] == 13:
                    end -= 1
                self._n = 0
                if end:
                    self._on_line(bytes(self._line[:end]))
            elif self._n < _LINE_MAX:
                self._line[self._n] = byte
                self._n += 1
                if byte == 62 and self._n == 1:
                    self._on_prompt()
            elif self._n == _LINE_MAX:
                self.truncated += 1
                self._n += 1  # counts a line once

    def _feed_payload(self, buf, i, n):
        """Move payload bytes from buf[i:n] to the sink; return how many were consumed."""
        command = self._current
        count = min(self._payload_left, n - i)
        self._payload_left -= count
        stored = min(count, len(command.sink) - command.received) if command.sink is not None else 0
        for k in range(stored):
            command.sink[command.received + k] = buf[i + k]
        command.received += stored
        command.overflow += count - stored
        return count

    def _on_prompt(self):
        command = self._current
        if command is not None and command.payload is not None and not self._prompted:
            self._prompted = True
            self._n = 0
            self._write(command.payload)

    def _on_line(self, line):
        command = self._current
        if self._quiet_until_ms is not None or command is None:
            if _is_final(line):
                self.stray += 1
            else:
                self._on_urc(line)
            return
        if line == command.text:
            return  # echo, before ATE0
        if command.final is not None and line == command.final:
            self._end(OK)
        elif line == b"OK":
            if command.final is None:
                self._end(OK)
        elif _is_final(line):
            command.code = _error_code(line)
            command.buffer_full = line == b"SEND FAIL"
            self._end(ERROR)
        elif command.prefix is not None and line.startswith(command.prefix):
            if len(command.lines) < _LINES_MAX:
                command.lines.append(line)
            if command.payload_length is not None:
                self._payload_left = max(0, command.payload_length(line))
        else:
            self._on_urc(line)

    def _end(self, result):
        command, self._current = self._current, None
        command.result = result


def _is_final(line):
    return line in (b"OK", b"ERROR", b"SEND FAIL", b"ABORTED") or line.startswith((b"+CME ERROR:", b"+CMS ERROR:"))


def _error_code(line):
    """Return the number of a +CME or +CMS ERROR; -1 for a verbose one, or another final result code."""
    digits = line[line.find(b":") + 1 :].strip() if b":" in line else b""
    return int(digits) if digits.isdigit() and len(digits) < 6 else -1


def fields(line):
    """Return the comma-separated fields after the colon of a line: integers as int, others as bytes without quotes.

    +CREG: 2,1,"1A2B",... gives [2, 1, b"1A2B", ...].
    """
    out = []
    for part in line[line.find(b":") + 1 :].split(b","):
        part = part.strip()
        if len(part) >= 2 and part[:1] == b'"' and part[-1:] == b'"':
            out.append(part[1:-1])
        elif part.isdigit() or part[:1] == b"-" and part[1:].isdigit():
            out.append(int(part))
        else:
            out.append(part)
    return out


def command_name(text):
    """Return a command without its arguments, which may hold names and passwords."""
    return str(text.split(b"=")[0], "ascii")


def printable(text):
    """Return up to 40 bytes from the modem as text, with `?` for bytes that are not printable ASCII."""
    out = bytearray(text[:40])  # in place: a list of characters would take 1 KB of a heap that may be nearly full
    for i in range(len(out)):
        if not 32 <= out[i] < 127:
            out[i] = 63  # ?
    return str(out, "ascii")


def parse_clock(line):
    """Return (days since 1970, ms) UTC of an AT+CCLK line; None for a default date (before 2020) or an invalid one.

    +CCLK: "yy/MM/dd,hh:mm:ss+zz" (TS 27.007, 8.15) is local time, zz its offset in quarters of an hour.
    """
    text = line[line.find(b'"') + 1 : line.rfind(b'"')]
    try:
        year, month, day = [int(text[i : i + 2]) for i in (0, 3, 6)]
        hour, minute, second = [int(text[i : i + 2]) for i in (9, 12, 15)]
        quarters = int(text[17:20])
    except ValueError:
        return None
    if not (20 <= year < 70 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return None
    seconds = hour * 3600 + minute * 60 + second - quarters * 900
    return days_from_civil(2000 + year, month, day) + seconds // 86400, seconds % 86400 * 1000
