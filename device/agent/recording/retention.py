"""Which files are removed when storage runs short.

Files are removed in this order, and no further than the priority of the new file allows: the ring and routine clips
never cost an SOS clip anything.

1. clips that the hub has verified and whose keep_h is over, oldest first
2. segments of the ring that no event would want any more, oldest first
3. other verified clips, oldest first; those that a dispatcher asked to keep last
4. for an event: every second segment in the middle (not the first and the last) of the oldest routine clip, then of the
   next one, round and round
5. for an SOS: the same of SOS clips, except for their first minute

If that leaves less of the ring than an event would want, the ring itself becomes shorter (`ClipStore.reserve`): the
last seconds matter more than those before them.

Unverified clips are only ever thinned. Each removal is recorded in an access line "thinned", which is given to storage
before the segment is removed. Nothing is removed on the wearer's request.
"""

from .clip_files import file_name, file_stem, manifest_name
from .clip_index import OPEN, VERIFIED

RING, ROUTINE, URGENT = range(3)  # priority of a new file
_PROTECTED_MS = 60000  # of an SOS clip: never thinned
_HOUR_MS = 3600000


class Retention:
    """Removes files of clips and ring.

    Args:
        files: hal Files of the clips.
        index: clip_index.ClipIndex.
        ring: ring.Ring.
        usage: storage_usage.StorageUsage.
        open_clips: open_clips.OpenClips, which records what was removed.
        keep_h: Hours for which a verified clip stays while there is room.
    """

    def __init__(self, files, index, ring, usage, open_clips, keep_h):
        self._files = files
        self._index = index
        self._ring = ring
        self._usage = usage
        self._open_clips = open_clips
        self._keep_ms = keep_h * _HOUR_MS
        self._thinned = [(0, -1), (0, -1)]  # (clip, file id) that was thinned last: of routine clips, of SOS clips

    def expire(self, now, unix_ms):
        """Release the verified clips whose keep_h is over. Raises OSError."""
        if unix_ms:
            while self._release_next(True, now, unix_ms):
                pass

    def make_room(self, priority, now, unix_ms):
        """Remove one file or clip.

        Args:
            priority: RING, ROUTINE or URGENT: of the file that needs the room.
            now: Monotonic ms.
            unix_ms: Unix time, 0 if not known.

        Returns:
            False if nothing more may be removed for this priority.

        Raises:
            OSError: Storage cannot be read.
        """
        return (
            self._release_next(True, now, unix_ms)
            or self._ring.drop_unneeded(now)
            or self._release_next(False, now, unix_ms)
            or (priority >= ROUTINE and self._thin_next(False, now))
            or (priority >= URGENT and self._thin_next(True, now))
        )

    def _release_next(self, expired_only, now, unix_ms):
        best = None
        for clip in self._index.clips:
            if clip.state != VERIFIED or clip.released:
                continue
            if expired_only and (clip.keep or not clip.verified_ms or unix_ms - clip.verified_ms < self._keep_ms):
                continue
            if best is None or (best.keep and not clip.keep):
                best = clip
        if best is not None:
            self.release(best, now)
        return best is not None

    def release(self, clip, now):
        """Remove the files of a verified clip.

        Its manifest stays while it is the newest one: the next clip continues its chain. Raises OSError.
        """
        freed = 0
        for file_id, _, _ in self._index.listed(clip):
            if not self._index.holds(file_id, clip) and not self._ring.contains(file_id):
                freed += self._usage.remove(file_name(file_id))
        if freed:
            self._open_clips.log_access("released", "device", now, "clip", clip.number)
        clip.mark_released()
        if [c for c in self._index.clips if c.number > clip.number and c.state != OPEN]:
            self._usage.remove(manifest_name(clip.number))
            self._index.remove(clip)

    def release_superseded(self, now):
        """Remove the manifests of released clips that are not the newest any more. Raises OSError."""
        for clip in [c for c in self._index.clips if c.released]:
            self.release(clip, now)

    def _thin_next(self, sos, now):
        """Remove the next segment in the round. Returns False after a round that removed nothing."""
        number, last = self._thinned[sos]
        for first_number, after in ((number, last), (0, -1)):
            for clip in self._index.clips:
                if clip.sos == sos and clip.state != VERIFIED and not clip.photo and clip.number >= first_number:
                    file_id = self._thinnable(clip, after if clip.number == first_number else -1)
                    if file_id is not None:
                        self._thinned[sos] = (clip.number, file_id)
                        self.thin(clip, file_id, now)
                        return True
        return False

    def _thinnable(self, clip, after):
        """Return the id of the second removable segment after id `after`, if another one follows it; else None."""
        if manifest_name(clip.number) not in self._files.names():
            return None
        duration_ms = removable = 0
        candidate = None
        for file_id, fields, is_picture in self._index.listed(clip):
            if is_picture:
                continue
            protected = clip.sos and duration_ms < _PROTECTED_MS
            duration_ms += fields.get("ms", 0)
            if file_id > after and not protected and self.is_spare(clip, file_id):
                if candidate is not None:
                    return candidate
                removable += 1
                if removable == 2:
                    candidate = file_id
        return None

    def is_spare(self, clip, file_id):
        """Return whether a listed file exists and only this clip uses it."""
        if self._ring.contains(file_id):
            return False
        for other in self._index.clips:
            if other is not clip and other.state != VERIFIED and other.holds(file_id):
                return False
        return self._usage.has(file_name(file_id))

    def thin(self, clip, file_id, now):
        """Remove one segment of an unverified clip, and record it."""
        self._open_clips.log_access("thinned", "device", now, "clip", clip.number, "segs", [file_stem(file_id)])
        self._open_clips.flush()
        clip.remove_bytes(self._usage.remove(file_name(file_id)))
