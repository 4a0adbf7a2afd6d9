"""The patrol: receiver in, frames out. One thread; nothing here blocks."""

import gc

import patrolink_messages as m
from agent.gps.sentences import GpsReceiver
from agent.link.supervisor import MODEM

_SILENT_MS = 3000
_SOS, _MAN_DOWN = 1, 2  # event.kind
_BUTTON, _MOTION = 0, 1  # event.cause
_GPS_SILENT, _STORAGE_FAULT, _MODEM_FAULT, _CAMERA_FAULT = 1, 8, 16, 32  # device_status.errors
_MICROPHONE_FAULT, _OUTBOX_DROPPED = 64, 128


class Patrol:
    """Owns the receiver and the reporter's schedule.

    uart      hal contract: readinto(buf) -> bytes read now (0 when none)
    camera    hal contract: open(), frame(), close(), fault; or None. At boot it has to give one frame
    reporter  agent.tracking.reporter.Reporter
    now_ms    function returning monotonic milliseconds
    """

    def __init__(self, uart, camera, reporter, outbox, events, link, session, now_ms, config):
        self._uart = uart
        self._camera = self._unproven = camera
        if camera is not None:
            camera.open()
        self.radio = None  # agent.ptt.client.PttClient, on a board that speaks
        self.evidence = None  # on one that records
        self.on_fix = None  # function(fix)
        self._reporter = reporter
        self._outbox = outbox
        self._events = events
        self._link = link
        self._session = session
        self._now_ms = now_ms
        self._status_ms = config["status_s"] * 1000
        self._buf = bytearray(256)
        self._heard_ms = None
        self._told_mode = None
        self._status_due = 0
        self._start_ms = now_ms()
        self.gps = GpsReceiver(self._on_fix, config.get("date_floor", 0))

    def _on_fix(self, fix):
        self._reporter.on_fix(fix, self._now_ms())
        if self.on_fix is not None:
            self.on_fix(fix)

    def serve(self):
        """Take what the receiver has sent, and send what is due. Safe to call from inside a network wait."""
        now = self._now_ms()
        # Bounded, so that a babbling receiver cannot starve the link.
        for _ in range(16):
            n = self._uart.readinto(self._buf)
            if not n:
                break
            self.gps.feed(self._buf, n, now)
            self._heard_ms = now
        self.gps.poll(now)
        reporter = self._reporter
        if self._heard_ms is None or now - self._heard_ms > _SILENT_MS:
            reporter.gps_mode = 0
        reporter.poll(now)
        if self._unproven is not None and self._unproven.frame() is not None:
            self._unproven.close()
            self._unproven = None
        if now >= self._status_due or reporter.gps_mode != self._told_mode:
            self._told_mode = reporter.gps_mode
            self._status_due = now + self._status_ms
            self._send_status(now)

    def _send_status(self, now):
        gps = self.gps
        sats = self._reporter.gps_sats
        self._reporter.send(
            m.DEVICE_STATUS,
            {
                "uptime_s": (now - self._start_ms) // 1000,
                "gps_mode": self._reporter.gps_mode,
                "gps_sats": sats if sats >= 0 else None,
                "errors": self._errors(),
                "storage_free_pct": self.evidence.recording.free_pct if self.evidence is not None else None,
                "heap_free_kb": heap_free_kb(),
                "signal_dbm": self._link.signal_dbm,
                "link": self._link.level,
                "rung": self._link.rung,
                "queue_frames": min(len(self._outbox) + len(self._events), 65535),
                "dropped_frames": self._outbox.dropped,
                "reconnects": min(self._session.connects, 65535),
                "nmea_sentences": gps.sentences & 0xFFFFFFFF,
                "nmea_errors": (gps.bad_checksum + gps.overlong) & 0xFFFFFFFF,
                "fixes": self._reporter.rows,
            },
        )

    def _errors(self):
        """Bits of device_status.errors."""
        errors = 0 if self._reporter.gps_mode else _GPS_SILENT
        if self._outbox.faults or self._events.faults:
            errors |= _STORAGE_FAULT
        if self._link.level == MODEM:
            errors |= _MODEM_FAULT
        if self._camera is not None and self._camera.fault:
            errors |= _CAMERA_FAULT
        if self.evidence is not None:
            errors |= self.evidence.recording.errors
        if self.radio is not None and self.radio.transmit_session.microphone_fault:
            errors |= _MICROPHONE_FAULT
        if self._outbox.dropped:
            errors |= _OUTBOX_DROPPED
        return errors

    def sos(self):
        """The SOS button. Return the event's id."""
        return self._urgent(_SOS, _BUTTON)

    def man_down(self):
        """The wearer lies and does not move. Return the event's id."""
        return self._urgent(_MAN_DOWN, _MOTION)

    def _urgent(self, kind, cause):
        event = self._reporter.raise_event(kind, cause, 1, self._now_ms())
        self._link.retry_now()
        return event

    def finish(self):
        """The power button: end the open epoch and the open batch, and say how things stand."""
        self.gps.flush()
        self._reporter.flush()
        self._send_status(self._now_ms())


def heap_free_kb():
    """Free heap after a collection, KiB; None where the runtime has no fixed heap."""
    if not hasattr(gc, "mem_free"):
        return None
    gc.collect()
    return gc.mem_free() >> 10
