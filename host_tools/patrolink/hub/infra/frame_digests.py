"""Remembers the tags of recent frames: a counter that comes again with another tag was used by two devices.

A device never uses a counter twice, and repeats a frame byte by byte. The tag covers the whole frame, so two bytes of
it are enough to tell two frames apart; one of 65,536 pairs is not. A copy of a device's storage begins at most 1,024
counters ahead of the original: both have used the same counters by the time the original gets there.
"""

from array import array

FRAMES = 2048  # that are remembered of one device
_BLOCKS = 1 << 16


class FrameDigests:
    """Digests of the last FRAMES counters of each device in its current key epoch. They do not survive a restart."""

    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}
        self._entries: dict[str, array[int]] = {}  # by counter modulo FRAMES: block of the counter << 16 | digest

    def record(self, device: str, epoch: int, counter: int, tag: bytes) -> None:
        """Remember a frame that is authentic and new. One that is older than those remembered is ignored."""
        if self._epochs.get(device) != epoch:
            self._epochs[device] = epoch
            self._entries[device] = array("I", bytes(4 * FRAMES))
        entries, position, entry = self._entries[device], counter % FRAMES, _entry(counter, tag)
        if entry >> 16 >= entries[position] >> 16:
            entries[position] = entry

    def is_other(self, device: str, epoch: int, counter: int, tag: bytes) -> bool:
        """Return True if an authentic frame has a counter that another frame had."""
        if self._epochs.get(device) != epoch:
            return False
        known, entry = self._entries[device][counter % FRAMES], _entry(counter, tag)
        return known != 0 and known >> 16 == entry >> 16 and known != entry


def _entry(counter: int, tag: bytes) -> int:
    return (counter // FRAMES % _BLOCKS) << 16 | int.from_bytes(tag[:2], "big")
