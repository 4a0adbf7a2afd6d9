"""Life of an event at the hub: reported by a device, shown to dispatchers, answered to the wearer."""

from collections.abc import Container

from patrolink_messages import EVENT_STATE

from patrolink.core.clock import Clock
from patrolink.core.decoder import Row
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.incidents.alarms import Alarms, Answer, event_state
from patrolink.hub.incidents.device_warnings import DeviceWarnings
from patrolink.hub.incidents.event_limits import EventLimits
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.device_sender import DeviceSender
from patrolink.hub.infra.metrics import Metrics


class IncidentService:
    """Incidents of a hub.

    An SOS of a barred device is shown, marked as such, and answered: its wearer may be in need, or may have found it.

    Args:
        bars: Ids of barred devices.
    """

    def __init__(
        self,
        alarms: Alarms,
        bars: Container[str],
        sender: DeviceSender,
        dispatchers: Broadcaster,
        warnings: DeviceWarnings,
        audit: AuditLog,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._alarms, self._bars, self._sender = alarms, bars, sender
        self._dispatchers, self._warnings = dispatchers, warnings
        self._audit, self._clock, self._metrics = audit, clock, metrics
        self._limits = EventLimits()

    def alarms(self) -> list[Row]:
        """Return the open alarms; see Alarms.rows."""
        return self._alarms.rows()

    def event_received(self, row: Row) -> None:
        """Show an event of a device to all dispatchers, and acknowledge it once it is on storage.

        An event that was closed before, such as one that the broker retained, is not opened again. An event beyond the
        device's limits is refused; its device repeats it.
        """
        if self._alarms.is_closed(row):
            self.event_repeated(row)
            return
        if not self._limits.admit_event(row, self._clock.monotonic_ms()):
            self._refuse(row)
            return
        if row["device"] in self._bars:
            row = {**row, "barred": True}
        row = self._alarms.report(row)
        self._dispatchers.broadcast({"type": "event", **row})
        if self._alarms.unsaved:
            self._metrics.counts["storage_failed"] += 1  # without an acknowledgement, the device repeats the event
        elif row["ack_wanted"]:
            self._answer(row["device"], row["event_id"])

    def event_repeated(self, row: Row) -> None:
        """Answer an event again: the device repeats it because the answer was lost. Nothing else changes.

        An event that this hub does not know was lost with its storage: it is processed as a new one, unless its counter
        is below the replay window. An SOS that is open for longer is known.
        """
        if not row["ack_wanted"]:
            return
        if row.get("expired") and not self._alarms.is_same(row):
            self._metrics.refused["frame replay"] += 1
        elif not self._alarms.is_known(row):
            self.event_received(row)
        elif not self._limits.admit_repetition(row["device"], self._clock.monotonic_ms()):
            self._refuse(row)
        elif self._alarms.retry_save():
            self._metrics.counts["events_repeated"] += 1
            self._answer(row["device"], row["event_id"])

    def _refuse(self, row: Row) -> None:
        self._metrics.refused["event rate"] += 1
        self._warnings.warn(row["device"], "flood", message="event", kind=row["kind"])

    def retry_save(self) -> None:
        """Save alarms if storage failed before."""
        self._alarms.retry_save()

    def _answer(self, device: str, event_id: int) -> None:
        """Send the current state of an event: that of the last answer, else `received`."""
        answer = self._alarms.last_answer(device, event_id)
        if answer is None:
            self._sender.acknowledge_event(device, event_id)
        else:
            self._send_state(device, event_id, answer)

    def _send_state(self, device: str, event_id: int, answer: Answer) -> None:
        """Inform the wearer of an answer. Who holds a barred device learns no name."""
        who = "" if device in self._bars else answer.who
        self._sender.send(device, EVENT_STATE, event_state(event_id, answer.state, answer.time_ms, who))

    def answer_event(self, who: str, device: str, event_id: int, state: str) -> None:
        """Accept, resolve, ... an event on behalf of a dispatcher, and inform the wearer and all dispatchers.

        While storage fails, the answer reaches the wearer nevertheless, and is stored and audited later.

        Raises:
            UserError: The event is not open, or the state does not exist.
        """
        now_ms = self._clock.unix_ms()
        answer = Answer(state, now_ms, who)
        row = self._alarms.answer(device, event_id, answer)
        self._audit.defer(who, "answer_event", device=device, event=event_id, state=state)
        self._send_state(device, event_id, answer)
        self._dispatchers.broadcast({"type": "event", **row})
