"""Driver of a VC0706 camera (Vimicro), which gives JPEGs over a UART, as in modules of LinkSprite and Adafruit.

A person in the picture can see that it is taken, as with hal/posix/opencv_camera.py: the driver sends nothing to the
camera before the indicator was set and read back as on, and returns a picture only if the indicator was still on after
it was read.

The camera keeps a picture in its memory, and the driver reads it in pieces that fit the UART's buffer. So the main loop
may be late, and a damaged piece is read again.
"""

from agent.recording.vc0706_config import RATES, SIZES, candidate_rates, check_config
from patrolink_protocol.native import const, micropython, ptr8  # noqa: F401 - ptr8 is a type of viper

_COMMAND, _RESPONSE = const(0x56), const(0x76)  # first byte
_VERSION, _SET_PORT, _WRITE = const(0x11), const(0x24), const(0x31)
_READ, _LENGTH, _DOWNSIZE = const(0x32), const(0x34), const(0x54)
# The state: what the driver waits for.
_OFF, _HELLO, _PORT, _SIZE, _RATIO, _RESUME, _INTERVAL, _STOP, _MEASURE, _PIECE = range(10)

_HEAD = const(5)
_PIECE_BYTES = const(1024)
_RATIO_MIN, _RATIO_STEP, _RATIO_MAX = const(0x36), const(0x18), const(0xFF)  # compression; the first as at power up
_RESPONSE_MS = const(500)
_HELLO_MS = const(150)
_PIECE_MS = const(150)  # without a byte within a piece: bytes were lost
_NOISE_MS = const(50)  # after noise in a piece, before it is read again
_RESTART_MS = const(1000)  # about the time that a camera takes after a reset
_TRIES_MAX = const(3)
_ROUNDS = const(2)  # through all rates, then a reset: a camera needs a second after power up
_FAILURES_MAX = const(5)  # bad pictures in a row, then a reset
_READS_MAX = const(8)  # of the UART in one call


class _IndicatorError(Exception):
    """The indicator is not on. The text gives the reason."""


@micropython.viper
def move(source: ptr8, at: int, out: ptr8, to: int, n: int):
    """Copy n bytes of source[at:] to out[to:]."""
    i = 0
    while i < n:
        out[to + i] = source[at + i]
        i += 1


class Camera:
    """State machine of the camera. No method waits; `frame` has to be called often.

    Attributes:
        width, height, fps: Of the pictures.
        fault: Why there are no pictures, or why the indicator cannot be switched off; "" without a fault.
        damaged: Pictures that were damaged or too large.
        dropped: Pictures that were not taken in time: always 0.

    Args:
        uart: hal Uart: readinto(buf), write(buf), set_baud(baud).
        indicator: hal Pin: set(level), get() -> bool.
        now_ms: Function() -> monotonic ms.
        log: Function(text).
        settings: Configuration, see vc0706_config.check_config.

    Raises:
        ValueError: A setting is invalid.
    """

    def __init__(self, uart, indicator, now_ms, log, settings):
        config = check_config(settings)
        self.width, self.height, self.fps = config.width, config.height, config.fps
        self._uart = uart
        self._indicator = indicator
        self._now_ms = now_ms
        self._log = log
        self._rates = candidate_rates(config.baud)
        self._rate = self._round = 0  # index of the current rate; rounds through all rates without a response
        self._picture = bytearray(config.picture_bytes)
        self._view = memoryview(self._picture)
        self._buf = bytearray(512)
        self._response = bytearray(16)
        self._read_command = bytearray((_COMMAND, 0, _READ, 12, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10))
        self._state = _OFF
        self._command = self._due_ms = self._tries = self._failures = 0
        self._have = -1  # bytes of the response so far, -1 while none is expected
        self._need = 0  # bytes of the response
        self._piece = 0  # bytes of the piece still to come
        self._in_trailer = False  # the piece is complete; the same head follows it once more
        self._at = self._size = self._begin = 0  # in the picture: bytes so far, all bytes, begin of the piece
        self._taken_ms = self._next_ms = 0
        self._enabled = False
        self._ratio = _RATIO_MIN
        self._logged_fault = ""
        self.fault = ""
        self.damaged = self.dropped = 0
        self._switch_off()  # an earlier boot may have ended with the indicator on

    def open(self):
        """Start taking pictures. After each fault the driver tries again, until `close`."""
        self._enabled = True
        self._due_ms = self._now_ms()

    def close(self):
        """Stop taking pictures, and switch the indicator off."""
        self._enabled = False
        self._state = _OFF
        self._have = -1
        self._switch_off()

    def frame(self):
        """Return (JPEG, monotonic ms, None) of a new picture, or None. The JPEG is valid until the next call."""
        if not self._enabled:
            return None
        for _ in range(_READS_MAX):
            n = self._uart.readinto(self._buf)
            if not n:
                break
            if self._feed(n) and self._handle_response():
                return (self._view[: self._size], self._taken_ms, None)
        if self._now_ms() >= self._due_ms:
            self._handle_timeout()
        return None

    # --- the indicator ----------------------------------------------------------------------------------------------

    def _set_indicator(self, level):
        try:
            self._indicator.set(level)
        except OSError as e:
            raise _IndicatorError("the indicator cannot be set (%s)" % e)

    def _switch_off(self):
        try:
            self._set_indicator(0)
        except _IndicatorError as e:
            self._fail(str(e))

    def _indicator_is_on(self):
        """Return whether the indicator is on; if not, restart."""
        try:
            self._check_indicator()
        except _IndicatorError as e:
            self._restart(str(e))
            return False
        return True

    def _check_indicator(self):
        try:
            is_on = self._indicator.get()
        except OSError as e:
            raise _IndicatorError("the indicator cannot be read (%s)" % e)
        if not is_on:
            raise _IndicatorError("the indicator is not on")

    def _fail(self, reason):
        self.fault = reason
        if reason != self._logged_fault:
            self._logged_fault = reason
            self._log("camera: %s" % reason)

    def _restart(self, reason):
        """Switch the indicator off, and start again after a second."""
        self._fail(reason)
        self._state = _OFF
        self._have = -1
        self._due_ms = self._now_ms() + _RESTART_MS
        self._switch_off()

    # --- commands ---------------------------------------------------------------------------------------------------

    def _send(self, state, command):
        """Send a command, and expect its response in the new state."""
        self._uart.write(command)
        self._command = command[2]
        self._state = state
        self._have = self._piece = 0
        self._in_trailer = False
        self._due_ms = self._now_ms() + (_HELLO_MS if state in (_HELLO, _PORT) else _RESPONSE_MS)

    def _say_hello(self):
        self._uart.set_baud(self._rates[self._rate])
        self._send(_HELLO, b"\x56\x00\x11\x00")

    def _enter(self, state):
        """Enter a state: send its command, for the first time or again."""
        if state == _SIZE:
            self._send(state, bytes((_COMMAND, 0, _DOWNSIZE, 1, SIZES[(self.width, self.height)])))
        elif state == _RATIO:
            self._send(state, bytes((_COMMAND, 0, _WRITE, 5, 1, 1, 0x12, 4, self._ratio)))
        elif state == _RESUME:
            self._send(state, b"\x56\x00\x36\x01\x03")
        elif state == _STOP:
            self._taken_ms = self._now_ms()
            self._send(state, b"\x56\x00\x36\x01\x00")
        elif state == _MEASURE:
            self._send(state, b"\x56\x00\x34\x01\x00")
        else:
            self._read_piece()

    def _read_piece(self):
        """Read the piece at _begin."""
        n = min(_PIECE_BYTES, self._size - self._begin)
        command = self._read_command
        command[8], command[9] = self._begin >> 8, self._begin & 255
        command[12], command[13] = n >> 8, n & 255
        self._at = self._begin
        self._send(_PIECE, command)
        self._piece = n

    # --- responses --------------------------------------------------------------------------------------------------

    def _feed(self, n):
        """Parse the n received bytes. Returns True at the end of the response; bytes after it are ignored."""
        buf = self._buf
        i = 0
        while i < n and self._have >= 0:
            if self._have == _HEAD and self._piece:
                k = min(self._piece, n - i)
                move(buf, i, self._picture, self._at, k)
                self._at += k
                self._piece -= k
                i += k
                self._due_ms = self._now_ms() + _PIECE_MS
                if not self._piece:
                    self._have = 0  # the same head follows once more
                    self._in_trailer = True
            else:
                self._feed_head(buf[i])
                i += 1
                if self._have >= _HEAD and self._have == self._need and not self._piece:
                    return True
        return False

    def _feed_head(self, c):
        """Parse a byte of a response: 76, 00, command, 00, length, data. Other bytes are skipped."""
        have = self._have
        if have >= _HEAD:
            self._response[have] = c
            self._have = have + 1
            return
        expected = (
            c == _RESPONSE if have == 0
            else c == self._command if have == 2
            else c == (4 if self._command == _LENGTH else 0) or self._command == _VERSION if have == 4
            else c == 0
        )  # fmt: skip
        if not expected:
            self._have = 1 if c == _RESPONSE else 0
            if self._in_trailer:  # noise in a piece
                self._have = -1
                self._due_ms = self._now_ms() + _NOISE_MS
            return
        self._have = have + 1
        if self._have == _HEAD:
            self._need = _HEAD + min(c, len(self._response) - _HEAD)

    # --- state machine ----------------------------------------------------------------------------------------------

    def _handle_response(self):
        """Continue after a response. Returns True if a good picture is complete."""
        state = self._state
        self._tries = 0
        if state == _HELLO:
            self._round = 0
            if self._rate:
                self._send(_PORT, bytes((_COMMAND, 0, _SET_PORT)) + RATES[self._rates[0]])
            else:
                self._enter(_SIZE)
        elif state == _PORT:
            self._rate = 0
            self._say_hello()
        elif state == _SIZE:
            self._enter(_RATIO)
        elif state == _RATIO:
            self._enter(_RESUME)
        elif state == _RESUME:
            self._state = _INTERVAL
            self._have = -1
            now = self._now_ms()
            self._next_ms = self._due_ms = max(self._next_ms + 1000 // self.fps, now)
        elif state == _STOP:
            self._enter(_MEASURE)
        elif state == _MEASURE:
            self._handle_length()
        elif state == _PIECE:
            return self._handle_piece()
        return False

    def _handle_length(self):
        response = self._response
        size = response[7] << 8 | response[8]
        size_max = len(self._picture)
        if response[5] or response[6] or size > size_max:
            if self._ratio < _RATIO_MAX:
                self._failures = 0  # no reason for a reset: the next one is smaller
            self._compress_more()
            self._reject("a picture exceeds %d bytes (picture_kb); compressing more" % size_max, _RATIO)
        elif size < 4:
            self._reject("a picture is empty", _RESUME)
        else:
            self._size = size
            self._begin = 0
            self._read_piece()

    def _handle_piece(self):
        self._begin = self._at
        if self._at < self._size:
            self._read_piece()
            return False
        jpeg = self._picture
        end = self._size
        if jpeg[0] != 0xFF or jpeg[1] != 0xD8 or jpeg[end - 2] != 0xFF or jpeg[end - 1] != 0xD9:
            self._reject("a picture is not a complete JPEG", _RESUME)
            return False
        if not self._indicator_is_on():
            return False
        self._failures = 0
        self.fault = self._logged_fault = ""
        if self._size * 8 > len(jpeg) * 7 and self._ratio < _RATIO_MAX:
            self._compress_more()  # before a picture does not fit
            self._enter(_RATIO)
        else:
            self._enter(_RESUME)
        return True

    def _compress_more(self):
        self._ratio = min(self._ratio + _RATIO_STEP, _RATIO_MAX)

    def _reject(self, reason, state):
        self.damaged += 1
        self._failures += 1
        self._next_ms -= 1000 // self.fps  # the next picture takes its place
        self._fail(reason)
        if self._failures >= _FAILURES_MAX:
            self._reset(reason)
        else:
            self._enter(state)

    def _reset(self, reason):
        self._failures = self._tries = self._rate = 0
        self._ratio = max(_RATIO_MIN, self._ratio - _RATIO_STEP)
        self._send(_OFF, b"\x56\x00\x26\x00")
        self._restart(reason)

    def _handle_timeout(self):
        """No response in time, or it is time for the next picture or for another attempt."""
        state = self._state
        if state == _OFF:
            self._start()
        elif state == _INTERVAL:
            if self._indicator_is_on():
                self._enter(_STOP)
        elif state == _HELLO:
            self._try_next_rate()
        elif state == _PORT:
            self._rate = 0  # the response came at the new rate
            self._say_hello()
        else:
            self._tries += 1
            if self._tries < _TRIES_MAX:
                self._enter(state)
            else:
                self._reset("it stopped responding; resetting it")

    def _start(self):
        try:
            self._set_indicator(1)
            self._check_indicator()
        except _IndicatorError as e:
            self._restart(str(e))
            return
        self._tries = 0
        self._next_ms = self._now_ms()
        self._say_hello()

    def _try_next_rate(self):
        """No response at this rate: try the next one. After some rounds send a reset, each time at another rate."""
        self._rate += 1
        if self._rate < len(self._rates):
            self._say_hello()
            return
        self._rate = 0
        self._round += 1
        if self._round % _ROUNDS:
            self._say_hello()
            return
        self._uart.set_baud(self._rates[(self._round // _ROUNDS - 1) % len(self._rates)])
        self._reset("no response; check its power and its wiring")
