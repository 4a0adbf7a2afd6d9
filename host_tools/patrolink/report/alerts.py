"""Events and errors of devices, most urgent first, for the live view."""

from collections.abc import Iterator
from typing import NamedTuple

from patrolink.core.capture import Record
from patrolink.core.decoder import Row, rfc3339

# Each alert takes memory, and a device chooses its event ids.
_ALERTS_MAX = 256
_EMERGENCIES = ("sos", "man_down", "tamper")
_OPEN_PHASES = ("raised", "updated")
_FAILED_RESULTS = ("refused", "unsupported", "expired", "failed", "busy")


class Alert(NamedTuple):
    """One event, or one kind of error of a device.

    Args:
        time: time of day, UTC, hh:mm:ss.
        device: device id.
        kind: the event's kind ("sos", ...) or the message that tells of the error ("answer", "reject", "refused").
        state: the event's phase, the result or the reason.
        is_emergency: an SOS, a fall or an opened case that is not over.
        is_event: an event, not an error.
        order: number of the alert; later ones have higher numbers.
    """

    time: str
    device: str
    kind: str
    state: str
    is_emergency: bool
    is_event: bool
    order: int


class Alerts:
    """The latest state of every event and error. Bounded: the least urgent and oldest alert is dropped first."""

    def __init__(self) -> None:
        self._alerts: dict[tuple[str, str, str], Alert] = {}
        self._order = 0

    def add_rows(self, record: Record, rows: list[Row]) -> None:
        """Add the events and errors among the rows of a verified frame."""
        for row in rows:
            kind = row["record"]
            if kind == "event":
                time_ms = row["time_ms"] or record.time_ms
                self._add(time_ms, record.device, str(row["kind"]), str(row["phase"]), str(row["event_id"]))
            elif kind == "answer" and row["result"] in _FAILED_RESULTS:
                self._add(record.time_ms, record.device, kind, str(row["result"]))
            elif kind == "reject":
                self._add(record.time_ms, record.device, kind, str(row["reason"]))

    def add_refusal(self, record: Record, reason: str) -> None:
        """Add a frame that was not accepted; one alert stands for all with the same device and reason."""
        self._add(record.time_ms, record.device, "refused", reason)

    def _add(self, time_ms: int, device: str, kind: str, state: str, event_id: str = "") -> None:
        self._order += 1
        is_emergency = kind in _EMERGENCIES and state in _OPEN_PHASES
        clock = (rfc3339(time_ms) or "")[11:19]
        # The key of an event leaves its state out: a cancelled SOS replaces the raised one.
        key = (device, kind, event_id or state)
        self._alerts[key] = Alert(clock, device, kind, state, is_emergency, bool(event_id), self._order)
        if len(self._alerts) > _ALERTS_MAX:
            del self._alerts[max(self._alerts, key=lambda key: _urgency(self._alerts[key]))]

    def most_urgent(self, count: int) -> Iterator[Alert]:
        """Yield up to `count` alerts: emergencies, then other events, then errors; the latest first within each."""
        # A copy: the live view reads in another thread.
        yield from sorted(dict(self._alerts).values(), key=_urgency)[:count]

    def __len__(self) -> int:
        return len(self._alerts)


def _urgency(alert: Alert) -> tuple[bool, bool, int]:
    return not alert.is_emergency, not alert.is_event, -alert.order
