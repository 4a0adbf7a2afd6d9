"""What goes when there is no room.

In this order, and no further than what asks for the room may: the ring and a routine clip never cost an SOS anything.

1. clips that the hub has verified, whose keep_h is over, oldest first
2. segments of the ring that no event would want any more, oldest first
3. other verified clips, oldest first; those that a dispatcher wants kept last
4. for an event: every second segment of the middle (all but the first and the last) of the oldest routine clip, then of
   the next, and so on round and round
5. for an SOS: the same of SOS clips, without their first minute

Where all that leaves the ring less than an event would want, it goes on shorter (`Shelf.ready`): the last seconds are
worth more than those before them.

Clips that are not verified only ever get coarser, told by an `access` line "thinned" that is on storage before the
segment goes. Nothing here goes by the wearer's wish.
"""

from . import manifest
from .clip_index import VERIFIED

RING, ROUTINE, URGENT = range(3)
_FIRST_MS = 60000  # of an SOS, which are never thinned
_HOUR_MS = 3600000


class Retention:
    """
    shelf    the Shelf whose files these are
    keep_h   hours that a verified clip stays when there is room
    """

    def __init__(self, shelf, keep_h):
        self._shelf = shelf
        self._keep_ms = keep_h * _HOUR_MS
        self._at = [(0, -1), (0, -1)]  # clip and key that was thinned last: of routine clips, of SOS

    def expire(self, unix_ms):
        """Let go of verified clips whose time is over."""
        if unix_ms:
            while self._release(True, unix_ms):
                pass

    def make(self, rank, unix_ms):
        """Let one thing go; False when nothing may."""
        shelf = self._shelf
        return (
            self._release(True, unix_ms)
            or shelf.drop_ring()
            or self._release(False, unix_ms)
            or (rank >= ROUTINE and self._thin(False))
            or (rank >= URGENT and self._thin(True))
        )

    def _release(self, over, unix_ms):
        best = None
        for clip in self._shelf.clips:
            if clip.state != VERIFIED or clip.gone:
                continue
            if over and (clip.keep or not clip.verified_ms or unix_ms - clip.verified_ms < self._keep_ms):
                continue
            if best is None or (best.keep and not clip.keep):
                best = clip
        if best is not None:
            self._shelf.release(best)
        return best is not None

    def _thin(self, sos):
        """Drop the next segment of the round; a round that drops nothing is the last."""
        number, last = self._at[sos]
        for start in ((number, last), (0, -1)):
            for clip in self._shelf.clips:
                if clip.sos == sos and clip.state != VERIFIED and not clip.photo and clip.number >= start[0]:
                    key = self._spare(clip, start[1] if clip.number == start[0] else -1)
                    if key is not None:
                        self._at[sos] = (clip.number, key)
                        self._shelf.thin(clip, key)
                        return True
        return False

    def _spare(self, clip, after):
        """Return the key of the second segment behind `after` that there is, the last one is not it; else None."""
        if manifest.file_of(clip.number) not in self._shelf.files.names():
            return None
        ms = seen = 0
        spare = None
        for key, said, picture in self._shelf.listed(clip):
            if picture:
                continue
            late = not clip.sos or ms >= _FIRST_MS
            ms += said.get("ms", 0)
            if key > after and late and self._shelf.spares(clip, key):
                if spare is not None:
                    return spare
                seen += 1
                if seen == 2:
                    spare = key
        return None
