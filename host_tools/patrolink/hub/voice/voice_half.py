"""Composition of the voice of a hub: floor control, relay, recorder, presence and terms of groups."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patrolink.hub.channel.ends import Channel
from patrolink.hub.config import HubContext
from patrolink.hub.infra.bar_list import BarList
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.tasks import run_until
from patrolink.hub.platform import Platform
from patrolink.hub.voice.dispatcher_terms import MembershipAnnouncer
from patrolink.hub.voice.floor_trace import FloorTrace
from patrolink.hub.voice.group_registry import GroupRegistry
from patrolink.hub.voice.group_terms import GroupTerms
from patrolink.hub.voice.service import VoiceService, VoiceSockets
from patrolink.hub.voice.service_link import ServiceLink
from patrolink.hub.voice.service_requests import ServiceRequests


class VoiceHalf:
    """The voice of a hub. It owns `groups.json`, `ssrc.json`, `burst.json`, `srtcp.json` and `addresses.json`.

    Args:
        context: The site and which of its hubs this is.
        platform: Time, randomness, network and helper processes.
        channel: The voice's end of the channel to the service.
        metrics: Metrics of the voice.
        pcap: File for a trace of the floor messages in plain text; None: no trace.

    Raises:
        UserError: An address is not available, or state cannot be read.
    """

    def __init__(
        self, context: HubContext, platform: Platform, channel: Channel, metrics: Metrics, pcap: Path | None = None
    ) -> None:
        clock, hub = platform.clock, context.hub
        self._channel = channel
        sockets = VoiceSockets(*(platform.bind_udp(hub.listen, port) for port in (hub.floor_port, hub.media_port)))
        self._trace = FloorTrace(pcap, clock, (sockets.floor.getsockname()[0], hub.floor_port)) if pcap else None
        context.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        link = ServiceLink(channel)
        self._terms = terms = GroupTerms(hub, context.owns_group, link, clock, metrics)
        announcer = MembershipAnnouncer(terms, link)
        bars = BarList(context.bars, context.keys)  # what is barred at the start; later, the service informs the voice
        registry = GroupRegistry(context, clock, platform.random_bytes, bars, announcer.announce)
        writer = platform.recording_writer(context.recordings)
        self._voice = VoiceService(context, sockets, writer, registry, terms, link, clock, metrics, self._trace)
        self._requests = ServiceRequests(channel, self._voice, terms, metrics)

    async def run(self, stop: "asyncio.Future[Any]", ready: Callable[[], None]) -> None:
        """Serve until `stop` is done.

        Args:
            stop: A future of the running loop.
            ready: Called when the floors are open.
        """
        async with contextlib.AsyncExitStack() as stack:
            if self._trace is not None:
                stack.callback(self._trace.close)
            stack.callback(self._voice.close)
            stack.push_async_callback(self._voice.recorder.close)
            self._voice.start()
            ready()
            jobs = [self._voice.run(), self._voice.store(), self._terms.run(), self._channel.run(self._requests)]
            await run_until(stop, jobs)
            with contextlib.suppress(OSError):  # addresses are learnt again
                self._voice.save()
