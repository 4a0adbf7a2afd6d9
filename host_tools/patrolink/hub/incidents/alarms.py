"""Events of devices that a person has to take: kept, over restarts, until they are resolved or withdrawn."""

from pathlib import Path
from typing import Any

from patrolink_names import NAMES

from patrolink.core.decoder import Row
from patrolink.core.errors import UserError
from patrolink.hub.infra import persistence

STATES = {name: code for code, name in NAMES["event_state", "state"].items()}
_OVER = ("cancelled", "cleared")
_CLOSING = ("resolved", "false_alarm")
_MOST = 1000


class Alarms:
    """
    path     of the file that keeps them
    unsaved  storage refuses, so that they are not kept; it is tried again with each event
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unsaved = False
        self._rows: dict[tuple[str, int], Row] = {
            (row["device"], row["event_id"]): row for row in persistence.load_json(path) or []
        }

    def rows(self) -> list[Row]:
        """Return what is open, oldest first: the decoder's rows, and `taken_by` where a dispatcher has it."""
        return list(self._rows.values())

    def take(self, row: Row) -> Row:
        """Take an event as a device tells it; return it with who has it."""
        key = row["device"], row["event_id"]
        before = self._rows.get(key)
        if row["phase"] in _OVER:
            if self._rows.pop(key, None) is not None:
                self._save()
            return row
        if not row["ack_wanted"]:
            return row
        row = {**row, "taken_by": before["taken_by"] if before else None}
        if row != before or self.unsaved:
            self._rows[key] = row
            while len(self._rows) > _MOST:
                del self._rows[next(iter(self._rows))]
            self._save()
        return row

    def answer(self, device: str, event_id: int, who: str, how: str) -> Row:
        """Have somebody accept, resolve, ... an event; return its row, with phase `cleared` when that closes it."""
        row = self._rows.get((device, event_id))
        if row is None:
            raise UserError(
                f"no open event {event_id} of {device}; somebody has resolved it, or the wearer withdrew it"
            )
        if how not in STATES:
            raise UserError(f"no state {how!r} of an event; there are {', '.join(STATES)}")
        row = {**row, "taken_by": who}
        if how in _CLOSING:
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
        except OSError:  # who has to see it sees it
            self.unsaved = True


def event_state(event_id: int, how: str, now_ms: int, who: str) -> dict[str, Any]:
    """Return the message that tells the wearer."""
    return {"event_id": event_id, "state": STATES[how], "time_ms": now_ms, "who": who.encode()}
