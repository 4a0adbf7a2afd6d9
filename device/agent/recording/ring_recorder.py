"""Records camera and microphone into segments, one after the other, and pictures into files of their own."""

import struct

import patrolink_enums as enums
from patrolink_protocol import clip as clip_format

from .clip_files import STEPS_PER_BOOT
from .frame_loss import FrameLoss
from .recorded_file import FileInfo, RecordedFile
from .segment import SegmentKeys, SegmentWriter, fix_record
from .sound_input import SoundInput

FRAMES_MAX = 8  # frames taken in one round, and marks kept while there is no segment
CAMERA_DEAD_MS = 5000  # without a frame
_STALL_MS = 1000
_SYNC_MS = 1000
_RETRY_MS = 1000  # after storage had no room
_CLOCK_STEP_MS = 100  # a clock record is written when the clock was set by more
_SEGMENT_KB_MAX = 8192
_SEGMENT_MIN = 65536  # bytes reserved for a segment, at least
_PICTURE_MAX = 1 << 23  # bytes: fits a record
_BACKLOG_MAX = 2097152  # bytes that storage may be late by
_STILL_BLOCK = 1024


class RingRecorder:
    """Writes segments to the clip store. The caller decides when a segment begins, and what it is worth.

    Attributes:
        frames: Frames recorded since the boot.
        loss: frame_loss.FrameLoss.
        sound: sound_input.SoundInput.

    Args:
        store: clip_store.ClipStore.
        camera: hal camera: open(), frame(), close(), fault, dropped, damaged, width, height, fps.
        container: codec, begin(sink), picture(picture, ms), sound(samples, ms), end().
        jpeg: Function(picture) -> the picture as a JPEG, bytes-like.
        evidence_key: The site's public evidence key, 33 bytes.
        config: {"segment_s", "sound", "stamp"}
        unix: Function(monotonic ms) -> unix ms, 0 while not known.
        clock_source: Function() -> clip.CLOCK_NONE, CLOCK_NETWORK or CLOCK_GPS.
        microphone: hal Microphone (open, read, buf, close), or None.
    """

    def __init__(self, store, camera, container, jpeg, evidence_key, config, unix, clock_source, microphone=None):
        self.frames = 0
        self.sound = SoundInput(microphone, config["sound"])
        self._store = store
        self._camera = camera
        self._container = container
        self._jpeg = jpeg
        self._keys = SegmentKeys(evidence_key)
        self._unix = unix
        self._clock_source = clock_source
        self._flags = clip_format.FLAG_TIMESTAMPED if config["stamp"] else 0
        self._segment_ms = config["segment_s"] * 1000
        self._stall_ms = max(_STALL_MS, 2500 // camera.fps)
        self.loss = FrameLoss(camera, self._stall_ms)
        self._segment = SegmentWriter()
        self._still = SegmentWriter(_STILL_BLOCK)
        self._file_id = None  # of the segment being written
        self._start_ms = self._start_unix_ms = 0  # of that segment
        self._synced_ms = self._now = 0
        self._backlog_max = _BACKLOG_MAX
        self._reserve = _SEGMENT_MIN  # bytes to reserve for the next segment
        self._reserve_max = min(_SEGMENT_KB_MAX << 10, store.usage.quota >> 3)
        self._clock_offset_ms = None  # unix - monotonic time of the last clock record
        self._marks = []  # bodies of mark records that wait for a segment
        self._ready_ms = 0  # when to ask storage again that had no room

    def load(self):
        """Steps (compat.steps): derive the keys, load the store, open the camera.

        Raises:
            ValueError: The evidence key is not a point of the curve.
            OSError: Storage cannot be read.
        """
        yield from self._keys.load()
        yield from self._store.load()
        self._camera.open()

    @property
    def errors(self):
        """Bits of device_status.errors, those of the store included."""
        dead = self._camera.fault or self.camera_is_dead(self._now)
        exhausted = self._keys.step >= STEPS_PER_BOOT  # after 58 days: only a new boot begins new steps
        return (
            self._store.errors
            | (enums.DEVICE_STATUS_ERRORS_STORAGE_FAULT if exhausted else 0)
            | (enums.DEVICE_STATUS_ERRORS_CAMERA_FAULT if dead else 0)
            | (enums.DEVICE_STATUS_ERRORS_MICROPHONE_FAULT if self.sound.fault else 0)
        )

    @property
    def codec(self):
        """The codec of the segments (clip_manifest.codec)."""
        return self._container.codec

    @property
    def segment_ms(self):
        """The planned duration of a segment."""
        return self._segment_ms

    # --- frames -------------------------------------------------------------------------------------------------------

    def read_frame(self, now):
        """Return the camera's next (picture, monotonic ms, None), or None. It is valid until the next call."""
        self._now = now
        frame = self._camera.frame()
        if frame is not None:
            self.loss.on_frame(frame[1])
        return frame

    def accept(self, picture):
        """Return whether a picture can be recorded. One that cannot is counted as broken."""
        if self._container.codec == clip_format.MJPEG_AVI and not _is_jpeg(picture):
            self.loss.add(clip_format.GAP_BAD_PICTURE)
            return False
        return True

    def drop_frame(self):
        """Count a frame as lost to storage."""
        self.loss.add(clip_format.GAP_STORAGE_LATE)

    def storage_is_late(self):
        """Return whether too much data waits for storage."""
        if self._file_id is None:
            return False
        return self._segment.writer.behind + self._store.ring.pending_bytes() > self._backlog_max

    def camera_is_dead(self, now):
        """Return whether the camera has given no frame for CAMERA_DEAD_MS."""
        return self.loss.silence_ms(now) >= CAMERA_DEAD_MS

    def end_reason(self, now):
        """Return the reason that a clip which ends now gives in its close line."""
        if self._file_id is None and self.loss.has_late():
            return "storage"
        return "camera" if self.camera_is_dead(now) else "done"

    def write_frame(self, picture, at_ms):
        """Write a picture into the current segment."""
        time_ms = max(0, at_ms - self._start_ms)
        self.loss.write(self._segment, time_ms)
        self._container.picture(picture, time_ms)
        self._segment.count_frame()
        self.frames += 1

    def on_fix(self, fix, now):
        """Write a position (agent.gps.fix.Fix) into the current segment."""
        if self._file_id is not None:
            time_ms = max(0, now - self._start_ms)
            self._segment.record(clip_format.RECORD_FIX, time_ms, fix_record(fix, self._unix(now)))

    def serve(self, now):
        """Record sound, and have the segment written to storage once a second."""
        if self._file_id is None:
            self.sound.read_into(None, 0)
            return
        self.sound.read_into(self._container, now - self._start_ms)
        if now - self._synced_ms >= _SYNC_MS:
            self._synced_ms = now
            self._segment.writer.sync()
            self._write_clock(now)
        if self._segment.writer.fault or now - self._start_ms > self._segment_ms + self._stall_ms:
            self.end_segment(now)

    def _write_clock(self, now):
        """Write a clock record when the time became known or was set."""
        unix_ms = self._unix(now)
        if not unix_ms or self._file_id is None:
            return
        offset_ms = unix_ms - now
        if self._clock_offset_ms is None or abs(offset_ms - self._clock_offset_ms) > _CLOCK_STEP_MS:
            self._clock_offset_ms = offset_ms
            body = struct.pack(">QB", unix_ms, self._clock_source())
            self._segment.record(clip_format.RECORD_CLOCK, max(0, now - self._start_ms), body)

    # --- segments -----------------------------------------------------------------------------------------------------

    @property
    def is_recording(self):
        """Whether a segment is being written."""
        return self._file_id is not None

    def begins_after(self, at_ms):
        """Return whether no segment is being written, or the current one began after `at_ms`."""
        return self._file_id is None or self._start_ms > at_ms

    def current_id(self):
        """Return the file id of the current segment, or else of the next file."""
        return self._file_id if self._file_id is not None else self._store.boot * STEPS_PER_BOOT + self._keys.step

    def segment_is_over(self, at_ms):
        """Return whether a frame of that time belongs into a new segment."""
        return self._file_id is None or at_ms - self._start_ms >= self._segment_ms or self._segment.size > self._reserve

    def begin_segment(self, at_ms, priority, event):
        """Begin a segment. Returns False if storage has no room for it.

        Args:
            at_ms: Monotonic time of its first frame.
            priority: retention.RING, ROUTINE or URGENT.
            event: Whether a clip is being recorded, so that the segment has sound.
        """
        if not self._has_room(self._reserve, priority, at_ms):
            return False
        flags = self._flags | (clip_format.FLAG_SOUND if self.sound.select(event) else 0)
        step, key = self._keys.take()
        self._file_id = self._store.boot * STEPS_PER_BOOT + step
        self._start_ms = self._synced_ms = at_ms
        self._start_unix_ms = self._unix(at_ms)
        self.loss.begin_segment()
        self._clock_offset_ms = None
        header = self._header(self._container.codec, flags, step, self._start_unix_ms)
        self._segment.begin(self._store.create_file(self._file_id), header, key)
        self._write_clock(at_ms)
        for body in self._marks:
            self._segment.record(clip_format.RECORD_MARK, 0, body)
        self._marks = []
        self._container.begin(self._segment.media)
        return True

    def _header(self, codec, flags, step, unix_ms):
        camera = self._camera
        keys = self._keys
        rest = (camera.width, camera.height, self._store.boot, step, unix_ms, keys.recipient, keys.ephemeral)
        return clip_format.SegmentHeader(codec, flags, *rest)

    def _has_room(self, size, priority, at_ms):
        """Reserve room for a file. Storage without room is asked again after a second."""
        if self._keys.step >= STEPS_PER_BOOT or at_ms < self._ready_ms:
            return False
        if self._store.reserve(size, priority, at_ms):
            return True
        self._ready_ms = at_ms + _RETRY_MS
        return False

    def end_segment(self, now):
        """Close the current segment, if there is one."""
        if self._file_id is None:
            return
        segment = self._segment
        self._container.end()
        duration_ms = max(0, now - self._start_ms)
        sha256 = segment.end(duration_ms)
        self._reserve = min(max(2 * segment.size, _SEGMENT_MIN), self._reserve_max)
        lost = self.loss.in_segment
        info = FileInfo(segment.size, sha256, self._start_unix_ms, duration_ms, segment.frames, lost, True)
        self._store.ring.add(RecordedFile(self._file_id, False, self._start_ms, info, segment.writer))
        self._file_id = None

    def write_still(self, picture, at_ms, priority):
        """Write a picture as a separate JPEG file. Returns its file id, or None if there is no room."""
        if at_ms < self._ready_ms:
            return None  # saves the work of encoding a JPEG
        data = self._jpeg(picture)
        size = (
            clip_format.HEADER_BYTES + 3 * (clip_format.RECORD_HEADER_BYTES + clip_format.TIMESTAMP_BYTES) + len(data)
        )
        if len(data) > _PICTURE_MAX or not self._has_room(size, priority, at_ms):
            return None
        step, key = self._keys.take()
        file_id = self._store.boot * STEPS_PER_BOOT + step
        unix_ms = self._unix(at_ms)
        still = self._still
        still.begin(self._store.create_file(file_id), self._header(clip_format.JPEG, self._flags, step, unix_ms), key)
        still.media(0, data)
        still.count_frame()
        sha256 = still.end(0)
        info = FileInfo(still.size, sha256, unix_ms, 0, 1, 0, True)
        self._store.ring.add(RecordedFile(file_id, True, at_ms, info, still.writer))
        return file_id

    def mark(self, trigger, event_id, now):
        """Write a mark record into the current segment, or into the next one.

        Returns:
            The time within the current segment, ms; 0 without one.
        """
        body = struct.pack(">BI", trigger, event_id)
        if self._file_id is None:
            if len(self._marks) < FRAMES_MAX:
                self._marks.append(body)
            return 0
        time_ms = max(0, now - self._start_ms)
        self._segment.record(clip_format.RECORD_MARK, time_ms, body)
        return time_ms

    def close(self):
        """Stop the camera and the microphone."""
        self._camera.close()
        self.sound.close()


def _is_jpeg(picture):
    """Return whether a picture has the SOI and EOI markers of a JPEG, and fits a record."""
    n = len(picture)
    return (
        4 < n <= _PICTURE_MAX and picture[0] == picture[n - 2] == 0xFF and picture[1] == 0xD8 and picture[n - 1] == 0xD9
    )
