"""Rules about SOS: each reaches a dispatcher, and its answer reaches the wearer."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from patrolink_names import NAMES

from patrolink.emulator.scheduler import Scheduler

CLOSED_STATE = next(code for code, name in NAMES["event_state", "state"].items() if name == "resolved")

Key = tuple[str, int]


@dataclass
class SosLife:
    """An SOS from the button to the wearer.

    Attributes:
        raised_ms: When its frame was stored on the device.
        dispatchers: Dispatchers who were shown it.
        taken_by: Dispatcher who answered it last.
        shown_while_full: Whether the hub's storage was full when it was shown or answered.
        closed: Whether a dispatcher has closed it.
        closed_while_full: Whether the hub's storage was full then: the hub may forget it.
        is_answer_unknown: Whether the hub was killed while a dispatcher answered it: its state may be a later one.
        is_stored: Whether the storage of the device has it. Storage that is full keeps it in memory only.
        is_forgotten: Whether the device has lost it with its memory.
        shown_state: Newest state that the wearer was shown.
    """

    raised_ms: float
    dispatchers: set[str] = field(default_factory=set)
    taken_by: str | None = None
    shown_while_full: bool = False
    closed: bool = False
    closed_while_full: bool = False
    is_answer_unknown: bool = False
    is_stored: bool = True
    is_forgotten: bool = False
    shown_state: int = 0

    @property
    def is_closed(self) -> bool:
        """Whether a dispatcher has closed it. What the wearer was shown counts if nobody else saw it."""
        return self.closed or (self.is_answer_unknown and self.shown_state >= CLOSED_STATE)


class SosRules:
    """Follows each SOS.

    Args:
        scheduler: Virtual clock.
        violate: Records a violation: rule and text.
        trace: Adds an event to the trace.
        sums: Counts for the report.
        is_storage_full: Returns whether the hub's storage is full.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        violate: Callable[[str, str], None],
        trace: Callable[..., None],
        sums: Counter[str],
        is_storage_full: Callable[[], bool],
    ) -> None:
        self._scheduler, self._violate, self._trace = scheduler, violate, trace
        self._sums, self._is_storage_full = sums, is_storage_full
        self._lives: dict[Key, SosLife] = {}

    # --- the device ---------------------------------------------------------------------------------------------------

    def raised(self, device: str, event_id: int, is_stored: bool) -> None:
        """A device has accepted an SOS, on storage or in memory."""
        self._sums["sos"] += 1
        self._trace("sos", device, event_id)
        self._lives[device, event_id] = SosLife(self._scheduler.now, is_stored=is_stored)

    def memory_lost(self, device: str) -> None:
        """A device has lost its power, or was reset."""
        for (name, _), life in self._lives.items():
            if name == device and not life.is_stored:
                life.is_forgotten = True

    def shown_to_wearer(self, device: str, event_id: int, state: int) -> None:
        """The wearer was shown a state of an SOS."""
        life = self._lives.get((device, event_id))
        self._trace("wearer", device, event_id, state)
        if life is not None:
            life.shown_state = max(life.shown_state, state)

    # --- dispatchers --------------------------------------------------------------------------------------------------

    def shown_to_dispatcher(self, dispatcher: str, device: str, event_id: int, phase: str) -> None:
        """A dispatcher was shown an event that is open. A hub whose storage was full may forget that it was closed."""
        life = self._lives.get((device, event_id))
        self._trace("shown", dispatcher, device, event_id, phase)
        if life is None:
            self._violate("replay", f"{dispatcher} was shown event {event_id} of {device}, which nobody raised")
        elif life.closed and phase == "raised" and not life.closed_while_full:
            self._violate("replay", f"{dispatcher} was shown event {event_id} of {device} again after it was closed")
        else:
            if not life.dispatchers:
                self._sums["sos_seen"] += 1
            life.dispatchers.add(dispatcher)
            life.shown_while_full |= self._is_storage_full()

    def check_snapshot(self, alarms: list[dict[str, Any]]) -> None:
        """Check what a dispatcher who has just connected sees: every open alarm that was shown, and who has it."""
        rows = {(row["device"], row["event_id"]): row for row in alarms}
        for key, life in self._lives.items():
            if life.closed or not life.dispatchers or life.shown_while_full or life.is_answer_unknown:
                continue
            row = rows.get(key)
            if row is None:
                self._violate("alarm lost", f"SOS {key[1]} of {key[0]} is open, and the hub does not list it")
            elif life.taken_by is not None and row["taken_by"] != life.taken_by:
                self._violate("alarm lost", f"SOS {key[1]} of {key[0]} is listed without {life.taken_by}, who has it")

    def answered(self, dispatcher: str, device: str, event_id: int, closes: bool) -> None:
        """A dispatcher has set a state of an SOS."""
        life = self._lives.get((device, event_id))
        if life is not None:
            life.taken_by = dispatcher
            life.shown_while_full |= self._is_storage_full()
            life.closed |= closes
            life.closed_while_full |= closes and self._is_storage_full()

    def answer_refused(self, device: str, event_id: int, reason: str) -> None:
        """The hub has refused an answer to an SOS. It may do so once somebody has closed the SOS."""
        life = self._lives.get((device, event_id))
        if life is not None and not life.closed:
            self._violate("sos answer", f"an answer to SOS {event_id} of {device} was refused: {reason}")

    def answer_lost(self, device: str, event_id: int) -> None:
        """The hub was killed while a dispatcher answered an SOS."""
        life = self._lives.get((device, event_id))
        if life is not None:
            life.is_answer_unknown = True

    # --- the end ------------------------------------------------------------------------------------------------------

    def unanswered(self) -> list[Key]:
        """Return each SOS that was closed, and whose end its wearer has not been shown."""
        return [
            key
            for key, life in self._lives.items()
            if life.closed and life.shown_state < CLOSED_STATE and not life.is_forgotten
        ]

    def are_closed(self) -> bool:
        """Return whether every SOS was closed and its wearer knows; see `check`."""
        return all(
            life.is_forgotten or (life.is_closed and life.shown_state >= CLOSED_STATE) for life in self._lives.values()
        )

    def check(self) -> None:
        """Check at the end that every SOS was seen and closed, and that its wearer knows."""
        for (device, event_id), life in self._lives.items():
            if life.is_forgotten:
                self._sums["sos_forgotten"] += 1
            elif not life.dispatchers:
                self._violate("sos", f"no dispatcher was shown SOS {event_id} of {device}")
            elif not life.is_closed:
                self._violate("sos", f"SOS {event_id} of {device} was never closed")
            elif life.shown_state < CLOSED_STATE:
                self._violate("sos answer", f"the wearer of {device} was not shown the end of SOS {event_id}")
            else:
                self._sums["sos_closed"] += 1
