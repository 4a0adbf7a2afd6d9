"""Allocates SSRCs that are unique in the site and never repeat under one key.

An SSRC has 32 bits: bit 31 is set for floor messages and clear for voice, bits 30 to 27 are the hub's shard, the rest
is a counter that is kept on storage.
"""

import errno
from pathlib import Path

from patrolink.hub.infra.persistence import PersistentCounter

_CONTROL = 1 << 31
_SHARD_SHIFT = 27
_BURSTS = 1 << _SHARD_SHIFT
_RENEW_BEFORE = 1 << 16  # bursts before the counter restarts
_BURST_BLOCK = 1 << 14  # half of it can be used while storage is full
_EMERGENCY_NUMBERS = 1 << 10  # of those on storage, the last ones are for emergency calls


class SsrcAllocator:
    """SSRC counters of one hub.

    Args:
        folder: Folder of the hub's state.
        shard: The hub.

    Attributes:
        counters: The counters on storage.
        keys_renewed: All group keys were replaced since the burst numbers restarted. The caller sets it.
    """

    def __init__(self, folder: Path, shard: int) -> None:
        self._shard_bits = shard << _SHARD_SHIFT
        self._control = PersistentCounter(folder / "ssrc.json", 1024, 1)
        self._burst = PersistentCounter(folder / "burst.json", _BURST_BLOCK, 1)
        self.counters = self._control, self._burst
        self.keys_renewed = False

    def new_ssrc(self) -> int:
        """Return an SSRC for floor messages of a member or of the hub.

        Raises:
            OSError: Storage failed. No number was used.
        """
        return _CONTROL | self._shard_bits | self._control.allocate()

    def prepare(self, count: int) -> None:
        """Reserve the next `count` SSRCs for floor messages with one write, before many are allocated.

        Raises:
            OSError: Storage failed.
        """
        self._control.prepare(count)

    @property
    def is_renewal_due(self) -> bool:
        """True before the burst numbers restart, until `keys_renewed` is set."""
        return self._burst.next_number >= _BURSTS - _RENEW_BEFORE and not self.keys_renewed

    def new_burst_ssrc(self, is_emergency: bool) -> int:
        """Return an SSRC for the voice of one burst.

        Raises:
            OSError: Storage failed. No number was used.
        """
        if self._burst.next_number >= _BURSTS:
            if not self.keys_renewed:
                raise OSError(errno.ENOSPC, "no burst number is left under the current group keys")
            self._burst.restart(1)
            self.keys_renewed = False
        if not is_emergency:
            self._burst.prepare(_EMERGENCY_NUMBERS + 1)
        return self._shard_bits | self._burst.allocate()
