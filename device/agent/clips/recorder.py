"""The recorder: pictures and sound into a ring of segments, and events into clips (CLIP.md)."""

import struct

from patrolink_protocol import clip as pc

from . import catalog
from .room import RING, ROUTINE, URGENT
from .segment import Keys, Segment, position
from .shelf import FAULT
from .writing import Entry

CAMERA, MICROPHONE = 32, 64  # bits of device_status.errors
FOREVER = 1 << 40  # `hold_ms` of a recording that goes on until `stop`
_DEAD_MS = 5000  # a camera that gives no picture for so long is told

_CLIP_MS = 600000
_STALL_MS = 1000
_SYNC_MS = 1000
_CLOCK_MS = 100
_MOST_KB = 8192  # of a segment
_LEAST = 65536  # bytes that a segment is planned for, at least
_BEHIND = 2097152  # bytes that storage may be late by
_PICTURE_BLOCK = 1024
_FRAMES = 8  # taken in one go
_UNITS = 8
_FRESH_MS = 2000  # a snapshot waits no longer for its picture


class Refused(Exception):
    """A trigger makes no clip; the text says why."""


class Recorder:
    """
    shelf      agent.clips.shelf.Shelf
    camera     open(), frame(), close(), fault, dropped, damaged, width, height, fps (hal.camera.Camera is one)
    container  codec, begin(sink), picture(picture, ms), sound(unit, ms), end()
    jpeg       function(picture) -> a JPEG, bytes-like
    evidence   the evidence key; config: {"pre_s", "post_s", "segment_s", "sound", "stamp"}
    unix       function(monotonic ms) -> unix ms, 0 when not known; source(): pc.BY_*
    ears       the microphone contract (open, read, buf, close), None without sound
    """

    def __init__(self, shelf, camera, container, jpeg, evidence, config, unix, source, ears=None):
        self.shelf = shelf
        self.on_picture = None
        self.lost = self.frames = 0
        self._camera = camera
        self._container = container
        self._jpeg = jpeg
        self._keys = Keys(evidence)
        self._unix = unix
        self._source = source
        self._ears = ears
        self._always = config["sound"] == "always" and ears is not None
        self._eventful = config["sound"] != "never" and ears is not None
        self._flags = pc.STAMPED if config["stamp"] else 0
        self._pre_ms = config["pre_s"] * 1000
        self._post_ms = config["post_s"] * 1000
        self._segment_ms = config["segment_s"] * 1000
        self._stall_ms = max(_STALL_MS, 2500 // camera.fps)
        self._segment = Segment()
        self._still = Segment(_PICTURE_BLOCK)
        self._key = None  # of the segment being written
        self._start = 0
        self._start_unix = 0
        self._gap = bytearray(3)
        self._missing = [0, 0, 0]  # frames lost since the last picture, by why
        self._in_segment = 0  # of the segment being written
        self._synced = self._last_ms = self._now = 0
        self._drops, self._damaged = camera.dropped, camera.damaged
        self._behind = _BEHIND
        self._planned = _LEAST
        self._most = min(_MOST_KB << 10, shelf.quota >> 3)
        self._hearing = False
        self._deaf = False  # there should be sound, and the microphone cannot be opened
        self._offset = None  # unix - monotonic, when a clock record was last written
        self._writing = None  # the clip that goes on
        self._clip_at = 0
        self._until = 0
        self.held = False  # a wearer's recording goes on, until `release`: whoever has the button sets it
        self._event = (0, 0)
        self._thumb = False
        self._marks = []  # bodies of events that wait for a segment
        self._asked = None  # a snapshot to be taken: (who, monotonic ms, function(number))
        self._ready_ms = 0  # when storage that had no room is asked again
        self._rested = False  # no step to a seal was taken in the last round

    def load(self):
        """Steps (compat.steps) before anything else: its keys, then what is on storage. It films from their end on.

        ValueError when the evidence key is none, OSError when storage cannot be read.
        """
        yield from self._keys.load()
        yield from self.shelf.load()
        self._camera.open()

    @property
    def errors(self):
        """Bits of device_status.errors."""
        dead = self._camera.fault or self._now - self._last_ms >= _DEAD_MS
        return self.shelf.errors | (CAMERA if dead else 0) | (MICROPHONE if self._deaf else 0)

    # --- the loop ---------------------------------------------------------------------------------------------------

    def serve(self, now):
        """Take what the camera and the microphone have, and go on with storage."""
        self.shelf.serve(now)
        self._now = now
        taken = 0
        while taken < _FRAMES:
            frame = self._camera.frame()
            if frame is None:
                break
            self._take(frame[0], frame[1])
            taken += 1
        self._last(now)
        if self._asked is not None and now - self._asked[1] > _FRESH_MS:
            self._photo(None, now)
        self._rested = taken > 0 and not self._rested
        if not self._rested:  # a picture is work enough for a round, but not for two in a row
            self.shelf.step()
        if self._hearing:
            self._hear(now)
        if self._key is not None:
            if now - self._synced >= _SYNC_MS:
                self._synced = now
                self._segment.writer.sync()
                self._clock(now)
            if self._segment.writer.fault or now - self._start > self._segment_ms + self._stall_ms:
                self._end(now)

    def _take(self, picture, at_ms):
        """One picture of the camera's."""
        self._count(at_ms)
        if self._container.codec == pc.MJPEG_AVI and not _is_jpeg(picture):
            self._missing[pc.BROKEN] += 1
            return
        if self.on_picture is not None:
            self.on_picture(picture, at_ms)
        if self._asked is not None:
            self._photo(picture, at_ms)
        if self._thumb and at_ms >= self._ready_ms and self._still_file(picture, at_ms) is not None:
            self._thumb = False
        if self._key is not None and self._segment.writer.behind + self.shelf.behind() > self._behind:
            self._missing[pc.LATE] += 1
            return
        if self._key is None or at_ms - self._start >= self._segment_ms or self._segment.size > self._planned:
            self._end(at_ms)
            if at_ms - self._clip_at >= _CLIP_MS - self._segment_ms:
                self._follow(at_ms)
            if not self._begin(at_ms):
                self._missing[pc.LATE] += 1
                return
        at = max(0, at_ms - self._start)
        self._gaps(at)
        self._container.picture(picture, at)
        self._segment.frames += 1
        self.frames += 1

    def _count(self, at_ms):
        """Count what the camera did not give, or nobody took."""
        drops, damaged = self._camera.dropped - self._drops, self._camera.damaged - self._damaged
        self._missing[pc.LATE] += drops
        self._missing[pc.BROKEN] += damaged
        self._drops += drops
        self._damaged += damaged
        late = at_ms - self._last_ms
        if self._last_ms and late >= self._stall_ms:
            self._missing[pc.STALLED] += max(0, late * self._camera.fps // 1000 - 1 - drops - damaged)
        self._last_ms = at_ms

    def _gaps(self, at):
        for why in range(3):
            n = self._missing[why]
            if n:
                self._missing[why] = 0
                self.lost += n
                self._in_segment += n
                struct.pack_into(">HB", self._gap, 0, min(n, 65535), why)
                self._segment.record(pc.GAP, at, self._gap)

    def _hear(self, now):
        for _ in range(_UNITS):
            n = self._ears.read()
            if not n:
                return
            if self._key is not None:
                unit = self._ears.buf
                self._container.sound(unit if n == len(unit) else unit[:n], now - self._start)

    def _clock(self, now):
        """Write down the time when it is new, or was set."""
        unix_ms = self._unix(now)
        if not unix_ms or self._key is None:
            return
        offset = unix_ms - now
        if self._offset is None or abs(offset - self._offset) > _CLOCK_MS:
            self._offset = offset
            self._segment.record(pc.CLOCK, max(0, now - self._start), struct.pack(">QB", unix_ms, self._source()))

    # --- segments ---------------------------------------------------------------------------------------------------

    def _rank(self):
        if self._writing is None:
            return RING
        return URGENT if self._writing.clip.sos else ROUTINE

    def _header(self, codec, flags, step, unix_ms):
        camera = self._camera
        keys = self._keys
        place = (camera.width, camera.height, self.shelf.boot, step, unix_ms, keys.recipient, keys.ephemeral)
        return pc.Header(codec, flags, *place)

    def _begin(self, at_ms):
        """Begin a segment with the picture of that time; False when there is no room for one."""
        if not self._ready(self._planned, at_ms):
            return False
        wanted = wanted_sound = self._always or (self._eventful and self._writing is not None)
        if wanted != self._hearing:
            if wanted:
                wanted = self._ears.open()
            else:
                self._ears.close()
            self._hearing = wanted
        self._deaf = wanted_sound and not self._hearing
        step, key = self._keys.take()
        self._key = self.shelf.boot * catalog.STEPS + step
        self._start = self._synced = at_ms
        self._start_unix = self._unix(at_ms)
        self._in_segment = 0
        self._offset = None
        flags = self._flags | (pc.SOUND if wanted else 0)
        header = self._header(self._container.codec, flags, step, self._start_unix)
        self._segment.begin(self.shelf.open(self._key), header, key)
        self._clock(at_ms)
        for body in self._marks:
            self._segment.record(pc.MARK, 0, body)
        self._marks = []
        self._container.begin(self._segment.media)
        return True

    def _ready(self, most, at_ms):
        """Return whether there is room; storage that has none is asked once a second."""
        if self._keys.step >= catalog.STEPS:
            self.shelf.errors |= FAULT  # 58 days: only a boot begins new steps
            return False
        if at_ms < self._ready_ms:
            return False
        if self.shelf.ready(most, self._rank(), at_ms):
            return True
        self._ready_ms = at_ms + _STALL_MS
        return False

    def _end(self, now):
        """Close the segment being written, if there is one."""
        if self._key is None:
            return
        segment = self._segment
        self._container.end()
        ms = max(0, now - self._start)
        sha256 = segment.end(ms)
        self._planned = min(max(2 * segment.size, _LEAST), self._most)
        said = (segment.size, sha256, self._start_unix, ms, segment.frames, self._in_segment, True)
        self.shelf.put(Entry(self._key, False, self._start, said, segment.writer))
        self._key = None

    # --- clips ------------------------------------------------------------------------------------------------------

    def trigger(self, trigger, event_id, who, now, hold_ms=None):
        """An event: begin a clip, or mark and extend the one that goes on. Return its number; raise Refused.

        hold_ms  how long it goes on, post_s when None
        """
        until = now + (self._post_ms if hold_ms is None else hold_ms)
        if self._writing is None:
            if trigger != catalog.SOS:
                self._check_room()
            self._start_clip(trigger, event_id, self._since(now - self._pre_ms), now, None)
            self._clip_at = now - self._pre_ms - self._segment_ms
            self._until = until
            self._thumb = True
            if self._eventful and not self._hearing:
                self._end(now)  # the next one has sound
        self._until = max(self._until, until)
        if trigger == catalog.SOS and not self._writing.clip.sos:
            self._event = (trigger, event_id)
        self._mark(trigger, event_id, now)
        if who:
            self.access("recording_start", who, now, "clip", self._writing.clip.number)
        return self._writing.clip.number

    def _since(self, at_ms):
        """Return the key of the last file that begins at or before `at_ms`, or else of the oldest."""
        since = None
        if self._key is None or self._start > at_ms:
            since = self.shelf.since(at_ms)
        return self._current() if since is None else since

    def _current(self):
        """Return the key of the file being written, or else of the next one."""
        return self._key if self._key is not None else self.shelf.boot * catalog.STEPS + self._keys.step

    def _start_clip(self, trigger, event_id, since, now, follows):
        self._event = (trigger, event_id)
        self._writing = self.shelf.begin(trigger, event_id, since, self._container.codec, now, follows)

    def _mark(self, trigger, event_id, now):
        key = self._current()
        at_ms = max(0, now - self._start) if self._key is not None else 0
        self._writing.mark(trigger, event_id, self._unix(now), key, at_ms)
        body = struct.pack(">BI", trigger, event_id)
        if self._key is not None:
            self._segment.record(pc.MARK, at_ms, body)
        elif len(self._marks) < _FRAMES:
            self._marks.append(body)

    def _last(self, now):
        """End the clip that goes on, if that is over, or its ten minutes and no picture comes to say so."""
        if self._writing is None:
            return
        if now >= self._until and not self.held:
            if not self.shelf.crowded():
                self._finish(now)
        elif self._key is None and now - self._clip_at >= _CLIP_MS:
            self._follow(now)

    def _why(self, now):
        """Return how the clip ends, if it does now."""
        if self._key is None and self._missing[pc.LATE]:
            return "storage"
        return "camera" if now - self._last_ms >= self._stall_ms else "done"

    def _close_clip(self, why):
        """The clip has the files up to the last one there is."""
        self._writing.until = self._current() - 1
        self._writing.why = why
        self._writing = None

    def _finish(self, now, why=None):
        why = why or self._why(now)
        self._end(now)
        self.held = self._thumb = self._deaf = False
        if self._writing is not None:
            self._close_clip(why)
        if self._hearing and not self._always:
            self._ears.close()
            self._hearing = False

    def _follow(self, now):
        """Seal the clip that goes on at this boundary of two segments, and go on in another one, if it may."""
        if self._writing is None or self.shelf.crowded():
            return
        before = self._writing.clip
        if not before.sos and self.shelf.full():
            self._finish(now, "storage")
            return
        self._close_clip(self._why(now))
        self._go_on(before, now)

    def _go_on(self, before, now):
        trigger = catalog.SOS if before.sos else self._event[0]
        self._start_clip(trigger, self._event[1], self._current(), now, before.number)
        self._clip_at = now

    def stop(self, who, now):
        """End the clip that goes on, no earlier than post_s from now. Return its number, None without one."""
        if self._writing is None:
            return None
        self.held = False
        self._until = min(self._until, now + self._post_ms)
        self.access("recording_stop", who, now, "clip", self._writing.clip.number)
        return self._writing.clip.number

    def release(self, who, now):
        """The wearer's recording ends, post_s from now; what others want goes on. Return its number, None: none."""
        if not self.held:
            return None
        self.held = False
        self._until = max(self._until, now + self._post_ms)
        self.access("recording_stop", who, now, "clip", self._writing.clip.number)
        return self._writing.clip.number

    def snapshot(self, who, now, done=None):
        """Make the next picture a clip of its own. Raise Refused.

        done  function(number of the clip, None when no picture came or there was no room for it)
        """
        if self._asked is not None:
            raise Refused("another snapshot is being taken; ask again once it is there")
        if self.shelf.crowded():
            raise Refused("storage has still to take the clips before")
        if self._rank() != URGENT:
            self._check_room()
        self._asked = (who, now, done)

    def _check_room(self):
        if self.shelf.full():
            raise Refused("clips that the hub has not verified take all the room that they may; upload them first")

    def _photo(self, picture, at_ms):
        """The picture of a snapshot, None when none came: what the camera gives holds no longer than this.

        Its file stands between two segments, and its clip between two clips: one that goes on goes on after it.
        """
        who, _, done = self._asked
        self._asked = number = None
        if picture is not None:
            self._end(at_ms)
            before = self._writing
            if before is not None:
                self._close_clip("done")
            key = self._still_file(picture, at_ms)
            if key is not None:
                writing = self.shelf.begin(catalog.PHOTO, catalog.NO_EVENT, key, pc.JPEG, at_ms)
                writing.until = key
                writing.why = "done"
                number = writing.clip.number
                writing.mark(catalog.PHOTO, catalog.NO_EVENT, self._unix(at_ms), key, 0)
                self.access("snapshot", who, at_ms, "clip", number)
            if before is not None:
                self._go_on(before.clip, at_ms)
        if done is not None:
            done(number)

    def access(self, what, who, now, *facts):
        """Tell what others did: in the manifest of the clip that goes on, or of the next one."""
        self.shelf.access(what, who, now, *facts)

    def _still_file(self, picture, at_ms):
        """Write a picture into a file of its own; return its key, None when there is no room."""
        data = self._jpeg(picture)
        size = pc.HEADER + 3 * (pc.RECORD + pc.STAMP) + len(data)
        if not self._ready(size, at_ms):
            return None
        step, key = self._keys.take()
        number = self.shelf.boot * catalog.STEPS + step
        unix_ms = self._unix(at_ms)
        still = self._still
        still.begin(self.shelf.open(number), self._header(pc.JPEG, self._flags, step, unix_ms), key)
        still.media(0, data)
        still.frames = 1
        sha256 = still.end(0)
        self.shelf.put(Entry(number, True, at_ms, (still.size, sha256, unix_ms, 0, 1, 0, True), still.writer))
        return number

    def on_fix(self, fix, now):
        """Write the position into the segment. `fix` is an agent.gps.fix.Fix."""
        if self._key is None:
            return
        self._segment.record(pc.FIX, max(0, now - self._start), position(fix, self._unix(now)))

    def close(self, now):
        """The power goes as planned: end what goes on, and give storage a moment."""
        self._finish(now)
        self._camera.close()
        if self._hearing:
            self._ears.close()
        for _ in range(3):  # the segment, what lists it, its seal
            self.shelf.files.flush(_SYNC_MS)
            self.shelf.serve(now)
            while self.shelf.working():
                self.shelf.step()


def _is_jpeg(picture):
    """Return whether it begins (SOI) and ends (EOI) as a JPEG does."""
    n = len(picture)
    return n > 4 and picture[0] == picture[n - 2] == 0xFF and picture[1] == 0xD8 and picture[n - 1] == 0xD9
