"""Rule: nothing is recorded or heard that nobody has asked for, or that the wearer's configuration does not permit."""

from collections import Counter
from collections.abc import Callable, Iterable

from patrolink.emulator.scheduler import Scheduler

_KEY_MS = 15_000.0  # in which a device opens the microphone after its wearer has pressed a key
_OPEN_MAX_MS = 40_000.0  # ambient listening lasts 30 s, a press of a simulated wearer less


class ConsentRule:
    """A microphone opens for the wearer's key, or once for each request to listen, where site and device permit that.

    A clip of a dispatcher's recording needs a request, too.

    Args:
        scheduler: Virtual clock.
        violate: Records a violation: rule and text.
    """

    def __init__(self, scheduler: Scheduler, violate: Callable[[str, str], None]) -> None:
        self._scheduler, self._violate = scheduler, violate
        self._permitting: set[str] = set()
        self._pressed_ms: dict[str, float] = {}
        self._listening_requests: Counter[str] = Counter()
        self._recording_requests: Counter[str] = Counter()
        self._recordings: set[tuple[str, int]] = set()
        self._changes: Counter[str] = Counter()  # how often a microphone was opened or closed

    def permit_listening(self, devices: Iterable[str]) -> None:
        """Site and configuration permit ambient listening with these devices."""
        self._permitting.update(devices)

    def key_pressed(self, device: str) -> None:
        """A wearer has pressed a key to talk."""
        self._pressed_ms[device] = self._scheduler.now

    def listening_requested(self, device: str) -> None:
        """A dispatcher has asked to listen."""
        self._listening_requests[device] += 1

    def recording_requested(self, device: str) -> None:
        """A dispatcher has asked to record."""
        self._recording_requests[device] += 1

    def listening_refused(self, device: str) -> None:
        """The hub has refused a request to listen before it sent anything."""
        self._listening_requests[device] -= 1

    def recording_refused(self, device: str) -> None:
        """The hub has refused a request to record before it sent anything."""
        self._recording_requests[device] -= 1

    def microphone_opened(self, device: str) -> None:
        """A device has opened its microphone."""
        self._changes[device] += 1
        change = self._changes[device]
        self._scheduler.after(_OPEN_MAX_MS, lambda: self._check_end(device, change))
        pressed_ms = self._pressed_ms.get(device)
        if pressed_ms is not None and self._scheduler.now - pressed_ms <= _KEY_MS:
            return
        self._listening_requests[device] -= 1
        if device not in self._permitting:
            self._violate("consent", f"{device} opened its microphone without its wearer, which is not permitted")
        elif self._listening_requests[device] < 0:
            self._violate("consent", f"{device} opened its microphone without its wearer, and nobody asked for it")

    def microphone_closed(self, device: str) -> None:
        """A device has closed its microphone."""
        self._changes[device] += 1

    def _check_end(self, device: str, change: int) -> None:
        if self._changes[device] == change:
            self._violate("consent", f"the microphone of {device} has been open for {_OPEN_MAX_MS / 1000:.0f} s")

    def recorded(self, device: str, clip: int) -> None:
        """A device has announced a clip of a recording that a dispatcher has started, for the first time or again."""
        self._recordings.add((device, clip))
        if sum(name == device for name, _ in self._recordings) > self._recording_requests[device]:
            self._violate("consent", f"{device} recorded clip {clip} for a dispatcher, and nobody asked for it")
