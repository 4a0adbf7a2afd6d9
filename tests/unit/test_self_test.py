"""The parts of the self-test, on a board that is a model; each part fails in turn."""

from agent import self_test
from agent.self_test import SelfTest
from memory_storage import MemoryFiles
from patrolink_protocol.key_derivation import derive_key

KEY = bytes(range(32))
CONFIG = {
    "key": KEY,
    "key_epoch": 3,
    "gps_uart": "gps",
    "state_dir": "state",
    "modem": {"uart": "modem", "power_pin": 9},
    "camera": {"indicator": 4},
    "audio": {"mic": "mic", "indicator": 4},
}
GGA = b"$GPGGA,120000.00,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*54\r\n"
NO_FIX = b"$GPGGA,120000.00,,,,,0,00,99.9,,M,,M,,*55\r\n"
ANSWERS = {
    b"AT": b"OK",
    b"AT+CPIN?": b"+CPIN: READY\r\n\r\nOK",
    b"AT+CEREG?": b"+CEREG: 1,1\r\n\r\nOK",
    b"AT+CGREG?": b"+CGREG: 1,0\r\n\r\nOK",
    b"AT+CSQ": b"+CSQ: 21,99\r\n\r\nOK",
}


def checked(body):
    """Return a sentence with its checksum."""
    total = 0
    for byte in body[1 : body.index(b"*")]:
        total ^= byte
    return body[: body.index(b"*") + 1] + b"%02X\r\n" % total


class Pin:
    def __init__(self, board, number):
        self._board = board
        self._number = number

    def set(self, level):
        self._board.pins[self._number] = level

    def get(self):
        return bool(self._board.pins[self._number]) and not self._board.dark


class Inputs:
    def add(self, uart):
        pass


class GpsUart:
    def __init__(self, board):
        self._board = board
        self._sent = 0

    def readinto(self, buf):
        sentence = self._board.sentence
        due = self._board.now_ms() // 200
        if self._sent >= due or not sentence:
            return 0
        self._sent = due
        if b"*" in sentence and sentence == checked(sentence):  # damaged ones stay as they are
            sentence = checked(sentence.replace(b"120000.00", b"1200%02d.%d0" % (due // 5 % 60, due % 5 * 2)))
        buf[: len(sentence)] = sentence
        return len(sentence)


class ModemUart:
    def __init__(self, board):
        self._board = board
        self._out = b""

    def write(self, data):
        text = bytes(data).strip()
        self._out += b"\r\n" + self._board.answers[text] + b"\r\n" if text in self._board.answers else b""

    def readinto(self, buf):
        n = min(len(buf), len(self._out))
        buf[:n] = self._out[:n]
        self._out = self._out[n:]
        return n


class Microphone:
    def __init__(self, board):
        self._board = board
        self.buf = bytearray(160)
        self.closed = False

    def open(self):
        return self._board.samples is not None

    def read(self):
        samples = self._board.samples
        self._board.pause(10)
        self.buf[: len(samples)] = samples
        return len(samples)

    def close(self):
        self._board.microphone_closed = True


class Board:
    """A platform whose parts are good; a test damages one."""

    def __init__(self):
        self.sentence = checked(GGA)
        self.answers = dict(ANSWERS)
        self.pins = {}
        self.dark = False
        self.samples = bytes([0x10, 0x02] * 80)
        self.microphone_closed = False
        self.files = MemoryFiles()
        self.free = 500
        self._now_ms = 0

    def now_ms(self):
        return self._now_ms

    def pause(self, ms):
        self._now_ms += ms

    def Uart(self, where, now_ms, log, name, inputs):  # noqa: N802 - of the HAL
        return GpsUart(self) if where == "gps" else ModemUart(self)

    def Pin(self, number):  # noqa: N802 - of the HAL
        return Pin(self, number)

    def Inputs(self):  # noqa: N802 - of the HAL
        return Inputs()

    def Files(self, directory):  # noqa: N802 - of the HAL
        return self.files

    def audio(self):
        return self

    def Microphone(self, where, indicator, inputs, log):  # noqa: N802 - of the HAL
        return Microphone(self)

    def test(self, config=CONFIG):
        return SelfTest(config, self, self.now_ms, self.pause, print, lambda: self.free)


def test_everything_is_fine():
    board = Board()
    test = board.test()
    nonce = b"n" * 16
    outcome = test.key(nonce)
    assert outcome["ok"] and outcome["proof"] == derive_key(KEY, self_test.KEY_LABEL, 3, nonce)
    assert test.gps(30000)["text"].startswith("5 sentences, fix with 8 satellites after")
    assert test.modem(30000) == {"ok": True, "text": "registered at home, signal -71 dBm"}
    assert board.pins[9] == 1
    assert test.indicator(1)["ok"] and board.pins[4] == 1
    assert test.indicator(0)["ok"] and board.pins[4] == 0
    assert test.microphone() == {"ok": True, "text": "peak 528 of 32767"} and board.microphone_closed
    assert test.storage() == {"ok": True, "text": "writable, 500 KB free, 64 are needed"}
    assert board.files.data == {}


def test_parts_that_are_not_fitted():
    test = Board().test({"key": KEY, "key_epoch": 0, "gps_uart": "gps", "state_dir": "state"})
    for outcome in (test.modem(1000), test.indicator(1), test.microphone()):
        assert outcome["ok"] is None and "in the configuration" in outcome["text"]


def failing(part, damage, text):
    board = Board()
    damage(board)
    test = board.test()
    outcome = {
        "gps": lambda: test.gps(5000),
        "modem": lambda: test.modem(5000),
        "indicator": lambda: test.indicator(1),
        "microphone": test.microphone,
        "storage": test.storage,
    }[part]()
    assert outcome["ok"] is False and text in outcome["text"], (part, text, outcome)


def test_gps_that_fails():
    failing("gps", lambda board: setattr(board, "sentence", b""), "sends nothing")
    failing("gps", lambda board: setattr(board, "sentence", b"\x80\x00\xffgarbage\r\n"), "no valid sentence")
    failing("gps", lambda board: setattr(board, "sentence", GGA[:-4] + b"00\r\n"), "no valid sentence")
    failing("gps", lambda board: setattr(board, "sentence", checked(NO_FIX)), "but no fix within 5 s")


def answer(text, reply):
    return lambda board: board.answers.update({text: reply})


def test_modem_that_fails():
    failing("modem", lambda board: board.answers.clear(), "does not answer")
    failing("modem", answer(b"AT+CPIN?", b"+CME ERROR: 10"), "the SIM is not ready (no answer)")
    failing("modem", answer(b"AT+CPIN?", b"+CPIN: SIM PIN\r\nOK"), "the SIM is not ready (SIM PIN)")
    failing("modem", answer(b"AT+CEREG?", b"+CEREG: 1,3\r\nOK"), "not registered (status 3)")
    failing("modem", answer(b"AT+CSQ", b"+CSQ: 99,99\r\nOK"), "reports no signal")


def test_roaming_is_registered():
    board = Board()
    board.answers[b"AT+CEREG?"] = b"+CEREG: 1,0\r\nOK"
    board.answers[b"AT+CGREG?"] = b"+CGREG: 1,5\r\nOK"
    assert board.test().modem(5000)["text"].startswith("registered roaming")


def test_indicator_that_fails():
    failing("indicator", lambda board: setattr(board, "dark", True), "does not read back as on")


def test_microphone_that_fails():
    failing("microphone", lambda board: setattr(board, "samples", None), "cannot be opened")
    failing("microphone", lambda board: setattr(board, "samples", b""), "gives no samples")
    failing("microphone", lambda board: setattr(board, "samples", bytes(160)), "silent (peak 0")
    failing("microphone", lambda board: setattr(board, "samples", b"\x00\x80\xff\x7f" * 40), "overdriven")


def test_storage_that_fails():
    failing("storage", lambda board: setattr(board.files, "full", 100), "cannot be written")
    failing("storage", lambda board: setattr(board, "free", 63), "63 KB free, 64 are needed")
    failing("storage", lambda board: setattr(board.files, "read", lambda *rest: 0), "does not hold")
