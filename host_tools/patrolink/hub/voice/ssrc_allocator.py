"""Allocates SSRCs that are unique in the site and never repeat under one key.

An SSRC has 32 bits: bit 31 is set for floor messages and clear for voice, bits 30 to 27 are the hub's shard, the rest
is a counter that is kept on storage.
"""

from pathlib import Path

from patrolink.hub.infra.persistence import PersistentCounter

_CONTROL = 1 << 31
_SHARD_SHIFT = 27
_BURSTS = 1 << _SHARD_SHIFT
_RENEW_BEFORE = 1 << 16  # bursts before the counter restarts


class SsrcAllocator:
    """SSRC counters of one hub."""

    def __init__(self, folder: Path, shard: int) -> None:
        self._shard_bits = shard << _SHARD_SHIFT
        self._control = PersistentCounter(folder / "ssrc.json", 256, 1)
        self._burst = PersistentCounter(folder / "burst.json", 4096, 1)
        self._renewal_reported = False

    def new_ssrc(self) -> int:
        """Return an SSRC for floor messages of a member or of the hub."""
        return _CONTROL | self._shard_bits | self._control.allocate()

    def prepare(self, count: int) -> None:
        """Reserve the next `count` SSRCs for floor messages with one write, before many are allocated.

        Raises:
            OSError: Storage failed.
        """
        self._control.prepare(count)

    def renewal_due(self) -> bool:
        """Return True once before the burst numbers restart: then all group keys have to be replaced."""
        due = self._burst.next_number >= _BURSTS - _RENEW_BEFORE and not self._renewal_reported
        self._renewal_reported |= due
        return due

    def new_burst_ssrc(self) -> int:
        """Return an SSRC for the voice of one burst.

        Raises:
            OSError: Storage failed. No number was used.
        """
        number = self._burst.allocate()
        if number == _BURSTS - 1:
            self._burst.restart(1)
            self._renewal_reported = False
        return self._shard_bits | number
