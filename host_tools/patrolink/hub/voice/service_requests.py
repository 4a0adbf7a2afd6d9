"""What the voice takes from the service: facts about devices, and requests of dispatchers. A Handler of the channel."""

import asyncio
from collections import deque
from collections.abc import Callable

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
        self._change_timer: asyncio.TimerHandle | None = None

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
        elif isinstance(message, m.Leave):
            self._voice.leave(message.session, message.group)
        elif isinstance(message, m.Join):
            self._reply(message.request, lambda: self._join(message))
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

    def _reply(self, request: int, action: Callable[[], m.Reply]) -> None:
        try:
            reply = action()
        except UserError as e:
            reply = m.Failed(request, str(e), is_storage=False)
        except OSError as e:
            self._metrics.counts["storage_failed"] += 1
            reply = m.Failed(request, e.strerror or str(e), is_storage=True)
        self._channel.send(reply)

    def _join(self, message: m.Join) -> m.Joined:
        address = message.media_host, message.media_port
        terms = self._voice.join(message.session, message.name, message.priority, message.group, address)
        return m.Joined(
            message.request, terms.ssrc, terms.hub_ssrc, terms.mcptt_id, terms.session_key,
            terms.group_key.number, terms.group_key.secret,
        )  # fmt: skip

    # --- changes of groups --------------------------------------------------------------------------------------------

    def _queue_change(self, message: m.MakeGroup | m.EndGroup) -> None:
        """Make or end a group, one after the other: each writes all groups to storage and informs all its members."""
        if len(self._changes) >= _MAX_CHANGES:
            error = f"{_MAX_CHANGES} changes of groups are waiting already; retry in a minute"
            self._channel.send(m.Failed(message.request, error, is_storage=False))
            return
        self._changes.append(message)
        if self._change_timer is None:
            self._next_change()

    def _next_change(self) -> None:
        self._change_timer = None
        if self._changes:
            message = self._changes.popleft()
            self._reply(message.request, lambda: self._change(message))
            members = len(message.devices) if isinstance(message, m.MakeGroup) else 0
            wait_s = _CHANGE_INTERVAL_S + members * _MEMBER_S
            self._change_timer = asyncio.get_running_loop().call_later(wait_s, self._next_change)

    def _change(self, message: m.MakeGroup | m.EndGroup) -> m.Done:
        if isinstance(message, m.MakeGroup):
            return m.Done(message.request, self._voice.make_group(message.name, message.devices))
        self._voice.end_group(message.group)
        return m.Done(message.request)
