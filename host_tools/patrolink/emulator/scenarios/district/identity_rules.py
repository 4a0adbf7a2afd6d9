"""Rules about key epochs of devices, and about copies of devices, which have the id and the key of the original."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable

from patrolink.emulator.scheduler import Scheduler

ALARM_MS = 60_000  # from the sign of a copy at the hub to the warning at a dispatcher
_WARNED_MS = 600_000  # a hub warns of a device once in this time
_WINDOW_MS = 60_000  # in which packets that come from two boards in turn are a sign of a copy
_ALTERNATIONS = 8
_FOLLOW_MS = 5000  # from the first frame of a key epoch, or the start of the hub, until all of the hub knows the epoch
_CONNECTED_MS = 10_000  # after the start of the hub, in which dispatchers connect


class IdentityRules:
    """Key epochs and copies of the devices of a district.

    A frame belongs to a key epoch by its counter, which a device never uses again in a later epoch.

    Args:
        scheduler: Virtual clock.
        violate: Records a violation: rule and text.
    """

    def __init__(self, scheduler: Scheduler, violate: Callable[[str, str], None]) -> None:
        self._scheduler, self._violate = scheduler, violate
        self._first: dict[str, list[int]] = {}  # first frame counter of each later key epoch
        self._accepted: dict[str, int] = {}  # newest epoch of which the hub has accepted a frame
        self._accepted_ms: dict[str, float] = {}  # when it accepted the first one
        self._of_copies: dict[str, set[int]] = {}  # counters that copies have used
        self._copied_ms: dict[str, float] = {}  # when the newest copy of a device was made
        self._compared: dict[str, dict[int, bytes]] = {}  # frames that this life of the hub has accepted, by counter
        self._senders: dict[str, deque[tuple[float, object]]] = {}  # of a copied device's packets, when they took turns
        self._signs_ms: dict[str, float] = {}  # first sign of a copy that no dispatcher was warned of
        self._warned_ms: dict[str, float] = {}
        self._hub_started_ms = 0.0

    # --- key epochs ---------------------------------------------------------------------------------------------------

    def epoch_begun(self, device: str, first_counter: int) -> None:
        """A device was given its next key epoch.

        Args:
            device: The device.
            first_counter: All counters of the epoch are at least this.
        """
        self._first.setdefault(device, []).append(first_counter)
        self._copied_ms.pop(device, None)  # a copy has the key of the epoch before, and shows no sign any more
        self._forget_signs(device)

    def is_epoch_known(self, device: str) -> bool:
        """Return whether the hub has accepted a frame of the newest epoch of a device."""
        return self._accepted.get(device, 0) == len(self._first.get(device, ()))

    def settled_epoch(self, device: str) -> int | None:
        """Return the key epoch that all of the hub must know of a device; None while it follows, or starts."""
        known_ms = max(self._hub_started_ms, self._accepted_ms.get(device, 0.0))
        return self._accepted.get(device, 0) if self._scheduler.now - known_ms > _FOLLOW_MS else None

    # --- copies -------------------------------------------------------------------------------------------------------

    def copied(self, device: str) -> None:
        """A copy of a device begins to send."""
        self._copied_ms[device] = self._scheduler.now
        self._of_copies.setdefault(device, set())

    def copy_ended(self, device: str) -> None:
        """The copy of a device does not send any more."""
        self._copied_ms.pop(device, None)
        self._senders.pop(device, None)

    def was_copied(self, device: str) -> bool:
        """Return whether there was a copy of a device: numbers of the device may have been used twice."""
        return device in self._of_copies

    def frame_of_copy(self, device: str, counter: int) -> None:
        """A copy of a device has published a frame."""
        self._of_copies[device].add(counter)

    def is_shared(self, device: str, counter: int) -> bool:
        """Return whether a copy has used a frame counter of a device."""
        return counter in self._of_copies.get(device, ())

    # --- what the hub does --------------------------------------------------------------------------------------------

    def hub_started(self) -> None:
        """The hub has started: it knows no earlier frames and packets, and may have lost a sign of a copy."""
        self._hub_started_ms = self._scheduler.now
        self._compared.clear()
        self._senders.clear()
        self._signs_ms.clear()
        self._warned_ms.clear()

    def frame_accepted(self, device: str, counter: int, digest: bytes, repeated: bool) -> None:
        """The hub has accepted a frame as new, or as a repetition."""
        if device in self._copied_ms:
            known = self._compared.setdefault(device, {})
            if not repeated:
                known[counter] = digest
            elif known.get(counter, digest) != digest:
                self._sign(device)
        if self.is_shared(device, counter):
            return
        epoch = bisect_right(self._first.get(device, []), counter)
        newest = self._accepted.get(device, 0)
        if epoch < newest:
            self._violate(
                "old key", f"the hub took frame {counter} of {device} under key epoch {epoch} after {newest} had begun"
            )
        elif epoch > newest:
            self._accepted[device], self._accepted_ms[device] = epoch, self._scheduler.now

    def packet_arrived(self, device: str, board: object) -> None:
        """An SRTCP packet of a board has arrived at the hub. It is authentic unless the board has an old key."""
        if device not in self._copied_ms:
            return
        senders = self._senders.setdefault(device, deque(maxlen=_ALTERNATIONS))
        if senders and senders[-1][1] is board:
            return
        senders.append((self._scheduler.now, board))
        if len(senders) == _ALTERNATIONS and self._scheduler.now - senders[0][0] < _WINDOW_MS:
            self._sign(device)

    def _sign(self, device: str) -> None:
        if self._scheduler.now - self._hub_started_ms < _CONNECTED_MS:
            return
        if self._scheduler.now - self._warned_ms.get(device, -_WARNED_MS) >= _WARNED_MS:
            self._signs_ms.setdefault(device, self._scheduler.now)

    def _forget_signs(self, device: str) -> None:
        for table in (self._compared, self._senders, self._signs_ms):
            table.pop(device, None)

    def warned(self, device: str) -> None:
        """A dispatcher was warned of a copy of a device."""
        if not self.was_copied(device):
            self._violate("copy", f"a dispatcher was warned of a copy of {device}, of which there is none")
        self._warned_ms[device] = self._scheduler.now
        self._signs_ms.pop(device, None)

    def check(self, exempt: set[str]) -> None:
        """Check that each sign of a copy was followed by a warning.

        Args:
            exempt: Devices that may show signs which the hub ignores.
        """
        for device, since_ms in list(self._signs_ms.items()):
            if device in exempt:
                del self._signs_ms[device]
            elif self._scheduler.now - since_ms > ALARM_MS:
                self._violate("copy", f"no dispatcher was warned of the copy of {device} for {ALARM_MS / 1000:.0f} s")
                del self._signs_ms[device]
