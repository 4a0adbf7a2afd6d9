"""A hub in one process: voice and service on one event loop, with a channel in memory."""

import asyncio
from pathlib import Path
from typing import Any

from patrolink.hub.channel.memory import MemoryChannel
from patrolink.hub.config import Dispatcher, HubContext
from patrolink.hub.dispatch.session import DispatcherSession
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.platform import Platform
from patrolink.hub.service_half import Ready, ServiceHalf
from patrolink.hub.voice.voice_half import VoiceHalf


class Hub:
    """A hub of a site in one process, for simulations. `patrolink hub` runs the halves as two processes.

    Args:
        context: The site and which of its hubs this is.
        platform: Time, randomness, network and helper processes.
        pcap: File for a trace of the floor messages in plain text; None: no trace.

    Attributes:
        metrics: Counters and gauges of the service.
    """

    def __init__(self, context: HubContext, platform: Platform, pcap: Path | None = None) -> None:
        self._context = context
        voice, service = MemoryChannel().ends
        self.metrics, self._voice_metrics = Metrics(), Metrics()
        self._voice = VoiceHalf(context, platform, voice, self._voice_metrics, pcap)
        self._service = ServiceHalf(context, platform, service, self.metrics)

    async def run(self, stop: "asyncio.Future[Any]", ready: Ready) -> None:
        """Serve until `stop` is done.

        Args:
            stop: A future of the running loop.
            ready: Called with the hub's addresses and sizes when everything is running.

        Raises:
            UserError: An address is not available, the broker cannot be reached, or TLS is required.
        """
        stop_voice = asyncio.get_running_loop().create_future()
        voice = asyncio.ensure_future(self._voice.run(stop_voice, _nothing))
        ending = asyncio.ensure_future(asyncio.wait([stop, voice], return_when=asyncio.FIRST_COMPLETED))
        try:
            await self._service.run(ending, ready)
        finally:
            ending.cancel()
            stop_voice.set_result(None)
            await voice

    def open_session(self, dispatcher: Dispatcher) -> DispatcherSession:
        """Return a new session of a dispatcher of the site, which the caller has to close."""
        return self._service.open_session(dispatcher)

    def status(self) -> dict[str, Any]:
        """Return the counts of the hub as JSON-ready data."""
        metrics = self.metrics.snapshot().merged(self._voice_metrics.snapshot())
        return {"site": self._context.site.name, "shard": self._context.hub.shard, **metrics.summary()}


def _nothing() -> None:
    pass
