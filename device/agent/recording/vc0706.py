"""A camera that gives JPEGs over a UART: Vimicro's VC0706, as LinkSprite's and Adafruit's modules have it.

Who is in the picture sees that it is taken, as in opencv_camera.py: nothing is sent to the camera unless the indicator
was set and read back as on, and no picture leaves here unless it still was once the picture was there.

A picture is stopped in the camera's memory and read in pieces that the UART's buffer holds, so the loop may be late; a
piece that comes damaged is read again.
"""

from patrolink_protocol.native import const, micropython, ptr8  # noqa: F401

BAUD = const(115200)
PICTURE_KB = const(16)
SIZES = {(640, 480): 0x00, (320, 240): 0x11, (160, 120): 0x22}
# What SET_PORT says for a rate: its UART, or its fast one.
RATES = {
    9600: b"\x03\x01\xae\xc8",
    19200: b"\x03\x01\x56\xe4",
    38400: b"\x03\x01\x2a\xf2",
    57600: b"\x03\x01\x1c\x4c",
    115200: b"\x03\x01\x0d\xa6",
    460800: b"\x05\x02\x00\x03\x02\xa6",
    921600: b"\x05\x02\x00\x01\x03\x53",
}
_AT_POWER_UP = (38400, 115200)
_ASK, _ANSWER = const(0x56), const(0x76)
_VERSION, _SET_PORT, _WRITE = const(0x11), const(0x24), const(0x31)
_READ, _LENGTH, _DOWNSIZE = const(0x32), const(0x34), const(0x54)
# Steps: what is being waited for.
_DARK, _HAIL, _PORT, _SIZE, _RATIO, _RESUME, _PACE, _STOP, _MEASURE, _PIECE = range(10)

_HEAD = const(5)
_PIECE_BYTES = const(1024)
_FINE, _COARSER, _COARSEST = const(0x36), const(0x18), const(0xFF)  # compression: as at power up, a step, the most
_PATIENCE_MS = const(500)
_HAIL_MS = const(150)
_SILENCE_MS = const(150)  # within a piece: bytes were lost
_QUIET_MS = const(50)  # after noise in a piece, before it is asked for again
_AGAIN_MS = const(1000)  # a camera that was reset takes about as long
_TRIES = const(3)
_ROUNDS = const(2)  # through all rates: a camera needs a second after its power comes
_BROKEN = const(5)  # pictures in a row, then it is reset
_READS = const(8)  # of the UART in a call


class _Dark(Exception):
    """The indicator is not on; the text says why."""


@micropython.viper
def move(source: ptr8, at: int, out: ptr8, to: int, n: int):
    """Copy n bytes of source[at:] to out[to:]."""
    i = 0
    while i < n:
        out[to + i] = source[at + i]
        i += 1


class Camera:
    """
    uart       hal Uart: readinto(buf), write(buf), rate(baud)
    indicator  hal Pin: set(level), get() -> bool
    given      configuration: width, height, fps; baud (115200), picture_kb (16). ValueError tells what is wrong in it
    fault      why there are no pictures, though they are wanted or the indicator could not even be put out; else ""
    damaged    pictures that came damaged or too large; dropped: those that nobody took in time, none

    No method waits. The camera goes on while `frame` is called.
    """

    def __init__(self, uart, indicator, now_ms, log, given):
        self.width, self.height, self.fps = given.get("width", 320), given.get("height", 240), given.get("fps", 5)
        baud = given.get("baud", BAUD)
        if (self.width, self.height) not in SIZES:
            raise ValueError("camera: width and height: it has 640x480, 320x240 and 160x120")
        if baud not in RATES:
            raise ValueError("camera: baud: it has %s" % ", ".join([str(rate) for rate in sorted(RATES)]))
        room = given.get("picture_kb", PICTURE_KB)
        if not isinstance(room, int) or not 2 <= room <= 63:
            raise ValueError("camera: picture_kb: 2 to 63")
        if not isinstance(self.fps, int) or not 1 <= self.fps <= 30:
            raise ValueError("camera: fps: 1 to 30")
        self._uart = uart
        self._indicator = indicator
        self._now_ms = now_ms
        self._log = log
        self._rates = [baud]  # then the likely ones, then what a life before may have set
        self._rates += [rate for rate in _AT_POWER_UP if rate != baud]
        self._rates += [rate for rate in RATES if rate not in self._rates]
        self._rate = self._round = 0  # index of the rate that is spoken; rounds without an answer
        self._picture = bytearray(room * 1024)
        self._view = memoryview(self._picture)
        self._buf = bytearray(512)
        self._reply = bytearray(16)
        self._read = bytearray((_ASK, 0, _READ, 12, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10))
        self._step = _DARK
        self._command = self._due = self._tries = self._broken = 0
        # Bytes: of the answer, -1 when none is waited for; that it has; of the piece still to come.
        self._have, self._need, self._piece = -1, 0, 0
        self._closing = False  # the piece is here; the head after it is not
        self._at = self._size = self._begin = 0  # bytes: of the picture that are here; it has; where the piece begins
        self._taken_ms = self._next_ms = 0
        self._wanted = False
        self._ratio = _FINE
        self._told = ""
        self.fault = ""
        self.damaged = self.dropped = 0
        try:
            self._light(0)  # a life before this one may have ended suddenly
        except _Dark as e:
            self._failed(str(e))

    def open(self):
        """Begin to take pictures, and go on until `close`, however often the camera goes away and comes back."""
        self._wanted = True
        self._due = self._now_ms()

    def close(self):
        """Take no more pictures; the indicator goes off."""
        self._wanted = False
        self._step = _DARK
        self._have = -1
        try:
            self._light(0)
        except _Dark as e:
            self._failed(str(e))

    def frame(self):
        """Return (JPEG, monotonic ms, None) of a picture that has come, or None. It holds until the next call."""
        if not self._wanted:
            return None
        for _ in range(_READS):
            n = self._uart.readinto(self._buf)
            if not n:
                break
            if self._take(n) and self._answered():
                return (self._view[: self._size], self._taken_ms, None)
        if self._now_ms() >= self._due:
            self._late()
        return None

    # --- the indicator ----------------------------------------------------------------------------------------------

    def _light(self, level):
        try:
            self._indicator.set(level)
        except OSError as e:
            raise _Dark("the indicator cannot be set (%s)" % e)

    def _lit(self):
        """True while the indicator is on; else all begins anew."""
        try:
            self._look()
        except _Dark as e:
            self._restart(str(e))
            return False
        return True

    def _look(self):
        """The indicator is on, or there is no picture."""
        try:
            lit = self._indicator.get()
        except OSError as e:
            raise _Dark("the indicator cannot be read (%s)" % e)
        if not lit:
            raise _Dark("the indicator is not on")

    def _failed(self, why):
        self.fault = why
        if why != self._told:
            self._told = why
            self._log("camera: %s" % why)

    def _restart(self, why):
        """No pictures: the indicator off, and all from the beginning in a second."""
        self._failed(why)
        self._step = _DARK
        self._have = -1
        self._due = self._now_ms() + _AGAIN_MS
        try:
            self._light(0)
        except _Dark as e:
            self._failed(str(e))

    # --- what is said -----------------------------------------------------------------------------------------------

    def _say(self, step, command):
        """Send a command and wait for its answer."""
        self._uart.write(command)
        self._command = command[2]
        self._step = step
        self._have = self._piece = 0
        self._closing = False
        self._due = self._now_ms() + (_HAIL_MS if step in (_HAIL, _PORT) else _PATIENCE_MS)

    def _hail(self):
        self._uart.set_baud(self._rates[self._rate])
        self._say(_HAIL, b"\x56\x00\x11\x00")

    def _ask(self, step):
        """Take the step, for the first time or again."""
        if step == _SIZE:
            self._say(step, bytes((_ASK, 0, _DOWNSIZE, 1, SIZES[(self.width, self.height)])))
        elif step == _RATIO:
            self._say(step, bytes((_ASK, 0, _WRITE, 5, 1, 1, 0x12, 4, self._ratio)))
        elif step == _RESUME:
            self._say(step, b"\x56\x00\x36\x01\x03")
        elif step == _STOP:
            self._taken_ms = self._now_ms()
            self._say(step, b"\x56\x00\x36\x01\x00")
        elif step == _MEASURE:
            self._say(step, b"\x56\x00\x34\x01\x00")
        else:
            self._fetch()

    def _fetch(self):
        """Ask for the piece at _begin."""
        n = min(_PIECE_BYTES, self._size - self._begin)
        ask = self._read
        ask[8], ask[9] = self._begin >> 8, self._begin & 255
        ask[12], ask[13] = n >> 8, n & 255
        self._at = self._begin
        self._say(_PIECE, ask)
        self._piece = n

    # --- what is heard ----------------------------------------------------------------------------------------------

    def _take(self, n):
        """Take the n bytes that came; True when the answer is whole. What comes after it is nobody's."""
        buf = self._buf
        i = 0
        while i < n and self._have >= 0:
            if self._have == _HEAD and self._piece:
                k = min(self._piece, n - i)
                move(buf, i, self._picture, self._at, k)
                self._at += k
                self._piece -= k
                i += k
                self._due = self._now_ms() + _SILENCE_MS
                if not self._piece:
                    self._have = 0  # the same head once more
                    self._closing = True
            else:
                self._head(buf[i])
                i += 1
                if self._have >= _HEAD and self._have == self._need and not self._piece:
                    return True
        return False

    def _head(self, c):
        """Take a byte of an answer: 76, 00, the command, 00, the length of its data. Others are passed over."""
        have = self._have
        if have >= _HEAD:
            self._reply[have] = c
            self._have = have + 1
            return
        expected = (
            c == _ANSWER if have == 0
            else c == self._command if have == 2
            else c == (4 if self._command == _LENGTH else 0) or self._command == _VERSION if have == 4
            else c == 0
        )  # fmt: skip
        if not expected:
            self._have = 1 if c == _ANSWER else 0
            if self._closing:  # a piece with noise in it
                self._have = -1
                self._due = self._now_ms() + _QUIET_MS
            return
        self._have = have + 1
        if self._have == _HEAD:
            self._need = _HEAD + min(c, len(self._reply) - _HEAD)

    # --- what comes next --------------------------------------------------------------------------------------------

    def _answered(self):
        """The answer is there: go on. True when it was a picture's last piece, and the picture is good."""
        step = self._step
        self._tries = 0
        if step == _HAIL:
            self._round = 0
            if self._rate:
                self._say(_PORT, bytes((_ASK, 0, _SET_PORT)) + RATES[self._rates[0]])
            else:
                self._ask(_SIZE)
        elif step == _PORT:
            self._rate = 0
            self._hail()
        elif step == _SIZE:
            self._ask(_RATIO)
        elif step == _RATIO:
            self._ask(_RESUME)
        elif step == _RESUME:
            self._step = _PACE
            self._have = -1
            now = self._now_ms()
            self._next_ms = self._due = max(self._next_ms + 1000 // self.fps, now)
        elif step == _STOP:
            self._ask(_MEASURE)
        elif step == _MEASURE:
            self._measured()
        elif step == _PIECE:
            return self._has_piece()
        return False

    def _measured(self):
        reply = self._reply
        size = reply[7] << 8 | reply[8]
        room = len(self._picture)
        if reply[5] or reply[6] or size > room:
            if self._ratio < _COARSEST:
                self._broken = 0  # no reason for a reset
            self._coarser()
            self._bad("a picture is larger than the %d bytes that there are for it; compressing more" % room, _RATIO)
        elif size < 4:
            self._bad("a picture is empty", _RESUME)
        else:
            self._size = size
            self._begin = 0
            self._fetch()

    def _has_piece(self):
        self._begin = self._at
        if self._at < self._size:
            self._fetch()
            return False
        jpeg = self._picture
        end = self._size
        if jpeg[0] != 0xFF or jpeg[1] != 0xD8 or jpeg[end - 2] != 0xFF or jpeg[end - 1] != 0xD9:
            self._bad("a picture is no whole JPEG", _RESUME)
            return False
        if not self._lit():
            return False
        self._broken = 0
        self.fault = self._told = ""
        if self._size * 8 > len(jpeg) * 7 and self._ratio < _COARSEST:
            self._coarser()  # before one does not fit
            self._ask(_RATIO)
        else:
            self._ask(_RESUME)
        return True

    def _coarser(self):
        self._ratio = min(self._ratio + _COARSER, _COARSEST)

    def _bad(self, why, step):
        self.damaged += 1
        self._broken += 1
        self._next_ms -= 1000 // self.fps  # the next one takes its place
        self._failed(why)
        if self._broken >= _BROKEN:
            self._reset(why)
        else:
            self._ask(step)

    def _reset(self, why):
        self._broken = self._tries = self._rate = 0
        self._ratio = max(_FINE, self._ratio - _COARSER)
        self._say(_DARK, b"\x56\x00\x26\x00")
        self._restart(why)

    def _late(self):
        """Nothing came in time, or it is time for the next picture, or for another attempt."""
        step = self._step
        if step == _DARK:
            self._start()
        elif step == _PACE:
            if self._lit():
                self._ask(_STOP)
        elif step == _HAIL:
            self._unheard()
        elif step == _PORT:
            self._rate = 0  # the answer came at the new rate already
            self._hail()
        else:
            self._tries += 1
            if self._tries < _TRIES:
                self._ask(step)
            else:
                self._reset("it has stopped answering, and is reset")

    def _start(self):
        try:
            self._light(1)
            self._look()
        except _Dark as e:
            self._restart(str(e))
            return
        self._tries = 0
        self._next_ms = self._now_ms()
        self._hail()

    def _unheard(self):
        """No answer at this rate: try the next; after some rounds a reset, each time at another rate."""
        self._rate += 1
        if self._rate < len(self._rates):
            self._hail()
            return
        self._rate = 0
        self._round += 1
        if self._round % _ROUNDS:
            self._hail()
            return
        self._uart.set_baud(self._rates[(self._round // _ROUNDS - 1) % len(self._rates)])
        self._reset("it does not answer; look after its power and its line")
