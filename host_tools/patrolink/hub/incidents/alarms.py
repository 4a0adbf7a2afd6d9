"""Open alarms: events of devices that a dispatcher has to handle. They are kept until resolved or cancelled."""

from pathlib import Path
from typing import Any, NamedTuple

from patrolink_names import NAMES

from patrolink.core.decoder import Row
from patrolink.core.errors import UserError
from patrolink.hub.infra import persistence

STATES = {name: code for code, name in NAMES["event_state", "state"].items()}
_ENDED_PHASES = ("cancelled", "cleared")  # of an event, reported by the device
_BY_WEARER = "cancelled"  # state of an answer, in place of one of a dispatcher
_CLOSING_STATES = ("resolved", "false_alarm", _BY_WEARER)
# Limits per device, so that no device can displace an alarm of another one.
_OPEN_MAX = 20
_ANSWERS_MAX = 20

_Key = tuple[str, int]


class Answer(NamedTuple):
    """The last answer of a dispatcher to an event, or the end of an event by the wearer.

    Attributes:
        state: State of `event_state`, for example "accepted" or "resolved"; "cancelled" by the wearer.
        time_ms: Unix time of the answer.
        who: Name of the dispatcher.
        event_ms: Unix time of the event; None if the device did not know it.
    """

    state: str
    time_ms: int
    who: str
    event_ms: int | None = None


class Alarms:
    """The open alarms of a hub, and the last answers to events.

    Args:
        path: File that keeps them across restarts.

    Attributes:
        unsaved: True while storage fails. Each further change is an attempt to save.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unsaved = False
        document = persistence.load_json(path) or {"open": [], "answers": []}
        self._rows: dict[_Key, Row] = {(row["device"], row["event_id"]): row for row in document["open"]}
        self._answers: dict[_Key, Answer] = {
            (device, event_id): Answer(*answer) for device, event_id, *answer in document["answers"]
        }

    def rows(self) -> list[Row]:
        """Return the open alarms, oldest first: the decoder's rows, with `taken_by` (None: no dispatcher yet)."""
        return list(self._rows.values())

    def last_answer(self, device: str, event_id: int) -> Answer | None:
        """Return the last answer of a dispatcher to an event; None if no dispatcher has answered it."""
        answer = self._answers.get((device, event_id))
        return None if answer is None or answer.state == _BY_WEARER else answer

    def is_known(self, row: Row) -> bool:
        """Return True if the event of a row is open or was closed."""
        return (row["device"], row["event_id"]) in self._rows or self.is_closed(row)

    def is_same(self, row: Row) -> bool:
        """Return True if the event of a row, with this time, is open or was closed."""
        known = self._rows.get((row["device"], row["event_id"]))
        return self.is_closed(row) if known is None else bool(known["time_ms"] == row["time_ms"])

    def is_closed(self, row: Row) -> bool:
        """Return True if a dispatcher or the wearer has closed the event of a row.

        A device that lost its storage uses event ids again: only an event with the same time is the same event. Without
        a time, only a repeated frame is.
        """
        answer = self._answers.get((row["device"], row["event_id"]))
        if answer is None or answer.state not in _CLOSING_STATES:
            return False
        if answer.event_ms is None:
            return row["time_ms"] is None and row.get("repeated", False)
        return bool(answer.event_ms == row["time_ms"])

    def report(self, row: Row) -> Row:
        """Process an event row of a device, and return it with the dispatcher who handles it."""
        key = row["device"], row["event_id"]
        known = self._rows.get(key)
        if row["phase"] in _ENDED_PHASES:
            if known is not None:
                del self._rows[key]
                self._put_answer(key, Answer(_BY_WEARER, row["time_ms"] or 0, "", known["time_ms"]))
                self._save()
            return row
        if not row["ack_wanted"]:
            return row
        if known is not None and row["phase"] == "raised" and row["time_ms"] != known["time_ms"]:
            known = None  # another event: a device that lost its storage uses event ids again
        if known is None:
            self._answers.pop(key, None)  # of an earlier event with the same id
        row = {**row, "taken_by": known["taken_by"] if known else None}
        if row != known or self.unsaved:
            self._rows[key] = row
            _drop_oldest(self._rows, key[0], _OPEN_MAX)
            self._save()
        return row

    def answer(self, device: str, event_id: int, answer: Answer) -> Row:
        """Set the state of an alarm on behalf of a dispatcher.

        Args:
            device: Id of the device that raised the alarm.
            event_id: Id of the event.
            answer: The answer.

        Returns:
            The alarm's row, with phase "cleared" if the state closes it.

        Raises:
            UserError: The alarm is not open, or the state does not exist.
        """
        key = device, event_id
        row = self._rows.get(key)
        if row is None:
            raise UserError(
                f"no open event {event_id} of {device}: it was resolved, or cancelled by the wearer; reload the alarms"
            )
        if answer.state not in STATES:
            raise UserError(f"no event state {answer.state!r}; use one of {', '.join(STATES)}")
        row = {**row, "taken_by": answer.who}
        if answer.state in _CLOSING_STATES:
            del self._rows[key]
            row["phase"] = "cleared"
        else:
            self._rows[key] = row
        self._put_answer(key, answer._replace(event_ms=row["time_ms"]))
        self._save()
        return row

    def _put_answer(self, key: _Key, answer: Answer) -> None:
        self._answers.pop(key, None)  # the newest is the last
        self._answers[key] = answer
        _drop_oldest(self._answers, key[0], _ANSWERS_MAX)

    def retry_save(self) -> bool:
        """Save if storage failed before. Returns True if everything is on storage."""
        if self.unsaved:
            self._save()
        return not self.unsaved

    def _save(self) -> None:
        answers = [[*key, *answer] for key, answer in self._answers.items()]
        try:
            persistence.save_json(self._path, {"open": self.rows(), "answers": answers})
            self.unsaved = False
        except OSError:  # dispatchers see the alarm nevertheless
            self.unsaved = True


def _drop_oldest(entries: dict[_Key, Any], device: str, limit: int) -> None:
    """Remove the oldest entries of a device beyond its limit."""
    own = [key for key in entries if key[0] == device]
    for key in own[:-limit]:
        del entries[key]


def event_state(event_id: int, state: str, unix_ms: int, who: str) -> dict[str, Any]:
    """Return the fields of the `event_state` message that informs the wearer."""
    return {"event_id": event_id, "state": STATES[state], "time_ms": unix_ms, "who": who.encode()}
