"""Parts of the self-test at hand-over. Each returns {"ok": True, False or None (not fitted), "text": for people}.

`patrolink selftest` runs them over the console (app/self_test.py). The configuration is the checked one of the agent.
"""

from agent.gps.fix import DOUBTFUL, HAS_POSITION
from agent.gps.sentences import GpsReceiver
from agent.modem import at
from patrolink_protocol.key_derivation import derive_key
from patrolink_protocol.native import const

KEY_LABEL = b"patrolink-selftest"
FREE_KB_MIN = const(64)
_SENTENCES_MIN = const(5)
_PAUSE_MS = const(20)
_RETRY_MS = const(1000)
_AT_MS = const(1000)
_READ_BYTES = const(64)
_SOUND_MS = const(1000)
_PEAK_MIN = const(16)  # of 32,767: the noise of a working microphone is louder
_PEAK_MAX = const(32700)
_FILE = "selftest"
_PATTERN = b"\x00\xff\x55\xaa" * 128
_REGISTERED = (1, 5)  # home network, roaming (TS 27.007, 10.1.22)


def result(ok, text):
    """Return the result of a part."""
    return {"ok": ok, "text": text}


class SelfTest:
    """The parts.

    Args:
        config: The checked configuration.
        hal: The platform.
        now_ms: Function that returns monotonic milliseconds.
        pause: Function (ms) that waits, and feeds the watchdog.
        log: Function of one string.
        free_kb: Function that returns the free space of storage in KiB.
    """

    def __init__(self, config, hal, now_ms, pause, log, free_kb):
        self._config = config
        self._hal = hal
        self._now_ms = now_ms
        self._pause = pause
        self._log = log
        self._free_kb = free_kb

    def key(self, nonce):
        """Prove that the key can be used, without telling it: `proof` is derived from it and a nonce."""
        epoch = self._config["key_epoch"]
        outcome = result(True, "usable, key epoch %d" % epoch)
        outcome["proof"] = derive_key(self._config["key"], KEY_LABEL, epoch, nonce)
        return outcome

    def gps(self, limit_ms):
        """Wait for valid sentences and a fix."""
        fixes = []

        def on_fix(fix):
            if fix.flags & (HAS_POSITION | DOUBTFUL) == HAS_POSITION and not fixes:
                fixes.append(fix.sats)

        hal = self._hal
        uart = hal.Uart(self._config["gps_uart"], self._now_ms, self._log, "gps", hal.Inputs())
        receiver = GpsReceiver(on_fix, uart=uart)
        start_ms = self._now_ms()
        while self._now_ms() - start_ms < limit_ms and not (fixes and receiver.sentences >= _SENTENCES_MIN):
            receiver.read_uart(self._now_ms())
            self._pause(_PAUSE_MS)
        seconds = (self._now_ms() - start_ms) // 1000
        if not receiver.sentences:
            damaged = receiver.skipped_bytes + receiver.bad_checksum
            if damaged:
                return result(False, "no valid sentence in what it sends; check its baud rate and wiring")
            return result(False, "sends nothing; check its wiring and power")
        if not fixes:
            return result(
                False, "%d sentences, but no fix within %d s; go under open sky" % (receiver.sentences, seconds)
            )
        sats = " with %d satellites" % fixes[0] if fixes[0] >= 0 else ""
        return result(True, "%d sentences, fix%s after %d s" % (receiver.sentences, sats, seconds))

    def modem(self, limit_ms):
        """Wait for the registration of the modem, and read its signal."""
        settings = self._config.get("modem")
        if not settings:
            return result(None, "no modem in the configuration")
        hal = self._hal
        if settings.get("power_pin") is not None:
            hal.Pin(settings["power_pin"]).set(1)
        uart = hal.Uart(settings["uart"], self._now_ms, self._log, "modem", hal.Inputs())
        modem = _Modem(uart, self._now_ms, self._pause)
        end_ms = self._now_ms() + limit_ms
        while modem.ask(b"AT") is None:
            if self._now_ms() - end_ms >= 0:
                return result(False, "does not answer; check its wiring and power")
        sim = modem.ask(b"AT+CPIN?", b"+CPIN:")
        if sim is None or sim[:1] != [b"READY"]:
            return result(False, "the SIM is not ready (%s); insert it, or remove its PIN" % _shown(sim))
        status = modem.registration()
        while status not in _REGISTERED:
            if self._now_ms() - end_ms >= 0:
                return result(False, "not registered (status %s); check antenna, SIM and coverage" % status)
            self._pause(_RETRY_MS)
            status = modem.registration()
        signal = modem.ask(b"AT+CSQ", b"+CSQ:")
        if not signal or not isinstance(signal[0], int) or signal[0] > 31:
            return result(False, "registered, but reports no signal; check its antenna")
        where = "at home" if status == 1 else "roaming"
        return result(True, "registered %s, signal %d dBm" % (where, 2 * signal[0] - 113))

    def indicator(self, level):
        """Switch the indicator of camera and microphone on or off."""
        for part in ("camera", "audio"):
            settings = self._config.get(part)
            if settings and settings.get("indicator") is not None:
                pin = self._hal.Pin(settings["indicator"])
                pin.set(level)
                if pin.get() != bool(level):
                    return result(False, "does not read back as %s; check its wiring" % ("on" if level else "off"))
                return result(True, "on" if level else "off")
        return result(None, "no indicator in the configuration")

    def microphone(self):
        """Measure the level of the microphone for a second."""
        settings = self._config.get("audio")
        if not settings or not hasattr(self._hal, "audio"):
            return result(None, "no microphone in the configuration")
        hal = self._hal
        microphone = hal.audio().Microphone(settings["mic"], hal.Pin(settings["indicator"]), hal.Inputs(), self._log)
        if not microphone.open():
            return result(False, "cannot be opened; its indicator must be on, and no other program may use it")
        peak = units = loud = 0
        start_ms = self._now_ms()
        while self._now_ms() - start_ms < _SOUND_MS:
            n = microphone.read()
            if n:
                level = _peak(microphone.buf, n)
                peak = max(peak, level)
                loud += level >= _PEAK_MAX
                units += 1
            else:
                self._pause(_PAUSE_MS)
        microphone.close()
        if not units:
            return result(False, "gives no samples; check its wiring")
        if peak < _PEAK_MIN:
            return result(False, "silent (peak %d of 32767); check its wiring" % peak)
        if 2 * loud > units:
            return result(False, "overdriven; check its gain")
        return result(True, "peak %d of 32767" % peak)

    def storage(self):
        """Write, read and remove a file, and tell the free space."""
        try:
            files = self._hal.Files(self._config["state_dir"])
            if _FILE in files.names():
                files.remove(_FILE)
            files.append(_FILE, _PATTERN)
            data = bytearray(len(_PATTERN))
            holds = files.read(_FILE, 0, data) == len(data) and data == _PATTERN
            files.remove(_FILE)
        except OSError as e:
            return result(False, "cannot be written (%s); free space, or replace the board" % e)
        if not holds:
            return result(False, "does not hold what was written; replace the board")
        free_kb = self._free_kb()
        return result(free_kb >= FREE_KB_MIN, "writable, %d KB free, %d are needed" % (free_kb, FREE_KB_MIN))


class _Modem:
    """Asks a modem one question after the other."""

    def __init__(self, uart, now_ms, pause):
        self._uart = uart
        self._now_ms = now_ms
        self._pause = pause
        self._channel = at.AtChannel(uart.write, lambda line: None)
        self._buf = bytearray(_READ_BYTES)

    def ask(self, text, prefix=None):
        """Return the fields of the first line of the answer, [] if it has none, or None without a good answer."""
        command = self._channel.submit(at.Command(text, _AT_MS, prefix))
        while command.result is None:
            self._channel.poll(self._now_ms())
            n = self._uart.readinto(self._buf)
            if n:
                self._channel.feed(self._buf, n, self._now_ms())
            else:
                self._pause(_PAUSE_MS)
        if command.result != at.OK:
            return None
        return at.fields(command.lines[0]) if command.lines else []

    def registration(self):
        """Return the <stat> of LTE or of the packet network, the better one; None without an answer."""
        status = None
        for name in (b"CEREG", b"CGREG"):
            fields = self.ask(b"AT+" + name + b"?", b"+" + name + b":")
            if fields and len(fields) > 1 and isinstance(fields[1], int):
                status = fields[1] if status is None or fields[1] in _REGISTERED else status
        return status


def _shown(fields):
    return "no answer" if not fields else at.printable(fields[0]) if isinstance(fields[0], bytes) else fields[0]


def _peak(buf, n):
    """Return the greatest magnitude of 16-bit samples, little-endian."""
    peak = 0
    for i in range(0, n - 1, 2):
        value = buf[i] | buf[i + 1] << 8
        peak = max(peak, 65536 - value if value & 0x8000 else value)
    return peak
