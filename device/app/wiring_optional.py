"""Parts that only some boards have. Loaded where one is configured: elsewhere they would be heap for nothing."""

import patrolink_messages as m
from agent.tracking.counter import Record
from app.errors import ConfigError

_ENTER, _LEAVE = 3, 4  # event.kind
_BY_RULE = 3  # event.cause
_GEOFENCE = 4  # clip_manifest.trigger


def modem(device, given, hal, log):
    """Return the agent.modem.driver.Modem of an assembly.Device."""
    from agent.modem.driver import Modem

    uart = hal.Uart(given["uart"], device.now_ms, log, "modem", device.inputs)
    power, reset, key = [
        None if given.get(name) is None else hal.Pin(given[name]) for name in ("power_pin", "reset_pin", "key_pin")
    ]
    if power is not None:
        power.set(1)
    return Modem(uart, reset, key, device.net, log, given)


def commands(device, config, hal):
    """Return the link.commands.Commands of an assembly.Device, led there by its downlink."""
    from agent.link.audit_log import AuditLog
    from agent.link.commands import Commands

    audit = AuditLog(hal.Files(config["state_dir"] + "/audit"))
    it = Commands(device.reporter, audit, lambda: device.reporter.unix_ms(device.now_ms()))
    device.downlink.duties[m.COMMAND] = it.take
    return it


def ears(device, config, hal, log):
    """Return the agent.audio.microphone.MicrophoneMultiplexer of the board's microphone."""
    if not hasattr(hal, "audio"):
        raise ConfigError("audio: this board has none; take it out of the configuration")
    from agent.audio.microphone import MicrophoneMultiplexer

    audio = config["audio"]
    return MicrophoneMultiplexer(hal.audio().Microphone(audio["mic"], hal.Pin(audio["indicator"]), device.inputs, log))


def radio(device, config, hal, store, counter, ears, log):
    """Return push-to-talk's agent.ptt.client.PttClient, None behind an AT modem."""
    if device.modem is not None:
        log("ptt: off: it needs a network stack of the board's own, and this one's is in the modem")
        return None
    from app import wiring_ptt

    return wiring_ptt.radio(device, config, hal, store, counter, ears.make_channel(), log)


def evidence(device, config, hal, store, boot, ears):
    """Return the evidence.Evidence of a board that records."""
    from app.wiring_recording import Evidence

    try:
        return Evidence(device, config, hal, store, boot, ears.make_channel() if ears is not None else None)
    except (ImportError, ValueError) as e:
        raise ConfigError("clips: %s" % e)


def camera(device, given, hal, log):
    """Return the platform's camera."""
    if not isinstance(given, dict) or given.get("source") is None or given.get("indicator") is None:
        raise ConfigError("camera: give its source, and the output of the indicator that tells when it is on")
    try:
        if not hasattr(hal, "camera"):
            raise ImportError
        return hal.camera(given, device.now_ms, log, device.inputs)
    except ValueError as e:
        raise ConfigError(str(e))
    except ImportError:
        raise ConfigError("camera: this board has none; take it out of the configuration")


class Fixes:
    """What positions are for beside the track: films, and fences."""

    def __init__(self, device, fences):
        self._device = device
        self._fences = None
        if fences:
            from agent.tracking.geofence import Geofences

            self._fences = Geofences(fences)

    def take(self, fix):
        """Take a position in."""
        device = self._device
        now = device.now_ms()
        evidence = device.evidence
        if evidence is not None:
            evidence.recording.on_fix(fix, now)
        for fence, entered, record in self._fences.on_fix(fix) if self._fences is not None else ():
            event = device.reporter.raise_event(_ENTER if entered else _LEAVE, _BY_RULE, 0, now, fence)
            if record and evidence is not None:
                evidence.recording.on_event(_GEOFENCE, event)


class Texts:
    """Status texts that the wearer sends by number, from 1."""

    def __init__(self, device, texts, store):
        self._device = device
        self._texts = texts
        self._ids = Record(store, "text")

    def say(self, number):
        """Send the text of that number, bytes; none has another."""
        try:
            text = self._texts[int(number) - 1]
        except (ValueError, IndexError):
            return
        ids = self._ids
        ids.write(0, ids.b + 1)
        device = self._device
        now = device.reporter.unix_ms(device.now_ms())
        values = {"text_id": ids.b, "time_ms": now, "priority": 0, "ack": 0, "sender": b"", "text": text.encode()}
        device.reporter.send(m.TEXT, values)
        device.link.retry_now()
