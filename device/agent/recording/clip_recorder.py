"""Records the ring all the time, and makes clips of it when events come (protocol/CLIP.md)."""

from collections import namedtuple

import patrolink_enums as enums
from patrolink_protocol import clip as clip_format

from .clip_index import NO_EVENT
from .retention import RING, ROUTINE, URGENT
from .ring_recorder import FRAMES_MAX

UNTIL_STOPPED = 1 << 40  # `hold_ms` of a recording that lasts until `stop`
_CLIP_MS = 600000  # duration of a clip, at most
_SNAPSHOT_MS = 2000  # a snapshot without a picture fails after this time
_FLUSH_MS = 1000
_CLOSING_PIECES = 12  # of work on storage between two flushes: files of the ring, lines

_Event = namedtuple("_Event", ("trigger", "event_id"))
_Snapshot = namedtuple("_Snapshot", ("who", "asked_ms", "done"))


class RefusedError(Exception):
    """An event makes no clip. The text gives the reason."""


class ClipRecorder:
    """Drives the ring recorder, and opens, continues and ends clips.

    Attributes:
        held: The wearer's recording lasts until `release`.

    Args:
        store: clip_store.ClipStore.
        ring_recorder: ring_recorder.RingRecorder.
        config: {"pre_s", "post_s"}
        unix: Function(monotonic ms) -> unix ms, 0 while not known.
        viewer: Its picture(picture, monotonic ms) gets each good picture; None without live view.
    """

    def __init__(self, store, ring_recorder, config, unix, viewer=None):
        self.held = False
        self._store = store
        self._ring_recorder = ring_recorder
        self._pre_ms = config["pre_s"] * 1000
        self._post_ms = config["post_s"] * 1000
        self._unix = unix
        self._viewer = viewer
        self._open_clip = None  # the clip being recorded
        self._clip_start_ms = 0
        self._end_ms = 0  # when the clip being recorded ends
        self._event = _Event(0, 0)
        self._thumbnail_due = False
        self._snapshot = None

    @property
    def is_busy(self):
        """Whether a clip is being recorded or a snapshot taken."""
        return self._open_clip is not None or self._snapshot is not None

    def serve(self, now):
        """Record what camera and microphone have, and continue with what storage has finished.

        The steps to a seal are the caller's: OpenClips.step.
        """
        self._store.serve(now)
        self._record_frames(now)
        self._end_if_due(now)
        if self._snapshot is not None and now - self._snapshot.asked_ms > _SNAPSHOT_MS:
            self._finish_snapshot(None, now)
        self._ring_recorder.serve(now)

    # --- frames -------------------------------------------------------------------------------------------------------

    def _record_frames(self, now):
        """Record the frames that the camera has."""
        ring_recorder = self._ring_recorder
        for _ in range(FRAMES_MAX):
            frame = ring_recorder.read_frame(now)
            if frame is None:
                return
            picture, at_ms = frame[0], frame[1]
            if ring_recorder.accept(picture):
                if self._viewer is not None:
                    self._viewer.picture(picture, at_ms)
                if self._snapshot is not None:
                    self._finish_snapshot(picture, at_ms)
                if self._thumbnail_due and ring_recorder.write_still(picture, at_ms, self._priority()) is not None:
                    self._thumbnail_due = False
                self._record_frame(picture, at_ms)

    def _record_frame(self, picture, at_ms):
        ring_recorder = self._ring_recorder
        if ring_recorder.storage_is_late():
            ring_recorder.drop_frame()
            return
        if ring_recorder.segment_is_over(at_ms):
            reason = ring_recorder.end_reason(at_ms)
            ring_recorder.end_segment(at_ms)
            duration_ms = at_ms - self._clip_start_ms
            if self._open_clip is not None and duration_ms >= _CLIP_MS - ring_recorder.segment_ms:
                self._continue_in_new_clip(at_ms, reason)
            if not ring_recorder.begin_segment(at_ms, self._priority(), self._open_clip is not None):
                ring_recorder.drop_frame()
                return
        ring_recorder.write_frame(picture, at_ms)

    def _priority(self):
        if self._open_clip is None:
            return RING
        return URGENT if self._open_clip.clip.sos else ROUTINE

    # --- events -------------------------------------------------------------------------------------------------------

    def trigger(self, trigger, event_id, who, now, hold_ms=None):
        """Begin a clip for an event, or mark the event in the current clip and extend that.

        Args:
            trigger: clip_manifest.trigger.
            event_id: Id of the event, or NO_EVENT.
            who: The operator who asked for it; "" for an event of the device.
            now: Monotonic ms.
            hold_ms: How long the recording lasts from now on; None: post_s.

        Returns:
            The number of the clip.

        Raises:
            RefusedError: No clip can be recorded.
        """
        end_ms = now + (self._post_ms if hold_ms is None else hold_ms)
        if self._open_clip is None:
            if trigger != enums.CLIP_MANIFEST_TRIGGER_SOS:
                self._check_room()
            self._begin_for_event(trigger, event_id, now, end_ms)
        self._end_ms = max(self._end_ms, end_ms)
        if trigger == enums.CLIP_MANIFEST_TRIGGER_SOS and not self._open_clip.clip.sos:
            self._event = _Event(trigger, event_id)
        file_id = self._ring_recorder.current_id()
        at_ms = self._ring_recorder.mark(trigger, event_id, now)
        self._open_clip.mark(trigger, event_id, self._unix(now), file_id, at_ms)
        if who:
            self._log("recording_start", who, now)
        return self._open_clip.clip.number

    def _begin_for_event(self, trigger, event_id, now, end_ms):
        ring_recorder = self._ring_recorder
        first_id = self._first_id_since(now - self._pre_ms)
        self._begin_clip(_Event(trigger, event_id), first_id, now, None)
        self._clip_start_ms = now - self._pre_ms - ring_recorder.segment_ms
        self._end_ms = end_ms
        self._thumbnail_due = True
        if ring_recorder.sound.on_event and not ring_recorder.sound.is_open:
            ring_recorder.end_segment(now)  # the next one has sound

    def _first_id_since(self, at_ms):
        """Return the id of the last file that begins at or before `at_ms`, or else of the oldest file."""
        first_id = None
        if self._ring_recorder.begins_after(at_ms):
            first_id = self._store.ring.first_since(at_ms)
        return self._ring_recorder.current_id() if first_id is None else first_id

    def _begin_clip(self, event, first_id, now, follows):
        self._event = event
        codec = self._ring_recorder.codec
        self._open_clip = self._store.open_clips.begin(event.trigger, event.event_id, first_id, codec, now, follows)

    def _end_if_due(self, now):
        """End the clip if its time is over, or if it is too long and no frame comes that would end its segment."""
        if self._open_clip is None:
            return
        if now >= self._end_ms and not self.held:
            if not self._store.open_clips.is_full():
                self._end_clip(now)
        elif not self._ring_recorder.is_recording and now - self._clip_start_ms >= _CLIP_MS:
            self._continue_in_new_clip(now, self._ring_recorder.end_reason(now))

    def _end_clip(self, now, reason=None):
        ring_recorder = self._ring_recorder
        reason = reason or ring_recorder.end_reason(now)
        ring_recorder.end_segment(now)
        self.held = self._thumbnail_due = False
        if self._open_clip is not None:
            self._close_clip(reason, ring_recorder.current_id() - 1)
        if not ring_recorder.sound.always:
            ring_recorder.sound.close()

    def _close_clip(self, reason, last_id):
        self._open_clip.end(reason, last_id)
        self._open_clip = None

    def _continue_in_new_clip(self, now, reason):
        """Close the clip between two segments, and continue in a new one if the lock quota allows it."""
        if self._store.open_clips.is_full():
            return
        previous = self._open_clip.clip
        if not previous.sos and self._store.lock.is_full():
            self._end_clip(now, "storage")
            return
        self._close_clip(reason, self._ring_recorder.current_id() - 1)
        self._begin_successor(previous, now)

    def _begin_successor(self, previous, now):
        event = _Event(enums.CLIP_MANIFEST_TRIGGER_SOS if previous.sos else self._event.trigger, self._event.event_id)
        self._begin_clip(event, self._ring_recorder.current_id(), now, previous.number)
        self._clip_start_ms = now

    def hold(self):
        """The wearer has started the recording: it lasts until `release` or `stop`."""
        self.held = True

    def stop(self, who, now):
        """End the recording post_s from now. Returns the number of the clip, or None if nothing is recorded."""
        if self._open_clip is None:
            return None
        self.held = False
        self._end_ms = min(self._end_ms, now + self._post_ms)
        return self._log("recording_stop", who, now)

    def release(self, who, now):
        """End the wearer's recording post_s from now; the recording of others continues.

        Returns:
            The number of the clip, or None if the wearer holds no recording.
        """
        if not self.held:
            return None
        self.held = False
        self._end_ms = max(self._end_ms, now + self._post_ms)
        return self._log("recording_stop", who, now)

    def _log(self, action, who, now):
        number = self._open_clip.clip.number
        self._store.open_clips.log_access(action, who, now, "clip", number)
        return number

    def _check_room(self):
        if self._store.lock.is_full():
            raise RefusedError("storage is full of clips that the hub has not verified; upload them first")

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot(self, who, now, done=None):
        """Make a clip of the next picture.

        Args:
            who: The operator who asked for it.
            now: Monotonic ms.
            done: Function(number of the clip, or None if no picture came or storage had no room), called once.

        Raises:
            RefusedError: No snapshot can be taken now.
        """
        if self._snapshot is not None:
            raise RefusedError("another snapshot is in progress; try again when it is done")
        if self._store.open_clips.is_full():
            raise RefusedError("storage is late: too many clips wait for it; try again later")
        if self._priority() != URGENT:
            self._check_room()
        self._snapshot = _Snapshot(who, now, done)

    def _finish_snapshot(self, picture, at_ms):
        """Write the picture of a snapshot, None if none came.

        Its file lies between two segments and its clip between two clips: a clip being recorded continues in a new one.
        """
        ring_recorder = self._ring_recorder
        snapshot, self._snapshot = self._snapshot, None
        number = None
        if picture is not None:
            ring_recorder.end_segment(at_ms)
            last_id = ring_recorder.current_id() - 1
            file_id = ring_recorder.write_still(picture, at_ms, self._priority())
            if file_id is not None:
                number = self._make_snapshot_clip(file_id, last_id, snapshot.who, at_ms)
        if snapshot.done is not None:
            snapshot.done(number)

    def _make_snapshot_clip(self, file_id, last_id, who, at_ms):
        interrupted = self._open_clip
        if interrupted is not None:
            self._close_clip("done", last_id)
        open_clips = self._store.open_clips
        open_clip = open_clips.begin(enums.CLIP_MANIFEST_TRIGGER_PHOTO, NO_EVENT, file_id, clip_format.JPEG, at_ms)
        open_clip.end("done", file_id)
        open_clip.mark(enums.CLIP_MANIFEST_TRIGGER_PHOTO, NO_EVENT, self._unix(at_ms), file_id, 0)
        open_clips.log_access("snapshot", who, at_ms, "clip", open_clip.clip.number)
        if interrupted is not None:
            self._begin_successor(interrupted.clip, at_ms)
        return open_clip.clip.number

    def close(self, now):
        """The device is switched off: end the recording, and give storage a moment."""
        self._end_clip(now)
        self._ring_recorder.close()
        store = self._store
        for _ in range(3):  # the segment, the lines that list it, the seal
            store.files.flush(_FLUSH_MS)
            for _ in range(_CLOSING_PIECES):
                store.serve(now)
            while store.open_clips.has_step():
                store.open_clips.step()
