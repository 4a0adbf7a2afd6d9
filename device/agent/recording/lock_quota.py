"""How much of the storage clips that the hub has not verified may take (`lock_kb`), and when to warn of it."""

_WARN_PCT = 80
_REARM_PCT = 75


class LockQuota:
    """Watches the size of the unverified clips.

    Args:
        index: clip_index.ClipIndex.
        lock_kb: The limit, KiB.
    """

    def __init__(self, index, lock_kb):
        self._index = index
        self._limit = lock_kb * 1024
        self._warned_pct = 0  # 0, _WARN_PCT or 100

    def is_full(self):
        """Return whether unverified clips have reached the limit."""
        return self._index.unverified_bytes() >= self._limit

    def warning(self):
        """Return the percentage to warn of, once each at 80 % and at 100 %, or None."""
        pct = min(100, self._index.unverified_bytes() * 100 // self._limit)
        step = 100 if pct >= 100 else _WARN_PCT if pct >= _WARN_PCT else 0
        if step > self._warned_pct:
            self._warned_pct = step
            return pct
        if pct < _REARM_PCT:
            self._warned_pct = 0
        elif pct < 100 - (_WARN_PCT - _REARM_PCT):
            self._warned_pct = min(self._warned_pct, _WARN_PCT)
        return None
