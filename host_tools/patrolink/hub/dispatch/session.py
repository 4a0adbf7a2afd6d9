"""A dispatcher's session: what one dispatcher may see and do at a hub.

A session is used on the hub's event loop; no method blocks. Its queue delivers a VoiceFrame, a LiveFrame, or a
dictionary for JSON whose `type` is

    floor      a group's floor has changed: a row of `groups`
    counts     packets of the bursts in progress, once a second: groups, a list of group, packets, lost
    granted    the dispatcher may talk: group, duration_ms
    queued     the request waits: group, position
    denied     the request was denied: group, cause, text
    revoked    the dispatcher must stop talking: group, cause, text
    released   the dispatcher's burst or request has ended: group
    group      a group was created or has changed: a row of `groups`
    gone       a group has ended: group
    position   a device's newest fix: a row of `positions`
    event      an SOS or another event of a device, or its new state: a row of `alarms`
    answer     a device's answer to a command: the decoder's row
    recording  a burst was recorded: a row of `recordings`
    clip       a clip was announced or has changed: a row of `clips`
    clip gone  a clip was deleted: device, clip
    signer     a device signs its clips with a new key: device, signer
    live       a live view was requested, has started, has other watchers, or has ended: a row of `live`
    campaign   an update campaign has changed: a row of `updates` without its targets
    update     a device of an update campaign has changed: a row of its targets
    barred     a device was barred or admitted again: device, barred, who, reason
    warning    a device floods the hub or has a double: device, warning, text
    lost       the reader was too slow: count of messages that were dropped
"""

from pathlib import Path
from typing import Any

from patrolink_protocol import mcptt

from patrolink.core.errors import UserError
from patrolink.hub.config import Dispatcher
from patrolink.hub.dispatch.message_queue import MessageQueue
from patrolink.hub.dispatch.messages import LiveFormat
from patrolink.hub.dispatch.ports import SessionPorts
from patrolink.hub.dispatch.request_limits import RequestLimits

Row = dict[str, Any]
_UPDATE_TARGETS_MAX = 500


class DispatcherSession:
    """One dispatcher at the hub, until `close`.

    Methods raise UserError for a group or device that does not exist, and for what the dispatcher may not do. Actions
    are recorded in the audit log before they are carried out; emergency calls and answers to events do not wait for it.

    Args:
        dispatcher: Name and priority.
        ports: Interfaces of the hub.
        limits: Limits of the dispatcher's requests.

    Attributes:
        queue: Messages to the dispatcher.
        limits: Charged for each request of a client.
    """

    def __init__(self, dispatcher: Dispatcher, ports: SessionPorts, limits: RequestLimits) -> None:
        self.name, self.limits = dispatcher.name, limits
        self.queue = MessageQueue(dispatcher.name)
        self._priority = dispatcher.priority
        self._ports = ports
        self._voice = ports.voice.open(dispatcher, self.queue)
        self._closed = False
        ports.broadcaster.add(self.queue)

    def close(self) -> None:
        """End the session. The dispatcher leaves all groups and live views."""
        if not self._closed:
            self._closed = True
            self._voice.close()
            self._ports.broadcaster.remove(self.queue)
            self._ports.live.leave(self.queue)

    def snapshot(self) -> Row:
        """Return the current state of the hub: lists of groups, alarms, positions, recordings and live views.

        A group has group, name, kind (standing, dynamic, private), codec, rank, members (names), the fields of
        `floor_status`, now_ms (on the clock of since_ms and ends_ms), and packets and lost of the burst in progress.
        """
        return {
            "groups": self._ports.floor.groups(),
            "alarms": self._ports.alarms.alarms(),
            "positions": self._ports.positions.rows(),
            "recordings": self.recordings(),
            "live": self._ports.live.rows(),
        }

    # --- recordings and clips -----------------------------------------------------------------------------------------

    def recordings(self, group: int | None = None, limit: int = 100) -> list[Row]:
        """Return recorded bursts, newest first: id, group, talker, start (RFC 3339), duration_ms, packets, lost, ..."""
        return self._ports.recordings.newest(group, limit)

    def recording(self, name: str) -> Path:
        """Return the sound file of a recording by its id. The replay is audited."""
        path = self._ports.recordings.path(name)
        self._ports.audit.write(self.name, "replay", recording=name)
        return path

    def clips(self, limit: int = 200) -> list[Row] | None:
        """Return clips, newest first; None if this hub takes no clips. The access is logged.

        A clip has device, clip, trigger, event, time_ms, duration_ms, state (told, coming, here, missing), bytes,
        bytes_here, verdict, findings, kept, and picture (True if it can be shown).
        """
        if self._ports.clip_feed is None or self._ports.clip_access is None:
            return None
        self._ports.clip_access.record(self.name, "listed")
        return self._ports.clip_feed.newest(limit)

    def preserve_clip(self, device: str, clip: int) -> int:
        """Exempt a clip from retention at the hub and at the device, and return the command's id."""
        if self._ports.clip_access is None:
            raise UserError("this hub takes no clips; set `uploads` in the site file's [[hub]]")
        self._ports.clip_access.record(self.name, "preserved", device=device, clip=clip)
        self._ports.clip_access.preserve(device, clip)
        return self._ports.commands.command(self.name, device, "preserve_clip", clip)

    def updates(self) -> list[Row] | None:
        """Return update campaigns, newest first; None if another hub has them.

        A campaign has campaign, campaign_state, campaign_reason, who, firmware_version, devices, update_states, and
        targets: device, update_state, update_reason and others of its first devices.
        """
        return self._ports.updates.rows(_UPDATE_TARGETS_MAX) if self._ports.updates else None

    # --- listen and talk ----------------------------------------------------------------------------------------------

    async def listen(self, group: int) -> None:
        """Join a group and receive its voice from now on."""
        await self._voice.join(group)

    def leave(self, group: int) -> None:
        """Leave a group. The floor is released if the dispatcher holds it."""
        self._voice.leave(group)

    async def request_floor(
        self, group: int, priority: int | None = None, emergency: bool = False, broadcast: bool = False
    ) -> None:
        """Request the floor of a group, which is joined first. `granted`, `queued` or `denied` follows.

        Args:
            group: Number of the group.
            priority: At most the dispatcher's own, which is the default.
            emergency: Request an emergency call.
            broadcast: Request a broadcast call, which nobody else may interrupt except in an emergency.
        """
        participation = await self._voice.join(group)
        indicator = mcptt.EMERGENCY if emergency else mcptt.BROADCAST if broadcast else mcptt.NORMAL
        record = self._ports.audit.defer if emergency else self._ports.audit.write
        record(self.name, "press", group=group, emergency=emergency, broadcast=broadcast)
        requested = self._priority if priority is None else min(priority, self._priority)
        participation.request(requested, indicator)

    def release_floor(self, group: int) -> None:
        """Release the floor of a group, or withdraw the request."""
        participation = self._voice.participation(group)
        if participation is not None:
            participation.release()

    def send_audio(self, group: int, alaw: bytes) -> bool:
        """Talk: 1 to 480 bytes of A-law at 8 kHz, preferably 160 (20 ms). Returns False without the floor."""
        participation = self._voice.participation(group)
        return participation is not None and participation.send_audio(alaw)

    # --- groups and devices -------------------------------------------------------------------------------------------

    async def make_group(self, name: str, devices: list[str]) -> int:
        """Create a dynamic group of devices and return its number. The devices are informed at once."""
        self._ports.audit.write(self.name, "make_group", name=name, devices=devices)
        group = await self._ports.floor.make_group(name, devices)
        self._ports.audit.defer(self.name, "group_made", group=group, name=name)
        return group

    async def end_group(self, group: int) -> None:
        """End a dynamic group. Its devices are informed."""
        self._ports.audit.write(self.name, "end_group", group=group)
        await self._ports.floor.end_group(group)

    def private_group(self, device: str) -> int:
        """Return the number of a device's private group. A floor request there is a private call."""
        return self._ports.floor.private_group(device)

    def answer_event(self, device: str, event_id: int, state: str) -> None:
        """Set the state of an event (`accepted`, `resolved`, ... of `event_state`), and inform the wearer."""
        self._ports.alarms.answer_event(self.name, device, event_id, state)

    def command(self, device: str, action: str, number: int | None = None, name: str = "", value: str = "") -> int:
        """Send a command of the schema (`locate`, `stun`, ...) and return its id. `answer` follows.

        Ambient listening and live view have methods of their own: `listen_in` and `live_start`.
        """
        return self._ports.commands.command(self.name, device, action, number, name, value)

    async def listen_in(self, device: str, reason: str) -> int:
        """Have a device open its microphone to its private group, join that group, and return the command's id.

        The device lights its indicator. UserError unless the site permits ambient listening.

        Args:
            device: Id of the device.
            reason: Why, for the audit log.
        """
        command = self._ports.commands.listen_in(self.name, device, reason)
        await self.listen(self._ports.floor.private_group(device))
        return command

    # --- live view ----------------------------------------------------------------------------------------------------

    def live_start(self, device: str, seconds: int, live_format: LiveFormat) -> int:
        """Start to watch a device's camera, and return the view's id. The device lights its indicator.

        If another dispatcher watches the device already, that view is shared and ends at its own time.
        """
        return self._ports.live.start(self.queue, device, seconds, live_format)

    def live_stop(self, device: str) -> None:
        """Stop watching a device. The device stops when no dispatcher watches."""
        self._ports.live.stop(self.queue, device)
