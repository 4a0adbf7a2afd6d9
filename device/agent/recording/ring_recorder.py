"""The film: what camera and microphone give, into one segment after the other, and pictures into files of their own."""

import struct

from patrolink_protocol import clip as pc

from .clip_index import STEPS
from .clip_store import FAULT
from .open_clip import RecordedFile
from .retention import RING
from .segment import SegmentKeys, SegmentWriter, position

CAMERA, MICROPHONE = 32, 64  # bits of device_status.errors
FRAMES = 8  # taken in one go
_DEAD_MS = 5000  # a camera that gives no picture for so long is told
_STALL_MS = 1000
_SYNC_MS = 1000
_CLOCK_MS = 100
_MOST_KB = 8192  # of a segment
_LEAST = 65536  # bytes that a segment is planned for, at least
_LARGEST = 1 << 23  # bytes of a picture: a record holds it
_BEHIND = 2097152  # bytes that storage may be late by
_PICTURE_BLOCK = 1024
_UNITS = 8
_COUNTED = 65535  # frames in a gap's record


class RingRecorder:
    """
    shelf      agent.recording.clip_store.Shelf
    camera     open(), frame(), close(), fault, dropped, damaged, width, height, fps
    container  codec, begin(sink), picture(picture, ms), sound(unit, ms), end()
    jpeg       function(picture) -> a JPEG, bytes-like
    evidence   the evidence key; config: {"segment_s", "sound", "stamp"}
    unix       function(monotonic ms) -> unix ms, 0 when not known; source(): pc.BY_*
    ears       the microphone contract (open, read, buf, close), None without sound

    By itself a ring in which nothing happens: a subclass has `_rank`, `_listens`, `_seen` and `_turn` for events.
    """

    def __init__(self, shelf, camera, container, jpeg, evidence, config, unix, source, ears=None):
        self.shelf = shelf
        self.on_picture = None
        self.lost = self.frames = 0
        self._camera = camera
        self._container = container
        self._jpeg = jpeg
        self._keys = SegmentKeys(evidence)
        self._unix = unix
        self._source = source
        self._ears = ears
        self._always = config["sound"] == "always" and ears is not None
        self._eventful = config["sound"] != "never" and ears is not None
        self._flags = pc.STAMPED if config["stamp"] else 0
        self._segment_ms = config["segment_s"] * 1000
        self._stall_ms = max(_STALL_MS, 2500 // camera.fps)
        self._segment = SegmentWriter()
        self._still = SegmentWriter(_PICTURE_BLOCK)
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
        self._marks = []  # bodies of events that wait for a segment
        self._ready_ms = 0  # when storage that had no room is asked again

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

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _film(self, now):
        """Take what the camera has; return how many pictures that is."""
        self._now = now
        for taken in range(FRAMES):
            frame = self._camera.frame()
            if frame is None:
                return taken
            self._take(frame[0], frame[1])
        return FRAMES

    def _sound(self, now):
        """Take what the microphone has, and keep storage up to date."""
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
        self._seen(picture, at_ms)
        if self._key is not None and self._segment.writer.behind + self.shelf.behind() > self._behind:
            self._missing[pc.LATE] += 1
            return
        if self._key is None or at_ms - self._start >= self._segment_ms or self._segment.size > self._planned:
            why = self._why(at_ms)
            self._end(at_ms)
            self._turn(at_ms, why)
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
            while self._missing[why]:
                n = min(self._missing[why], _COUNTED)
                self._missing[why] -= n
                self.lost += n
                self._in_segment += n
                struct.pack_into(">HB", self._gap, 0, n, why)
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

    def _deafen(self):
        """Hear no more."""
        self._deaf = False
        if self._hearing:
            self._ears.close()
            self._hearing = False

    # --- events -----------------------------------------------------------------------------------------------------

    def _rank(self):
        """Return agent.recording.retention's of the next file."""
        return RING

    def _listens(self):
        """Return whether the next segment has sound."""
        return self._always

    def _seen(self, picture, at_ms):
        """A good picture, before it is in the film: it holds no longer than this."""

    def _turn(self, at_ms, why):
        """Between two segments."""

    # --- segments ---------------------------------------------------------------------------------------------------

    def _header(self, codec, flags, step, unix_ms):
        camera = self._camera
        keys = self._keys
        place = (camera.width, camera.height, self.shelf.boot, step, unix_ms, keys.recipient, keys.ephemeral)
        return pc.Header(codec, flags, *place)

    def _current(self):
        """Return the key of the file being written, or else of the next one."""
        return self._key if self._key is not None else self.shelf.boot * STEPS + self._keys.step

    def _begin(self, at_ms):
        """Begin a segment with the picture of that time; False when there is no room for one."""
        if not self._ready(self._planned, at_ms):
            return False
        wanted = listens = self._listens()
        if wanted != self._hearing:
            if wanted:
                wanted = self._ears.open()
            else:
                self._ears.close()
            self._hearing = wanted
        self._deaf = listens and not self._hearing
        step, key = self._keys.take()
        self._key = self.shelf.boot * STEPS + step
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
        if self._keys.step >= STEPS:
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
        self.shelf.put(RecordedFile(self._key, False, self._start, said, segment.writer))
        self._key = None

    def _why(self, now):
        """Return why there is no more, if there is not: what a clip that ends now says in its `close`."""
        if self._key is None and self._missing[pc.LATE]:
            return "storage"
        return "camera" if now - self._last_ms >= _DEAD_MS else "done"

    def _still_file(self, picture, at_ms):
        """Write a picture into a file of its own; return its key, None when there is no room."""
        if at_ms < self._ready_ms:
            return None  # without the work of a JPEG
        data = self._jpeg(picture)
        size = pc.HEADER + 3 * (pc.RECORD + pc.STAMP) + len(data)
        if len(data) > _LARGEST or not self._ready(size, at_ms):
            return None
        step, key = self._keys.take()
        number = self.shelf.boot * STEPS + step
        unix_ms = self._unix(at_ms)
        still = self._still
        still.begin(self.shelf.open(number), self._header(pc.JPEG, self._flags, step, unix_ms), key)
        still.media(0, data)
        still.frames = 1
        sha256 = still.end(0)
        self.shelf.put(RecordedFile(number, True, at_ms, (still.size, sha256, unix_ms, 0, 1, 0, True), still.writer))
        return number

    def on_fix(self, fix, now):
        """Write the position into the segment. `fix` is an agent.gps.fix.Fix."""
        if self._key is None:
            return
        self._segment.record(pc.FIX, max(0, now - self._start), position(fix, self._unix(now)))


def _is_jpeg(picture):
    """Return whether it begins (SOI) and ends (EOI) as a JPEG does, and fits a record."""
    n = len(picture)
    return 4 < n <= _LARGEST and picture[0] == picture[n - 2] == 0xFF and picture[1] == 0xD8 and picture[n - 1] == 0xD9
