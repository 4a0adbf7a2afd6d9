"""Which terms are sent to which devices next. A state machine without clock and sockets."""

import heapq
from typing import NamedTuple

IN_FLIGHT_MS = 5000  # after terms were sent, a report that differs may have crossed them


class DeviceGroup(NamedTuple):
    """One group of one device."""

    device: str
    group: int


class TermsQueue:
    """Queue of terms to send: changes first, then repeats of lost terms, each group of a device once.

    A repeat within `hold_ms` of the last transmission is deferred to the end of that time.
    """

    def __init__(self) -> None:
        self._changes: dict[DeviceGroup, None] = {}
        self._repeats: dict[DeviceGroup, None] = {}
        self._deferred: dict[DeviceGroup, int] = {}  # when the repeat is due
        self._due: list[tuple[int, DeviceGroup]] = []  # heap of `_deferred`, also with entries that no longer count
        self._sent_ms: dict[DeviceGroup, int] = {}  # in the order of transmission

    def __len__(self) -> int:
        """Return how many terms are to be sent, now or later."""
        return len(self._changes) + len(self._repeats) + len(self._deferred)

    def add_change(self, entry: DeviceGroup) -> None:
        """Send terms that have changed."""
        self.cancel_repeat(entry)
        self._changes[entry] = None

    def add_repeat(self, entry: DeviceGroup, now_ms: int, hold_ms: int = IN_FLIGHT_MS) -> None:
        """Send terms again that the device does not have."""
        if entry in self._changes or entry in self._repeats or entry in self._deferred:
            return
        sent_ms = self._sent_ms.get(entry)
        if sent_ms is None or now_ms - sent_ms >= hold_ms:
            self._repeats[entry] = None
        else:
            self._deferred[entry] = sent_ms + hold_ms
            heapq.heappush(self._due, (sent_ms + hold_ms, entry))

    def cancel_repeat(self, entry: DeviceGroup) -> None:
        """Do not send terms again: the device has them."""
        self._repeats.pop(entry, None)
        self._deferred.pop(entry, None)

    def take(self, now_ms: int, limit: int) -> list[DeviceGroup]:
        """Return the next terms to send, at most `limit`, and regard them as sent."""
        while self._due and self._due[0][0] <= now_ms:
            due_ms, entry = heapq.heappop(self._due)
            if self._deferred.get(entry) == due_ms:
                del self._deferred[entry]
                self._repeats[entry] = None
        taken: list[DeviceGroup] = []
        for lane in self._changes, self._repeats:
            entries = [entry for entry, _ in zip(lane, range(limit - len(taken)), strict=False)]
            for entry in entries:
                del lane[entry]
            taken += entries
        self._note_sent(taken, now_ms)
        return taken

    def _note_sent(self, entries: list[DeviceGroup], now_ms: int) -> None:
        for entry in entries:
            self._sent_ms.pop(entry, None)
            self._sent_ms[entry] = now_ms
        while self._sent_ms:
            entry, sent_ms = next(iter(self._sent_ms.items()))
            if now_ms - sent_ms < IN_FLIGHT_MS:
                break
            del self._sent_ms[entry]

    def wait_ms(self, now_ms: int) -> int | None:
        """Return the milliseconds until `take` returns something; None if nothing is to be sent."""
        if self._changes or self._repeats:
            return 0
        return max(0, self._due[0][0] - now_ms) if self._due else None
