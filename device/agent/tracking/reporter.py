"""Encodes fixes into position batches, and seals and queues these and all other messages of the device."""

import patrolink_enums as enums
import patrolink_messages as m
from agent.gps.fix import (
    CONTRADICTORY,
    DATE_SUSPECT,
    DIFFERENTIAL,
    DOUBTFUL,
    ESTIMATED,
    HAS_POSITION,
    HELD,
    IMPLAUSIBLE,
    MANUAL,
    SIMULATED,
)
from patrolink_protocol import codec, frame, track_encoder

# event.text, for the first flag that the position has: the message has no field for it.
_DOUBTS = (
    (SIMULATED, b"position of a simulator"),
    (MANUAL, b"position entered by hand"),
    (IMPLAUSIBLE, b"receiver jumped: last plausible position"),
    (CONTRADICTORY, b"receiver contradicts itself: position doubtful"),
    (ESTIMATED, b"position by dead reckoning"),
    (HELD, b"position held: device at rest"),
)


class Reporter:
    """Sender of the uplink.

    Args:
        channel: patrolink_protocol.frame.Channel of this device, uplink.
        counter: agent.tracking.counter.Counter.
        outbox: agent.link.outbox.Outbox of sealed frames.
        event_queue: agent.link.event_queue.EventQueue of events that the hub must answer.
        config: The device configuration; "batch_fixes", "batch_s" and optionally "resolution" are used.
        battery: Function that returns the battery level in per cent, or UNKNOWN.
        clock: agent.tracking.device_clock.DeviceClock, which the reporter lets follow the fixes.

    Attributes:
        clock: The clock of the device.
        gps_mode: device_status.gps_mode of the last fix; 0 when the receiver is silent.
        gps_sats: Satellites of the last fix, or UNKNOWN.
        rows: Fixes encoded since boot.
        frames: Frames sealed since boot.
        unsealed: Messages given up since boot because storage refused to raise the bound of the frame counter.
        untimed: Fixes dropped since boot because no time was known.
    """

    def __init__(self, channel, counter, outbox, event_queue, config, battery, clock):
        self._channel = channel
        self._counter = counter
        self._outbox = outbox
        self._event_queue = event_queue
        self._battery = battery
        self.clock = clock
        self._batch_ms = config["batch_s"] * 1000
        self._track = track_encoder.TrackEncoder(config["batch_fixes"], config.get("resolution", 6))
        self._buf = bytearray(m.MAX_FRAME)
        self._view = memoryview(self._buf)
        self._row = [0] * 9
        self._opened_ms = 0
        self._position_ms = None  # when the last plausible position was taken
        self._judged_lat_e7 = self._judged_lon_e7 = self._judged_flags = 0
        self._judged_hacc_mm = enums.UNKNOWN
        self.gps_mode = 0
        self.gps_sats = enums.UNKNOWN
        self.rows = 0
        self.frames = 0
        self.unsealed = 0
        self.untimed = 0

    def on_fix(self, fix, now_ms):
        """Add a fix to the open batch.

        A fix without a date gets the time of the device; without one it is only counted.
        """
        self.gps_mode = fix.mode
        self.gps_sats = fix.sats
        clock = self.clock
        clock.on_fix(fix, now_ms)
        day = fix.day
        ms = fix.ms
        if day == enums.UNKNOWN or ms == enums.UNKNOWN:
            if not clock.is_set():
                self.untimed += 1
                return
            day, ms = clock.time(now_ms)
        position_ms = self._position_ms
        self._fill(fix, now_ms)
        batch = self._track
        while True:
            try:
                batch.add(day, ms, self._row)
                break
            except track_encoder.RangeError:
                if batch.accepts(day, ms):
                    self.untimed += 1  # before 1970: the protocol cannot encode this time
                    return
                self.flush()
        self.rows += 1
        if batch.count == 1:
            self._opened_ms = now_ms
        # The first position after boot, or after a gap as long as a batch, is sent at once.
        if batch.count == batch.capacity or (
            self._position_ms != position_ms and (position_ms is None or now_ms - position_ms >= self._batch_ms)
        ):
            self.flush()

    def on_silence(self):
        """Note that the receiver is silent."""
        self.gps_mode = 0

    def position(self):
        """Return the last judged position as (latitude, longitude) in 1e-7 degrees; None before the first one."""
        return None if self._position_ms is None else (self._judged_lat_e7, self._judged_lon_e7)

    def _fill(self, fix, now_ms):
        row = self._row
        state = fix.mode
        flags = fix.flags
        if not flags & HAS_POSITION:
            state = 1  # the row keeps the last position, which then costs no bits
        else:
            row[0] = fix.lat_e7
            row[1] = fix.lon_e7
            self._judged_flags = flags
            if not flags & IMPLAUSIBLE:
                self._position_ms = now_ms
                self._judged_lat_e7 = fix.judged_lat_e7
                self._judged_lon_e7 = fix.judged_lon_e7
                self._judged_hacc_mm = fix.hacc_mm
        if flags & ~HAS_POSITION:
            if flags & DATE_SUSPECT:
                state |= track_encoder.DATE_SUSPECT
            if flags & DOUBTFUL:
                state |= track_encoder.ESTIMATED
            if flags & DIFFERENTIAL:
                state |= track_encoder.DIFFERENTIAL
        row[2] = state
        row[3] = fix.alt_mm
        row[4] = fix.speed_mms
        row[5] = fix.course_cd
        row[6] = fix.hacc_mm
        row[7] = fix.sats
        row[8] = self._battery()

    def poll(self, now_ms):
        """Send the open batch when it is `batch_s` old."""
        if self._track.count and now_ms - self._opened_ms >= self._batch_ms:
            self.flush()

    def open_rows(self):
        """Return the number of fixes in the open batch, which a power cut would lose."""
        return self._track.count

    def flush(self):
        """Send the open batch now: one frame, or several when its rows do not compress into one."""
        batch = self._track
        body = self._view[: m.MAX_FRAME - m.TAG_BYTES]
        while batch.count:
            end, n = batch.fit_into(body, frame.HEADER_BYTES)
            self._store(self._seal(m.POSITION_BATCH, end))
            batch.drop(n)

    def send(self, kind, values):
        """Send a message.

        Args:
            kind: Message type.
            values: {field: value}; None or a missing field encodes as unknown.

        Raises:
            codec.FieldError: A value is out of range.
        """
        self._store(self.seal(kind, values))

    def seal(self, kind, values):
        """Return a view of a message as a frame, or None: storage refuses to raise the bound of the frame counter.

        The view is valid until the next message. Arguments and errors are those of `send`.
        """
        return self._seal(kind, codec.encode_into(kind, values, self._buf, frame.HEADER_BYTES))

    def raise_event(self, kind, cause, ack_wanted, now_ms, ref=None, value=None):
        """Send an event with its time and position, after the track up to it.

        Args:
            kind: event.kind.
            cause: event.cause.
            ack_wanted: 1 when the hub must answer with event_state, else 0.
            now_ms: Monotonic milliseconds.
            ref: event.ref, or None.
            value: event.value, or None.

        Returns:
            The id of the event, or None: no frame counter is left, because storage refuses to raise its bound.
        """
        self.flush()
        counter = self._take(bool(ack_wanted))
        if counter is None:
            return None
        values = {"event_id": counter, "kind": kind, "phase": 0, "ack_wanted": ack_wanted, "cause": cause, "text": b""}
        values["ref"] = ref
        values["value"] = value
        values["time_ms"] = self.clock.unix_ms(now_ms)
        if self._position_ms is not None:
            self._locate(values, now_ms)
        end = codec.encode_into(m.EVENT, values, self._buf, frame.HEADER_BYTES)
        n = self._channel.seal_into(self._buf, m.EVENT, counter, end)
        self.frames += 1
        self._outbox.limit_spread(counter)
        if not (ack_wanted and self._event_queue.put(self._view[:n], counter)):
            self._outbox.put(self._view[:n])
        return counter

    def _locate(self, values, now_ms):
        """Add the judged position, its error and age, and in words whether it is doubtful, to an event."""
        values["lat_e7"] = self._judged_lat_e7
        values["lon_e7"] = self._judged_lon_e7
        # The caller may have read the clock before the receiver delivered this position.
        values["fix_age_s"] = min(max(0, now_ms - self._position_ms) // 1000, 65534)
        if self._judged_hacc_mm != enums.UNKNOWN:
            values["hacc_m"] = min((self._judged_hacc_mm + 999) // 1000, 65534)
        for flag, text in _DOUBTS:
            if self._judged_flags & flag:
                values["text"] = text
                break

    def _take(self, urgent):
        try:
            return self._counter.take(urgent)
        except OSError:
            self.unsealed += 1
            return None

    def _seal(self, kind, end):
        counter = self._take(False)
        if counter is None:
            return None
        n = self._channel.seal_into(self._buf, kind, counter, end)
        self.frames += 1
        self._outbox.limit_spread(counter)
        return self._view[:n]

    def _store(self, sealed):
        if sealed is not None:
            self._outbox.put(sealed)
