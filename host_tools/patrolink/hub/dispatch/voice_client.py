"""A dispatcher's session as a push-to-talk participant: its connection to the hub's voice, and its groups.

It speaks to the hub's floor and media sockets as a device does. Voice arrives at the VoiceReceiver, for all sessions.
"""

import asyncio
import functools
import itertools
from collections.abc import Callable

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.hub.config import Dispatcher, HubConfig
from patrolink.hub.dispatch.hub_link import HubLink, local_host
from patrolink.hub.dispatch.message_queue import MessageQueue
from patrolink.hub.dispatch.participation import GroupParticipation
from patrolink.hub.dispatch.ports import FloorPort
from patrolink.hub.dispatch.voice_receiver import VoiceReceiver
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.udp import UdpSocket
from patrolink.hub.voice.dispatcher_terms import DispatcherTerms
from patrolink.hub.voice_proxy import VoiceUnavailableError

_KEEPALIVE_S = 15


class VoiceClients:
    """Opens the voice clients of dispatchers' sessions.

    Args:
        config: The hub's addresses.
        floor: Groups and memberships.
        receiver: Receives voice for all clients.
        bind_udp: Returns a bound socket.
    """

    def __init__(
        self,
        config: HubConfig,
        floor: FloorPort,
        receiver: VoiceReceiver,
        bind_udp: Callable[[str, int], UdpSocket],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config, self._floor, self._receiver, self._bind_udp = config, floor, receiver, bind_udp
        self._clock, self._metrics = clock, metrics
        self._sessions = itertools.count(1)
        self._clients: set[VoiceClient] = set()

    def open(self, dispatcher: Dispatcher, queue: MessageQueue) -> "VoiceClient":
        """Return the client of a session, which has to be closed. The queue gets voice and floor events."""
        client = VoiceClient(
            next(self._sessions), dispatcher, self._open_link, self._floor, self._receiver, self._clients.discard,
            queue, self._clock, self._metrics,
        )  # fmt: skip
        self._clients.add(client)
        return client

    def voice_lost(self) -> None:
        """End all participations: the voice of the hub has ended."""
        for client in self._clients:
            client.voice_lost()

    def voice_restored(self) -> None:
        """Join the groups again that were left when the voice ended."""
        for client in self._clients:
            client.voice_restored()

    def _open_link(self, on_floor: Callable[[bytearray, int, int], None]) -> HubLink:
        sock = self._bind_udp(local_host(self._config), 0)
        return HubLink(sock, self._config, on_floor, self._clock, self._metrics)


class VoiceClient:
    """The participations of one dispatcher's session.

    Args:
        session: Number of the session.
        open_link: Returns a connection to the hub; see HubLink for the argument.
        on_close: Called with the client when it is closed.
        queue: Gets voice and floor events.
    """

    def __init__(
        self,
        session: int,
        dispatcher: Dispatcher,
        open_link: Callable[[Callable[[bytearray, int, int], None]], HubLink],
        floor: FloorPort,
        receiver: VoiceReceiver,
        on_close: "Callable[[VoiceClient], None]",
        queue: MessageQueue,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._session, self._dispatcher, self._open_link = session, dispatcher, open_link
        self._floor, self._receiver, self._on_close, self._queue = floor, receiver, on_close, queue
        self._clock, self._metrics = clock, metrics
        self._link: HubLink | None = None
        self._participations: dict[int, GroupParticipation] = {}
        self._by_hub_ssrc: dict[int, GroupParticipation] = {}
        self._keepalive: asyncio.TimerHandle | None = None
        self._lost_groups: list[int] = []  # that were left when the voice ended
        self._rejoining: asyncio.Task[None] | None = None

    def participation(self, number: int) -> GroupParticipation | None:
        """Return the participation in a group; None if the session has not joined it."""
        return self._participations.get(number)

    async def join(self, number: int) -> GroupParticipation:
        """Join a group, unless the session has joined it already. Its voice arrives from now on.

        Raises:
            UserError: The hub has no such group.
            OSError: Storage failed.
        """
        known = self._participations.get(number)
        if known is not None:
            return known
        name, priority = self._dispatcher.name, self._dispatcher.priority
        joining = asyncio.ensure_future(self._floor.join(self._session, name, priority, number, self._receiver.address))
        try:
            terms = await asyncio.shield(joining)
        except asyncio.CancelledError:
            joining.add_done_callback(functools.partial(self._on_late_join, number))
            raise
        return self._add(number, terms)

    def _add(self, number: int, terms: DispatcherTerms) -> GroupParticipation:
        if self._link is None:
            self._link = self._open_link(self._on_floor)
        self._link.use_key(terms.session_key)
        participation = GroupParticipation(
            number, terms, self._link, self._receiver, self._forget, self._queue, self._clock, self._metrics
        )
        self._participations[number] = self._by_hub_ssrc[terms.hub_ssrc] = participation
        self._receiver.add(number, terms.group_key, participation)
        self._send_keepalive()  # the hub answers with the state of the floor
        return participation

    def _on_late_join(self, number: int, joining: "asyncio.Future[DispatcherTerms]") -> None:
        """Leave a group that was joined when the dispatcher had gone."""
        if not joining.cancelled() and joining.exception() is None:
            self._floor.leave(self._session, number)

    def leave(self, number: int) -> None:
        """Leave a group, if the session has joined it. The floor is released if the dispatcher holds it."""
        if number in self._lost_groups:
            self._lost_groups.remove(number)
        participation = self._participations.get(number)
        if participation is not None:
            self._forget(number)
            self._receiver.remove(number, participation)
            self._floor.leave(self._session, number)

    def close(self) -> None:
        """Leave all groups."""
        self._on_close(self)
        if self._rejoining is not None:
            self._rejoining.cancel()
        for number in list(self._participations):
            self.leave(number)

    def voice_lost(self) -> None:
        """End all participations: the voice of the hub has ended."""
        for number, participation in list(self._participations.items()):
            participation.interrupt()
            self._forget(number)
            self._receiver.remove(number, participation)
            self._lost_groups.append(number)

    def voice_restored(self) -> None:
        """Join the groups again that were left when the voice ended."""
        if self._rejoining is not None:
            self._rejoining.cancel()
        if self._lost_groups:
            self._rejoining = asyncio.ensure_future(self._rejoin())

    async def _rejoin(self) -> None:
        while self._lost_groups:
            number = self._lost_groups[0]
            try:
                await self.join(number)
            except VoiceUnavailableError:
                return  # until the voice is restored again
            except (UserError, OSError):  # the group has ended
                self._metrics.refused["rejoin"] += 1
            if number in self._lost_groups:
                self._lost_groups.remove(number)

    def _forget(self, number: int) -> None:
        participation = self._participations.pop(number)
        participation.close()
        self._by_hub_ssrc = {ssrc: known for ssrc, known in self._by_hub_ssrc.items() if known is not participation}
        if not self._participations and self._link is not None:
            self._link.close()
            self._link = None

    def _send_keepalive(self) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()
        participation = next(iter(self._participations.values()), None)
        if participation is None or self._link is None:
            return
        self._link.send_keepalive(participation.ssrc)
        self._keepalive = asyncio.get_running_loop().call_later(_KEEPALIVE_S, self._send_keepalive)

    def _on_floor(self, buf: bytearray, n: int, index: int) -> None:
        participation = self._by_hub_ssrc.get(int.from_bytes(buf[4:8], "big"))
        if participation is not None:
            participation.receive(buf, n, index)
