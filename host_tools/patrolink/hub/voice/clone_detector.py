"""Detects two senders under one identity, by the addresses of authentic packets. There is no side effect.

A device behind a NAT gets new addresses, but does not go back to earlier ones again and again, and its packets do not
come from elsewhere with indices that are long past. Both happen when a copy of the device sends, or when somebody
repeats its packets from another address.
"""

from collections import deque
from collections.abc import Hashable

from patrolink.hub.infra.rate_limits import NoticeLimiter

SIGNS = 4  # within WINDOW_MS
WINDOW_MS = 60_000
NOTICE_MS = 10_000  # a finding is repeated: no dispatcher may have been connected when the first was made
_ADDRESSES = 8  # earlier ones of a device that are remembered


class _Traces:
    def __init__(self) -> None:
        self.left: deque[Hashable] = deque(maxlen=_ADDRESSES)  # earlier addresses
        self.signs_ms: deque[int] = deque(maxlen=SIGNS)


class CloneDetector:
    """Detector for all devices of a hub. Each method returns True if the device has a double; once per NOTICE_MS."""

    def __init__(self) -> None:
        self._traces: dict[str, _Traces] = {}
        self._limiter = NoticeLimiter(NOTICE_MS)

    def moved(self, device: str, old: Hashable, new: Hashable, now_ms: int) -> bool:
        """Process a change of a device's address. The addresses include the socket that they belong to."""
        traces = self._traces.setdefault(device, _Traces())
        is_return = new in traces.left
        traces.left.append(old)
        return is_return and self._sign(device, traces, now_ms)

    def stale_packet(self, device: str, now_ms: int) -> bool:
        """Process an authentic packet with an old index, from an address that is not the device's."""
        return self._sign(device, self._traces.setdefault(device, _Traces()), now_ms)

    def _sign(self, device: str, traces: _Traces, now_ms: int) -> bool:
        signs = traces.signs_ms
        signs.append(now_ms)
        return len(signs) == SIGNS and now_ms - signs[0] < WINDOW_MS and self._limiter.is_due(device, now_ms)
