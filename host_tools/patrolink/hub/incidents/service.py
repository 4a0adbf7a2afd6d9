"""Life of an event at the hub: reported by a device, shown to dispatchers, answered to the wearer."""

from patrolink_messages import EVENT_STATE

from patrolink.core.clock import Clock
from patrolink.core.decoder import Row
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.incidents.alarms import Alarms, event_state
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.device_sender import DeviceSender
from patrolink.hub.infra.metrics import Metrics


class IncidentService:
    """Incidents of a hub."""

    def __init__(
        self,
        alarms: Alarms,
        sender: DeviceSender,
        dispatchers: Broadcaster,
        audit: AuditLog,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._alarms, self._sender, self._dispatchers = alarms, sender, dispatchers
        self._audit, self._clock, self._metrics = audit, clock, metrics

    def alarms(self) -> list[Row]:
        """Return the open alarms; see Alarms.rows."""
        return self._alarms.rows()

    def event_received(self, row: Row) -> None:
        """Show an event of a device to all dispatchers, and acknowledge it once it is on storage."""
        row = self._alarms.report(row)
        self._dispatchers.broadcast({"type": "event", **row})
        if self._alarms.unsaved:
            self._metrics.counts["storage_failed"] += 1  # without an acknowledgement, the device repeats the event
        elif row["ack_wanted"]:
            self._sender.acknowledge_event(row["device"], row["event_id"])

    def answer_event(self, who: str, device: str, event_id: int, state: str) -> None:
        """Accept, resolve, ... an event on behalf of a dispatcher, and inform the wearer and all dispatchers.

        Raises:
            UserError: The event is not open, the state does not exist, or the audit log cannot be written.
        """
        row = self._alarms.answer(device, event_id, who, state)
        self._audit.write(who, "answer_event", device=device, event=event_id, state=state)
        self._sender.send(device, EVENT_STATE, event_state(event_id, state, self._clock.unix_ms(), who))
        self._dispatchers.broadcast({"type": "event", **row})
