"""Periodic device_status messages: health of the receiver, the link, the storage and the optional parts."""

import gc

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol.native import const

_CHANGE_MS = const(10000)  # a fix that comes and goes sends no more than this often


class DeviceStatus:
    """Sends device_status at boot, periodically, and when the GPS mode changes, for that at most every 10 s.

    Args:
        reporter: agent.tracking.reporter.Reporter.
        receiver: agent.gps.sentences.GpsReceiver.
        outbox: agent.link.outbox.Outbox.
        event_queue: agent.link.event_queue.EventQueue.
        link: agent.link.supervisor.Supervisor.
        session: agent.link.session.Session.
        monitored: Optional parts with an attribute `errors`, bits of device_status.errors.
        recording: The recording part with `free_pct`, per cent of the clip quota that is free or None; or None.
        period_s: Seconds between two messages.
        collect: Whether to collect garbage before the free heap is read. A board that collects regularly does without:
            a collection takes as long as the longest other step of its loop.
        start_ms: Monotonic milliseconds of the boot.
    """

    def __init__(
        self, reporter, receiver, outbox, event_queue, link, session, monitored, recording, period_s, collect, start_ms
    ):
        self._reporter = reporter
        self._receiver = receiver
        self._outbox = outbox
        self._event_queue = event_queue
        self._link = link
        self._session = session
        self._monitored = monitored
        self._recording = recording
        self._period_ms = period_s * 1000
        self._collect = collect
        self._start_ms = start_ms
        self._due_ms = 0
        self._sent_mode = None
        self._change_at_ms = start_ms
        self._frames = 0  # reporter.frames at the last poll

    def poll(self, now_ms):
        """Send a message when one is due.

        A frame takes storage 20 ms of a Cortex-M3: after another one it waits for the next round.
        """
        frames = self._reporter.frames
        is_idle = frames == self._frames
        self._frames = frames
        if not is_idle:
            return
        if now_ms >= self._due_ms:
            self.send(now_ms)
        elif self._reporter.gps_mode != self._sent_mode and now_ms >= self._change_at_ms:
            self._change_at_ms = now_ms + _CHANGE_MS
            self.send(now_ms)

    def send(self, now_ms):
        """Send a message now."""
        reporter = self._reporter
        receiver = self._receiver
        outbox = self._outbox
        self._sent_mode = reporter.gps_mode
        self._due_ms = now_ms + self._period_ms
        reporter.send(
            m.DEVICE_STATUS,
            {
                "uptime_s": (now_ms - self._start_ms) // 1000,
                "gps_mode": reporter.gps_mode,
                "gps_sats": reporter.gps_sats if reporter.gps_sats >= 0 else None,
                "errors": self._errors(),
                "storage_free_pct": self._recording.free_pct if self._recording is not None else None,
                "heap_free_kb": heap_free_kb(self._collect),
                "signal_dbm": self._link.signal_dbm,
                "link": self._link.level,
                "rung": self._link.recovery_step,
                "queue_frames": min(len(outbox) + len(self._event_queue), 65535),
                "dropped_frames": outbox.dropped,
                "reconnects": min(self._session.connects, 65535),
                "nmea_sentences": receiver.sentences & 0xFFFFFFFF,
                "nmea_errors": (receiver.bad_checksum + receiver.overlong) & 0xFFFFFFFF,
                "fixes": reporter.rows,
            },
        )

    def _errors(self):
        """Return the bits of device_status.errors."""
        errors = 0 if self._reporter.gps_mode else enums.DEVICE_STATUS_ERRORS_GPS_SILENT
        if self._outbox.faults or self._event_queue.faults or self._reporter.unsealed:
            errors |= enums.DEVICE_STATUS_ERRORS_STORAGE_FAULT
        if self._link.level == enums.DEVICE_STATUS_LINK_MODEM:
            errors |= enums.DEVICE_STATUS_ERRORS_MODEM_FAULT
        if self._outbox.dropped:
            errors |= enums.DEVICE_STATUS_ERRORS_OUTBOX_DROPPED
        for part in self._monitored:
            errors |= part.errors
        return errors


def heap_free_kb(collect):
    """Return the free heap in KiB, on request after a collection, or None where the runtime has no fixed heap."""
    if not hasattr(gc, "mem_free"):
        return None
    if collect:
        gc.collect()
    return gc.mem_free() >> 10
