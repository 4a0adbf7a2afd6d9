"""The recorder: a film that goes on and on in a ring of segments, and events that make clips of it (CLIP.md)."""

import struct

from patrolink_protocol import clip as pc

from . import clip_index
from .retention import RING, ROUTINE, URGENT
from .ring_recorder import FRAMES, RingRecorder

FOREVER = 1 << 40  # `hold_ms` of a recording that goes on until `stop`
_CLIP_MS = 600000
_FRESH_MS = 2000  # a snapshot waits no longer for its picture
_FLUSH_MS = 1000


class RefusedError(Exception):
    """A trigger makes no clip; the text says why."""


class ClipRecorder(RingRecorder):
    """As Film has it; `config` has "pre_s" and "post_s", too."""

    def __init__(self, shelf, camera, container, jpeg, evidence, config, unix, source, ears=None):
        self._pre_ms = config["pre_s"] * 1000
        self._post_ms = config["post_s"] * 1000
        self._writing = None  # the clip that goes on
        self._clip_at = 0
        self._until = 0
        self.held = False  # a wearer's recording goes on, until `release`: whoever has the button sets it
        self._event = (0, 0)
        self._thumb = False
        self._asked = None  # a snapshot to be taken: (who, monotonic ms, function(number))
        self._rested = False  # no step to a seal was taken in the last round
        RingRecorder.__init__(self, shelf, camera, container, jpeg, evidence, config, unix, source, ears)

    def serve(self, now):
        """Take what the camera and the microphone have, and go on with storage."""
        self.shelf.serve(now)
        taken = self._film(now)
        self._last(now)
        if self._asked is not None and now - self._asked[1] > _FRESH_MS:
            self._photo(None, now)
        self._rested = taken > 0 and not self._rested
        if not self._rested:  # a picture is work enough for a round, but not for two in a row
            self.shelf.step()
        self._sound(now)

    # --- what the film asks -----------------------------------------------------------------------------------------

    def _rank(self):
        if self._writing is None:
            return RING
        return URGENT if self._writing.clip.sos else ROUTINE

    def _listens(self):
        return self._always or (self._eventful and self._writing is not None)

    def _seen(self, picture, at_ms):
        if self._asked is not None:
            self._photo(picture, at_ms)
        if self._thumb and self._still_file(picture, at_ms) is not None:
            self._thumb = False

    def _turn(self, at_ms, why):
        if self._writing is not None and at_ms - self._clip_at >= _CLIP_MS - self._segment_ms:
            self._follow(at_ms, why)

    # --- events -----------------------------------------------------------------------------------------------------

    def trigger(self, trigger, event_id, who, now, hold_ms=None):
        """An event: begin a clip, or mark and extend the one that goes on. Return its number; raise Refused.

        hold_ms  how long it goes on, post_s when None
        """
        until = now + (self._post_ms if hold_ms is None else hold_ms)
        if self._writing is None:
            if trigger != clip_index.SOS:
                self._check_room()
            self._start_clip(trigger, event_id, self._since(now - self._pre_ms), now, None)
            self._clip_at = now - self._pre_ms - self._segment_ms
            self._until = until
            self._thumb = True
            if self._eventful and not self._hearing:
                self._end(now)  # the next one has sound
        self._until = max(self._until, until)
        if trigger == clip_index.SOS and not self._writing.clip.sos:
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
        elif len(self._marks) < FRAMES:
            self._marks.append(body)

    def _last(self, now):
        """End the clip that goes on, if that is over, or its ten minutes and no picture comes to say so."""
        if self._writing is None:
            return
        if now >= self._until and not self.held:
            if not self.shelf.crowded():
                self._finish(now)
        elif self._key is None and now - self._clip_at >= _CLIP_MS:
            self._follow(now, self._why(now))

    def _close_clip(self, why, last):
        """The clip has the files up to the one of key `last`."""
        self._writing.until = last
        self._writing.why = why
        self._writing = None

    def _finish(self, now, why=None):
        why = why or self._why(now)
        self._end(now)
        self.held = self._thumb = False
        if self._writing is not None:
            self._close_clip(why, self._current() - 1)
        if not self._always:
            self._deafen()

    def _follow(self, now, why):
        """Seal the clip that goes on at this boundary of two segments, and go on in another one, if it may."""
        if self.shelf.crowded():
            return
        before = self._writing.clip
        if not before.sos and self.shelf.full():
            self._finish(now, "storage")
            return
        self._close_clip(why, self._current() - 1)
        self._go_on(before, now)

    def _go_on(self, before, now):
        trigger = clip_index.SOS if before.sos else self._event[0]
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
            raise RefusedError("another snapshot is being taken; ask again once it is there")
        if self.shelf.crowded():
            raise RefusedError("storage has still to take the clips before")
        if self._rank() != URGENT:
            self._check_room()
        self._asked = (who, now, done)

    def _check_room(self):
        if self.shelf.full():
            raise RefusedError("clips that the hub has not verified take all the room that they may; upload them first")

    def _photo(self, picture, at_ms):
        """The picture of a snapshot, None when none came: what the camera gives holds no longer than this.

        Its file stands between two segments, and its clip between two clips: one that goes on goes on after it.
        """
        who, _, done = self._asked
        self._asked = number = None
        if picture is not None:
            self._end(at_ms)
            last = self._current() - 1
            key = self._still_file(picture, at_ms)
            if key is not None:
                number = self._photo_clip(key, last, who, at_ms)
        if done is not None:
            done(number)

    def _photo_clip(self, key, last, who, at_ms):
        before = self._writing
        if before is not None:
            self._close_clip("done", last)
        writing = self.shelf.begin(clip_index.PHOTO, clip_index.NO_EVENT, key, pc.JPEG, at_ms)
        writing.until = key
        writing.why = "done"
        number = writing.clip.number
        writing.mark(clip_index.PHOTO, clip_index.NO_EVENT, self._unix(at_ms), key, 0)
        self.access("snapshot", who, at_ms, "clip", number)
        if before is not None:
            self._go_on(before.clip, at_ms)
        return number

    def access(self, what, who, now, *facts):
        """Tell what others did: in the manifest of the clip that goes on, or of the next one."""
        self.shelf.access(what, who, now, *facts)

    def close(self, now):
        """The power goes as planned: end what goes on, and give storage a moment."""
        self._finish(now)
        self._camera.close()
        self._deafen()
        for _ in range(3):  # the segment, what lists it, its seal
            self.shelf.files.flush(_FLUSH_MS)
            self.shelf.serve(now)
            while self.shelf.working():
                self.shelf.step()
