"""What the service takes from the voice: messages for devices and dispatchers, and replies."""

import asyncio
from collections.abc import Iterable

from patrolink.hub.channel import messages as m
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.dispatch.voice_client import VoiceClients
from patrolink.hub.dispatch.voice_receiver import VoiceReceiver
from patrolink.hub.group_table import GroupTable
from patrolink.hub.incidents.device_warnings import DeviceWarnings
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.device_keys import DeviceKeys
from patrolink.hub.infra.device_sender import DeviceSender
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.recordings import Recordings
from patrolink.hub.voice_proxy import VoiceProxy


class VoiceEvents:
    """Handler of the service's end."""

    def __init__(
        self,
        voice: VoiceProxy,
        table: GroupTable,
        clients: VoiceClients,
        receiver: VoiceReceiver,
        recordings: Recordings,
        keys: DeviceKeys,
        bars: Iterable[str],
        sender: DeviceSender,
        dispatchers: Broadcaster,
        warnings: DeviceWarnings,
        metrics: Metrics,
    ) -> None:
        self._voice, self._table, self._clients, self._receiver = voice, table, clients, receiver
        self._recordings, self._keys, self._bars, self._sender = recordings, keys, bars, sender
        self._dispatchers, self._warnings, self._metrics = dispatchers, warnings, metrics
        self._is_ready = asyncio.Event()

    async def wait_ready(self) -> None:
        """Wait until the voice has sent its state for the first time."""
        await self._is_ready.wait()

    def connected(self) -> None:
        """Send the service's state, and expect that of the voice; see Handler."""
        self._table.begin_state()
        self._voice.connected(self._keys.begun_epochs(), self._bars)

    def disconnected(self) -> None:
        """End the bursts and requests of dispatchers; see Handler."""
        self._voice.disconnected()
        self._clients.voice_lost()

    def received(self, message: m.Message) -> None:
        """Process a message of the voice; see Handler."""
        if isinstance(message, m.GroupState):
            self._table.update(message.row)
        elif isinstance(message, m.Notice):
            self._notice(message.message)
        elif isinstance(message, m.BurstCounts):
            groups = [{"group": group, "packets": packets, "lost": lost} for group, packets, lost in message.rows]
            for row in groups:
                self._table.count(**row)
            self._dispatchers.broadcast({"type": "counts", "groups": groups})
        elif isinstance(message, m.DeviceMessage):
            self._sender.send(message.device, message.kind, message.values)
        elif isinstance(message, m.CloneSuspected):
            self._warnings.warn(message.device, "clone", sign="two addresses")
        elif isinstance(message, m.GroupKeyChanged):
            self._receiver.group_key_changed(message.group, GroupKey(message.number, message.secret))
        elif isinstance(message, m.StateSent):
            self._state_received()
        elif isinstance(message, (m.Joined, m.Done, m.MetricsRead, m.Failed)):
            self._voice.replied(message)

    def _state_received(self) -> None:
        messages = self._table.end_state()
        if self._is_ready.is_set():
            self._metrics.counts["voice_restarts"] += 1
            for message in messages:
                self._forward(message)
        self._is_ready.set()
        self._clients.voice_restored()

    def _notice(self, message: dict[str, object]) -> None:
        if message["type"] in ("floor", "group"):
            self._table.update({name: value for name, value in message.items() if name != "type"})
        elif message["type"] == "recording":
            self._recordings.add({name: value for name, value in message.items() if name != "type"})
        self._forward(message)

    def _forward(self, message: dict[str, object]) -> None:
        if message["type"] == "gone":
            number = message["group"]
            assert isinstance(number, int)
            self._table.remove(number)
            self._receiver.group_ended(number)
        self._dispatchers.broadcast(message)
