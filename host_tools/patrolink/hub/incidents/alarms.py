"""Open alarms: events of devices that a dispatcher has to handle. They are kept until resolved or cancelled."""

from pathlib import Path
from typing import Any

from patrolink_names import NAMES

from patrolink.core.decoder import Row
from patrolink.core.errors import UserError
from patrolink.hub.infra import persistence

STATES = {name: code for code, name in NAMES["event_state", "state"].items()}
_ENDED_PHASES = ("cancelled", "cleared")  # of an event, reported by the device
_CLOSING_STATES = ("resolved", "false_alarm")  # of an answer
_MAX_ALARMS = 1000


class Alarms:
    """The open alarms of a hub.

    Args:
        path: File that keeps them across restarts.

    Attributes:
        unsaved: True while storage fails. Each further change is an attempt to save.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unsaved = False
        self._rows: dict[tuple[str, int], Row] = {
            (row["device"], row["event_id"]): row for row in persistence.load_json(path) or []
        }

    def rows(self) -> list[Row]:
        """Return the open alarms, oldest first: the decoder's rows, with `taken_by` (None: no dispatcher yet)."""
        return list(self._rows.values())

    def report(self, row: Row) -> Row:
        """Process an event row of a device, and return it with the dispatcher who handles it."""
        key = row["device"], row["event_id"]
        known = self._rows.get(key)
        if row["phase"] in _ENDED_PHASES:
            if self._rows.pop(key, None) is not None:
                self._save()
            return row
        if not row["ack_wanted"]:
            return row
        row = {**row, "taken_by": known["taken_by"] if known else None}
        if row != known or self.unsaved:
            self._rows[key] = row
            while len(self._rows) > _MAX_ALARMS:
                del self._rows[next(iter(self._rows))]
            self._save()
        return row

    def answer(self, device: str, event_id: int, who: str, state: str) -> Row:
        """Set the state of an alarm on behalf of a dispatcher.

        Args:
            device: Id of the device that raised the alarm.
            event_id: Id of the event.
            who: Name of the dispatcher.
            state: State of `event_state`, for example "accepted" or "resolved".

        Returns:
            The alarm's row, with phase "cleared" if the state closes it.

        Raises:
            UserError: The alarm is not open, or the state does not exist.
        """
        row = self._rows.get((device, event_id))
        if row is None:
            raise UserError(
                f"no open event {event_id} of {device}: it was resolved, or cancelled by the wearer; reload the alarms"
            )
        if state not in STATES:
            raise UserError(f"no event state {state!r}; use one of {', '.join(STATES)}")
        row = {**row, "taken_by": who}
        if state in _CLOSING_STATES:
            del self._rows[device, event_id]
            row["phase"] = "cleared"
        else:
            self._rows[device, event_id] = row
        self._save()
        return row

    def _save(self) -> None:
        try:
            persistence.save_json(self._path, self.rows())
            self.unsaved = False
        except OSError:  # dispatchers see the alarm nevertheless
            self.unsaved = True


def event_state(event_id: int, state: str, unix_ms: int, who: str) -> dict[str, Any]:
    """Return the fields of the `event_state` message that informs the wearer."""
    return {"event_id": event_id, "state": STATES[state], "time_ms": unix_ms, "who": who.encode()}
