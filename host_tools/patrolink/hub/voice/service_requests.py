"""What the voice takes from the service: facts about devices, and requests of dispatchers. A Handler of the channel."""

import asyncio
from collections import deque

from patrolink_protocol import group_report

from patrolink.core.errors import UserError
from patrolink.hub.channel import messages as m
from patrolink.hub.channel.ends import Channel
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.group_terms import GroupTerms
from patrolink.hub.voice.service import VoiceService

_CHANGE_INTERVAL_S, _MEMBER_S = 1, 0.005  # between two changes of groups, and for each member of a new one
_MAX_CHANGES = 10
_ROWS_PER_TURN = 32  # of the state; voice has its turn in between


class ServiceRequests:
    """Handler of the voice's end."""

    def __init__(self, channel: Channel, voice: VoiceService, terms: GroupTerms, metrics: Metrics) -> None:
        self._channel, self._voice, self._terms, self._metrics = channel, voice, terms, metrics
        self._connections = 0
        self._state: asyncio.Task[None] | None = None
        self._changes: deque[m.MakeGroup | m.EndGroup] = deque()
        self._changing: asyncio.Task[None] | None = None
        self._completing: asyncio.Task[None] | None = None

    def connected(self) -> None:
        """Send the state of all groups; see Handler."""
        self._connections += 1
        if self._connections > 1:
            self._metrics.counts["service_restarts"] += 1
        self._state = asyncio.ensure_future(self._send_state())
        self._terms.connected()

    async def _send_state(self) -> None:
        for i, number in enumerate(self._voice.group_numbers()):
            row = self._voice.group(number)
            if row is not None:  # otherwise the group has ended meanwhile
                self._channel.send(m.GroupState(row))
            if i % _ROWS_PER_TURN == 0:
                await self._channel.drain()
        self._channel.send(m.StateSent())

    def disconnected(self) -> None:
        """Let all dispatchers leave; see Handler."""
        if self._state is not None:
            self._state.cancel()
        self._changes.clear()
        self._terms.disconnected()
        self._voice.leave_all()

    def received(self, message: m.Message) -> None:
        """Process a message of the service; see Handler."""
        if isinstance(message, m.FrameReceived):
            device = self._voice.device(message.device)
            if device is not None:
                self._terms.frame_received(device, message.is_hello)
        elif isinstance(message, m.GroupReport):
            self._group_report(message)
        elif isinstance(message, m.KeyEpoch):
            self._voice.rekey(message.device, message.epoch)
        elif isinstance(message, m.BarredDevices):
            self._voice.set_barred(message.devices)
            self._completing = asyncio.ensure_future(self._complete(self._completing))
        elif isinstance(message, m.Leave):
            self._voice.leave(message.session, message.group)
        elif isinstance(message, m.Join):
            self._channel.send(self._join(message))
        elif isinstance(message, (m.MakeGroup, m.EndGroup)):
            self._queue_change(message)
        elif isinstance(message, m.ReadMetrics):
            self._channel.send(m.MetricsRead(message.request, vars(self._metrics.snapshot())))

    def _group_report(self, message: m.GroupReport) -> None:
        device = self._voice.device(message.device)
        try:
            entries = group_report.unpack_entries(message.groups)
        except ValueError:
            self._metrics.refused["report of groups"] += 1
            return
        if device is not None:
            self._terms.report_received(device, message.room, entries)

    def _join(self, message: m.Join) -> m.Reply:
        address = message.media_host, message.media_port
        try:
            terms = self._voice.join(message.session, message.name, message.priority, message.group, address)
        except (UserError, OSError) as e:
            return self._failed(message.request, e)
        return m.Joined(
            message.request, terms.ssrc, terms.hub_ssrc, terms.mcptt_id, terms.session_key,
            terms.group_key.number, terms.group_key.secret,
        )  # fmt: skip

    def _failed(self, request: int, error: UserError | OSError) -> m.Failed:
        if isinstance(error, UserError):
            return m.Failed(request, str(error), is_storage=False)
        self._metrics.counts["storage_failed"] += 1
        return m.Failed(request, error.strerror or str(error), is_storage=True)

    # --- changes of groups --------------------------------------------------------------------------------------------

    def _queue_change(self, message: m.MakeGroup | m.EndGroup) -> None:
        """Make or end a group, one after the other: each writes all groups to storage and informs all its members."""
        if len(self._changes) >= _MAX_CHANGES:
            error = f"{_MAX_CHANGES} changes of groups are waiting already; retry in a minute"
            self._channel.send(m.Failed(message.request, error, is_storage=False))
            return
        self._changes.append(message)
        if self._changing is None or self._changing.done():
            self._changing = asyncio.ensure_future(self._change_all())

    async def _change_all(self) -> None:
        """Carry out the changes that wait, with a pause after each that its announcements need."""
        while self._changes:
            message, connection = self._changes.popleft(), self._connections
            reply = await self._change(message)
            if connection == self._connections:  # otherwise another service has its own numbers of requests
                self._channel.send(reply)
            members = len(message.devices) if isinstance(message, m.MakeGroup) else 0
            await asyncio.sleep(_CHANGE_INTERVAL_S + members * _MEMBER_S)

    async def _change(self, message: m.MakeGroup | m.EndGroup) -> m.Reply:
        try:
            if isinstance(message, m.MakeGroup):
                return m.Done(message.request, await self._voice.make_group(message.name, message.devices))
            await self._voice.end_group(message.group)
        except (UserError, OSError) as e:
            return self._failed(message.request, e)
        return m.Done(message.request)

    # --- barred devices -----------------------------------------------------------------------------------------------

    async def _complete(self, previous: "asyncio.Task[None] | None") -> None:
        if previous is not None:
            await asyncio.wait([previous])
        await self._voice.complete_changes()
