"""Fixes become frames: batches of positions, hello, and the device's status."""

import patrolink_enums as enums
import patrolink_messages as m
from agent.gps.fix import DATE_SUSPECT, DIFFERENTIAL, ESTIMATED, HAS_POSITION
from patrolink_protocol import codec, frame, track_encoder

_DAY_MS = 86400000


class Reporter:
    """
    channel   patrolink_protocol.frame.Channel of this device, upward
    counter   agent.tracking.counter.Counter
    outbox    link.outbox.Outbox that takes finished frames
    events    link.events.Events that takes those the hub has to answer
    config    {"batch_fixes", "batch_s"}
    battery   function returning per cent or UNKNOWN
    """

    def __init__(self, channel, counter, outbox, events, config, battery):
        self._channel = channel
        self._counter = counter
        self._outbox = outbox
        self._events = events
        self._battery = battery
        self._batch_ms = config["batch_s"] * 1000
        self._track = track_encoder.TrackEncoder(config["batch_fixes"], config.get("resolution", 6))
        self._buf = bytearray(m.MAX_FRAME)
        self._view = memoryview(self._buf)
        self._row = [0] * 9
        self._opened_ms = 0
        self._base = None  # [day, ms, monotonic ms] of the last believed time
        self._place_ms = None  # when the position in _row was taken
        self.time_source = 0  # what the last believed time is of: 0 none, 1 the network, 2 the receiver
        self.gps_mode = 0
        self.gps_sats = enums.UNKNOWN
        self.rows = 0
        self.frames = 0
        self.untimed = 0

    def on_fix(self, fix, now_ms):
        """Take one epoch. One without a date goes by the last believed time plus the clock, or is only counted."""
        self.gps_mode = fix.mode
        self.gps_sats = fix.sats
        day = fix.day
        ms = fix.ms
        if day == enums.UNKNOWN or ms == enums.UNKNOWN:
            if self._base is None:
                self.untimed += 1
                return
            day, ms = self._time(now_ms)
        elif not fix.flags & DATE_SUSPECT:
            self.time_source = 2
            base = self._base
            if base is None:
                self._base = [day, ms, now_ms]
            else:
                base[0] = day
                base[1] = ms
                base[2] = now_ms
        place_ms = self._place_ms
        self._fill(fix, now_ms)
        batch = self._track
        while True:
            try:
                batch.add(day, ms, self._row)
                break
            except track_encoder.RangeError:
                if batch.accepts(day, ms):
                    self.untimed += 1  # a date before 1970: nothing that the protocol can place
                    return
                self.flush()
        self.rows += 1
        if batch.count == 1:
            self._opened_ms = now_ms
        # The first place after none for a batch's time, or since boot, does not wait for the batch.
        if batch.count == batch.capacity or (
            self._place_ms != place_ms and (place_ms is None or now_ms - place_ms >= self._batch_ms)
        ):
            self.flush()

    def set_time(self, day, ms, now_ms):
        """Take the network's time, until the receiver knows better."""
        if self._base is None:
            self.time_source = 1
            self._base = [day, ms, now_ms]

    def unix_ms(self, now_ms):
        """Return the unix time of a monotonic one in ms, None while no time is known."""
        if self._base is None:
            return None
        day, ms = self._time(now_ms)
        return day * _DAY_MS + ms

    def place(self):
        """Return the last position, (latitude, longitude) in 1e-7 degrees, None while there was none."""
        return None if self._place_ms is None else (self._row[0], self._row[1])

    def _time(self, now_ms):
        day, ms, then = self._base
        ms += now_ms - then
        return day + ms // _DAY_MS, ms % _DAY_MS

    def _fill(self, fix, now_ms):
        row = self._row
        state = fix.mode
        flags = fix.flags
        if not flags & HAS_POSITION:
            state = 1  # row keeps the last position, which costs no bits
        else:
            row[0] = fix.lat_e7
            row[1] = fix.lon_e7
            self._place_ms = now_ms
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
        """Send a batch that has been open for its time."""
        if self._track.count and now_ms - self._opened_ms >= self._batch_ms:
            self.flush()

    def open_rows(self):
        """How many fixes are in the open batch: what a power cut would cost."""
        return self._track.count

    def flush(self):
        """Send the open batch now: one frame, or more when its rows are too wild to fit one."""
        batch = self._track
        body = self._view[: m.MAX_FRAME - m.TAG_BYTES]
        while batch.count:
            end, n = batch.fit_into(body, frame.HEADER_BYTES)
            self._finish(m.POSITION_BATCH, end)
            batch.drop(n)

    def send(self, kind, values):
        """Send a scalar message; codec.FieldError when a value does not fit."""
        self._finish(kind, codec.encode_into(kind, values, self._buf, frame.HEADER_BYTES))

    def raise_event(self, kind, cause, ack_wanted, now_ms, ref=None, value=None):
        """Send an event with where and when it happened, and the track up to it; return its id."""
        self.flush()
        counter = self._counter.take()
        values = {"event_id": counter, "kind": kind, "phase": 0, "ack_wanted": ack_wanted, "cause": cause, "text": b""}
        values["ref"] = ref
        values["value"] = value
        if self._base is not None:
            values["time_ms"] = self.unix_ms(now_ms)
        if self._place_ms is not None:
            values["lat_e7"] = self._row[0]
            values["lon_e7"] = self._row[1]
            values["fix_age_s"] = min((now_ms - self._place_ms) // 1000, 65534)
        end = codec.encode_into(m.EVENT, values, self._buf, frame.HEADER_BYTES)
        n = self._channel.seal_into(self._buf, m.EVENT, counter, end)
        self.frames += 1
        if not (ack_wanted and self._events.put(self._view[:n], counter, counter)):
            self._outbox.put(self._view[:n])
        return counter

    def _finish(self, kind, end):
        n = self._channel.seal_into(self._buf, kind, self._counter.take(), end)
        self._outbox.put(self._view[:n])
        self.frames += 1
