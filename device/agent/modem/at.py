"""AT commands over a UART (ITU-T V.250; 3GPP TS 27.007 and 27.005), one at a time. Pure: bytes and time come in.

An answer is information lines and one final result code. Unsolicited result codes (URCs) may stand between any two
lines of it; a prompt asks for a payload; a payload of stated length may follow a line and may hold anything, `OK` too.
"""

OK, ERROR, TIMEOUT = 0, 1, 2
_LINE = 255  # longer lines are cut: no answer that is used comes near
_LINES = 16  # information lines kept of one answer
_QUEUE = 8
_QUIET_MS = 500  # after a timeout the line has to be silent for so long: a late answer is not the next one's


class QueueFull(Exception):
    """More commands were submitted than can wait: the modem does not keep up, or does not answer."""


class Command:
    """One command and, once `result` is not None, what became of it.

    text        without the line end
    timeout_ms  from the moment it is written to its final result
    prefix      information lines begin with this (b"+CREG:"); b"": every line is one; None: there are none
    payload     bytes to send at the prompt `>`
    final       line that ends the command instead of `OK`, as `SEND OK`
    raw         function(line) -> how many payload bytes follow this information line
    sink        bytearray that takes those bytes; what does not fit is dropped and counted in `missed`

    result      OK, ERROR or TIMEOUT; code: the number of +CME or +CMS ERROR, -1 without one; lines: information lines;
                full: it was SEND FAIL, the modem's buffer has no room
    """

    def __init__(self, text, timeout_ms=1000, prefix=None, payload=None, final=None, raw=None, sink=None):
        self.text = text
        self.timeout_ms = timeout_ms
        self.prefix = prefix
        self.payload = payload
        self.final = final
        self.raw = raw
        self.sink = sink
        self.result = None
        self.code = -1
        self.full = False
        self.lines = []
        self.received = 0
        self.missed = 0


class AtChannel:
    """
    write   function(bytes-like) that puts bytes on the UART
    urc     function(line) for every unsolicited line

    `stray` counts final results that nobody waits for, `cut` lines over 255 bytes, `timeouts` commands unanswered.
    """

    def __init__(self, write, urc):
        self._write = write
        self._urc = urc
        self._queue = []
        self._now = None  # the command being answered
        self._deadline = 0
        self._line = bytearray(_LINE)
        self._n = 0
        self._raw_left = 0
        self._prompted = False
        self._quiet_at = None
        self.stray = self.cut = self.timeouts = 0

    def idle(self):
        """True when nothing waits and nothing is being answered."""
        return self._now is None and not self._queue

    def submit(self, command):
        """Put a command in the queue and return it. QueueFull when eight wait."""
        if len(self._queue) >= _QUEUE:
            raise QueueFull("%d commands wait; the modem does not answer" % _QUEUE)
        self._queue.append(command)
        return command

    def poll(self, now_ms):
        """Write the next command when it is its turn; end one whose time is up."""
        command = self._now
        if command is not None and now_ms - self._deadline >= 0:
            self.timeouts += 1
            self._raw_left = 0
            self._quiet_at = now_ms + _QUIET_MS
            self._end(TIMEOUT)
        if self._quiet_at is not None:
            if now_ms - self._quiet_at < 0:
                return
            self._quiet_at = None
            self._n = 0
        if self._now is None and self._queue:
            command = self._now = self._queue.pop(0)
            self._deadline = now_ms + command.timeout_ms
            self._prompted = False
            self._write(command.text + b"\r")

    def feed(self, buf, n, now_ms):
        """Take the first n bytes of buf from the UART."""
        if self._quiet_at is not None:
            self._quiet_at = now_ms + _QUIET_MS
        i = 0
        while i < n:
            if self._raw_left:
                i += self._take_raw(buf, i, n)
                continue
            byte = buf[i]
            i += 1
            if byte == 10:
                end = min(self._n, _LINE)
                while end and self._line[end - 1] == 13:
                    end -= 1
                self._n = 0
                if end:
                    self._on_line(bytes(self._line[:end]))
            elif self._n < _LINE:
                self._line[self._n] = byte
                self._n += 1
                if byte == 62 and self._n == 1:
                    self._on_prompt()
            elif self._n == _LINE:
                self.cut += 1
                self._n += 1  # counted once a line

    def _take_raw(self, buf, i, n):
        """Move payload bytes from buf[i:n] to the sink; return how many were used."""
        command = self._now
        take = min(self._raw_left, n - i)
        self._raw_left -= take
        room = min(take, len(command.sink) - command.received) if command.sink is not None else 0
        for k in range(room):
            command.sink[command.received + k] = buf[i + k]
        command.received += room
        command.missed += take - room
        return take

    def _on_prompt(self):
        command = self._now
        if command is not None and command.payload is not None and not self._prompted:
            self._prompted = True
            self._n = 0
            self._write(command.payload)

    def _on_line(self, line):
        command = self._now
        if self._quiet_at is not None or command is None:
            if _is_final(line):
                self.stray += 1
            else:
                self._urc(line)
            return
        if line == command.text:
            return  # echo, until ATE0 is in force
        if command.final is not None and line == command.final:
            self._end(OK)
        elif line == b"OK":
            if command.final is None:
                self._end(OK)
        elif _is_final(line):
            command.code = _code(line)
            command.full = line == b"SEND FAIL"
            self._end(ERROR)
        elif command.prefix is not None and line.startswith(command.prefix):
            self._keep(line)
            if command.raw is not None:
                self._raw_left = max(0, command.raw(line))
        else:
            self._urc(line)

    def _keep(self, line):
        if len(self._now.lines) < _LINES:
            self._now.lines.append(line)

    def _end(self, result):
        command, self._now = self._now, None
        command.result = result


def _is_final(line):
    return line in (b"OK", b"ERROR", b"SEND FAIL", b"ABORTED") or line.startswith((b"+CME ERROR:", b"+CMS ERROR:"))


def _code(line):
    """The number of a +CME or +CMS ERROR; -1 for a verbose or a missing one."""
    digits = line[line.find(b":") + 1 :].strip() if b":" in line else b""
    return int(digits) if digits.isdigit() and len(digits) < 6 else -1


def numbers(line):
    """Return the comma-separated fields behind the colon of an information line: integers where they are, else bytes.

    Quotes around text go. +CREG: 2,1,"1A2B",... gives [2, 1, b"1A2B", ...].
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
