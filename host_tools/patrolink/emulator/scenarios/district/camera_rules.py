"""Rules about clips and live view."""

from collections.abc import Callable
from typing import Any

from patrolink.emulator.scheduler import Scheduler

_LATE_MS = 30_000.0  # in which a device stops to send after the end of a view

Key = tuple[str, int]


class CameraRules:
    """Clips arrive complete, and cameras are seen only by who asks for it.

    Args:
        scheduler: Virtual clock.
        violate: Records a violation: rule and text.
    """

    def __init__(self, scheduler: Scheduler, violate: Callable[[str, str], None]) -> None:
        self._scheduler, self._violate = scheduler, violate
        self._sealed: set[Key] = set()
        self._excused: set[str] = set()  # devices whose uploads may have been refused
        self._watched_until_ms: dict[str, float] = {}

    # --- clips --------------------------------------------------------------------------------------------------------

    def sealed(self, device: str, clip: int) -> None:
        """A device has stored the announcement of a clip."""
        self._sealed.add((device, clip))

    def excuse(self, device: str) -> None:
        """A device was copied: a copy may send clips with the same numbers."""
        self._excused.add(device)

    def missing(self, rows: list[dict[str, Any]]) -> list[Key]:
        """Return the clips of which the hub does not have everything.

        Args:
            rows: The hub's rows of clips.
        """
        complete = {(row["device"], row["clip"]) for row in rows if row["state"] == "here"}
        return sorted(key for key in self._sealed - complete if key[0] not in self._excused)

    def check_clips(self, rows: list[dict[str, Any]]) -> int:
        """Check at the end that the hub has each clip once; return the number of clips."""
        for device, clip in self.missing(rows):
            states = [row["state"] for row in rows if (row["device"], row["clip"]) == (device, clip)]
            self._violate("clip", f"clip {clip} of {device} is not at the hub: {states}")
        keys = [(row["device"], row["clip"]) for row in rows]
        for device, clip in sorted({key for key in keys if keys.count(key) > 1}):
            self._violate("clip", f"the hub has clip {clip} of {device} more than once")
        return len(self._sealed)

    # --- live view ----------------------------------------------------------------------------------------------------

    def watch_begun(self, device: str, seconds: int) -> None:
        """A dispatcher has asked for a view of a device."""
        until_ms = self._scheduler.now + 1000 * seconds
        self._watched_until_ms[device] = max(until_ms, self._watched_until_ms.get(device, 0))

    def live_packet(self, device: str) -> None:
        """A device has sent a packet of live view."""
        until_ms = self._watched_until_ms.get(device)
        if until_ms is None or self._scheduler.now > until_ms + _LATE_MS:
            self._violate("live view", f"{device} sent pictures, and nobody had asked for them")
            self._watched_until_ms[device] = self._scheduler.now
