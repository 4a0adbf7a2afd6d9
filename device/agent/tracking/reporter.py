"""Encodes fixes into position batches, and seals and queues these and all other messages of the device."""

import patrolink_enums as enums
import patrolink_messages as m
from agent.gps.fix import DATE_SUSPECT, DIFFERENTIAL, ESTIMATED, HAS_POSITION
from patrolink_protocol import codec, frame, track_encoder

_DAY_MS = 86400000


class Reporter:
    """Sender of the uplink.

    Args:
        channel: patrolink_protocol.frame.Channel of this device, uplink.
        counter: agent.tracking.counter.Counter.
        outbox: agent.link.outbox.Outbox of sealed frames.
        event_queue: agent.link.event_queue.EventQueue of events that the hub must answer.
        config: The device configuration; "batch_fixes", "batch_s" and optionally "resolution" are used.
        battery: Function that returns the battery level in per cent, or UNKNOWN.

    Attributes:
        time_source: Source of the current time: 0 none, 1 network, 2 receiver.
        gps_mode: device_status.gps_mode of the last fix; 0 when the receiver is silent.
        gps_sats: Satellites of the last fix, or UNKNOWN.
        rows: Fixes encoded since boot.
        frames: Frames sealed since boot.
        unsealed: Messages given up since boot because storage refused to raise the bound of the frame counter.
        untimed: Fixes dropped since boot because no time was known.
    """

    def __init__(self, channel, counter, outbox, event_queue, config, battery):
        self._channel = channel
        self._counter = counter
        self._outbox = outbox
        self._event_queue = event_queue
        self._battery = battery
        self._batch_ms = config["batch_s"] * 1000
        self._track = track_encoder.TrackEncoder(config["batch_fixes"], config.get("resolution", 6))
        self._buf = bytearray(m.MAX_FRAME)
        self._view = memoryview(self._buf)
        self._row = [0] * 9
        self._opened_ms = 0
        self._time_base = None  # [day, ms of the day, monotonic ms] of the last trusted time
        self._position_ms = None  # when the position in _row was taken
        self.time_source = 0
        self.gps_mode = 0
        self.gps_sats = enums.UNKNOWN
        self.rows = 0
        self.frames = 0
        self.unsealed = 0
        self.untimed = 0

    def on_fix(self, fix, now_ms):
        """Add a fix to the open batch.

        A fix without a date gets the last trusted time plus the time elapsed since; without one it is only counted.
        """
        self.gps_mode = fix.mode
        self.gps_sats = fix.sats
        day = fix.day
        ms = fix.ms
        if day == enums.UNKNOWN or ms == enums.UNKNOWN:
            if self._time_base is None:
                self.untimed += 1
                return
            day, ms = self._time(now_ms)
        elif not fix.flags & DATE_SUSPECT:
            self.time_source = 2
            base = self._time_base
            if base is None:
                self._time_base = [day, ms, now_ms]
            else:
                base[0] = day
                base[1] = ms
                base[2] = now_ms
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

    def set_time(self, day, ms, now_ms):
        """Set the time from the network; ignored once any time is known.

        Args:
            day: Days since 1970-01-01.
            ms: Milliseconds of that day, UTC.
            now_ms: Monotonic milliseconds of that time.
        """
        if self._time_base is None:
            self.time_source = 1
            self._time_base = [day, ms, now_ms]

    def unix_ms(self, now_ms):
        """Return the unix time of a monotonic time, both in ms; None while no time is known."""
        if self._time_base is None:
            return None
        day, ms = self._time(now_ms)
        return day * _DAY_MS + ms

    def position(self):
        """Return the last position as (latitude, longitude) in 1e-7 degrees; None before the first one."""
        return None if self._position_ms is None else (self._row[0], self._row[1])

    def _time(self, now_ms):
        day, ms, base_ms = self._time_base
        ms += now_ms - base_ms
        return day + ms // _DAY_MS, ms % _DAY_MS

    def _fill(self, fix, now_ms):
        row = self._row
        state = fix.mode
        flags = fix.flags
        if not flags & HAS_POSITION:
            state = 1  # the row keeps the last position, which then costs no bits
        else:
            row[0] = fix.lat_e7
            row[1] = fix.lon_e7
            self._position_ms = now_ms
        if flags & ~HAS_POSITION:
            if flags & DATE_SUSPECT:
                state |= track_encoder.DATE_SUSPECT
            if flags & ESTIMATED:
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
        if self._time_base is not None:
            values["time_ms"] = self.unix_ms(now_ms)
        if self._position_ms is not None:
            values["lat_e7"] = self._row[0]
            values["lon_e7"] = self._row[1]
            # The caller may have read the clock before the receiver delivered this position.
            values["fix_age_s"] = min(max(0, now_ms - self._position_ms) // 1000, 65534)
        end = codec.encode_into(m.EVENT, values, self._buf, frame.HEADER_BYTES)
        n = self._channel.seal_into(self._buf, m.EVENT, counter, end)
        self.frames += 1
        self._outbox.limit_spread(counter)
        if not (ack_wanted and self._event_queue.put(self._view[:n], counter)):
            self._outbox.put(self._view[:n])
        return counter

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
