"""The connections of an HTTP server, limited in total and per source.

At a limit, a new connection takes the place of the oldest one that serves no request: one that has not sent the head of
a request yet, is in its TLS handshake, or waits for the next request. Half requests can therefore not shut a server.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False)
class Entry:
    """A connection.

    Attributes:
        source: Where it comes from; see attempt_limiter.source_network.
        close: Closes it at once.
        is_serving: A request is being processed.
    """

    source: str
    close: Callable[[], object]
    is_serving: bool = False


class ConnectionTable:
    """The open connections.

    Args:
        total_max: Limit of all connections.
        source_max: Limit of the connections of one source.
    """

    def __init__(self, total_max: int, source_max: int) -> None:
        self._total_max, self._source_max = total_max, source_max
        self._entries: dict[str, dict[Entry, None]] = {}  # by source, the oldest first
        self._count = 0

    def __len__(self) -> int:
        """Return the number of connections."""
        return self._count

    def admit(self, source: str) -> bool:
        """Make room for a connection of a source. Returns False if there is none."""
        if len(self._entries.get(source, ())) >= self._source_max:
            return self._close_idle(source)
        if self._count < self._total_max:
            return True
        by_count = sorted(self._entries, key=lambda name: len(self._entries[name]), reverse=True)
        return any(self._close_idle(name) for name in by_count)

    def _close_idle(self, source: str) -> bool:
        entry = next((entry for entry in self._entries[source] if not entry.is_serving), None)
        if entry is None:
            return False
        self.remove(entry)
        entry.close()
        return True

    def add(self, entry: Entry) -> None:
        """Add a connection that was admitted."""
        self._entries.setdefault(entry.source, {})[entry] = None
        self._count += 1

    def remove(self, entry: Entry) -> None:
        """Remove a connection that has ended. It may have been removed before."""
        entries = self._entries.get(entry.source, {})
        if entry in entries:
            del entries[entry]
            self._count -= 1
            if not entries:
                del self._entries[entry.source]
