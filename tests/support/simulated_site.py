"""A whole site in the test's process on virtual time: the hub, its broker and network, and clients of devices.

    site = SimulatedSite(tmp_path, site_text(groups), names)
    device = DeviceClient("vest-1", site)
    device.send_hello()
    site.run_until(lambda: device.memberships)

Real are the hub (`patrolink.hub.app.Hub`), its HTTP servers and all protocols. A test never waits: `run_until` and
`run_for` advance the clock.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from patrolink.emulator.network.site_broker import SiteBroker
from patrolink.emulator.virtual_platform import Machine, VirtualPlatform
from patrolink.hub.app import Hub
from patrolink.hub.config import HubContext
from patrolink.hub.dispatch.session import DispatcherSession

from tests.support.simulated_network import SimulatedNetwork
from tests.support.site_file import SITE_TEMPLATE, write_site

FLOOR_PORT, MEDIA_PORT, LIVE_PORT, CONSOLE_PORT, UPLOAD_PORT = 5004, 5006, 5008, 8080, 8081
CONSOLE_URL = f"http://127.0.0.1:{CONSOLE_PORT}"


def site_text(groups: str, top: str = "", hub: str = "") -> str:
    """Return a site file of one hub.

    Args:
        groups: Groups and dispatchers.
        top: Lines for the top level.
        hub: Lines for `[[hub]]`.
    """
    ports = FLOOR_PORT, MEDIA_PORT
    return SITE_TEMPLATE.format(url="mqtt://broker", ports=ports, top=top, hub=hub, groups=groups)


class SimulatedSite(SimulatedNetwork):
    """A hub that runs, and everything around it. It is the `device_client.Network` of its devices.

    Args:
        folder: Folder of the site.
        text: The site file; see `site_text`.
        names: Names of the devices.
        pcap: File for a trace of the floor messages, or None.

    Attributes:
        broker: The broker.
        hub: The hub as a process.
    """

    def __init__(self, folder: Path, text: str, names, pcap: Path | None = None) -> None:
        super().__init__()
        self.folder = folder
        write_site(folder, text, names)
        self.broker = SiteBroker(self.scheduler, "site", self.on_uplink, _nothing, _nothing, self.unix_ms)
        machine = Machine(self.clock, random.Random(1), self.broker, self.udp, self.tcp)
        self.hub = SimulatedHub(self, folder / "site.toml", machine, pcap)
        self.hub.start()

    def on_uplink(self, device: str, payload: bytes) -> None:
        """Observe a frame that a device publishes."""

    def close(self) -> None:
        """Stop the hub and end everything; no exception may have been left unhandled."""
        self.hub.stop()
        super().close()

    def open_session(self, name: str, on_frame: Callable[[bytes], None]) -> "BrokerSession":
        """Return a session of a device with the broker."""
        return BrokerSession(self.broker, name, on_frame)

    def open_console(self, name: str = "duty") -> DispatcherSession:
        """Return a new session of a dispatcher, without HTTP."""
        dispatchers = self.hub.context.site.dispatcher
        return self.hub.serving.open_session(next(each for each in dispatchers if each.name == name))


class SimulatedHub:
    """The hub of a site as a process, with the interface of `hub_process.HubProcess`.

    Attributes:
        ready: The hub's addresses.
        counts: The hub's counts, after `stop`.
    """

    def __init__(self, site: SimulatedSite, path: Path, machine: Machine, pcap: Path | None) -> None:
        self._site, self._path, self._machine, self._pcap = site, path, machine, pcap
        self.ready: dict[str, Any] = {}
        self.counts: dict[str, Any] = {}
        self._hub: Hub | None = None

    @property
    def serving(self) -> Hub:
        """The hub that runs."""
        assert self._hub is not None, "the hub does not run"
        return self._hub

    def start(self) -> None:
        """Start the hub and wait until it serves.

        Raises:
            UserError: It cannot start.
        """
        self.context = HubContext(self._path)
        self._loop = self._site.new_loop()
        self._platform = VirtualPlatform(self._machine, self._loop, _deliver)
        self._stop = self._loop.create_future()
        self.ready = {}
        self._ending = self._loop.create_task(self._run())
        self._site.run_until(lambda: self.ready or self._ending.done())
        if self._ending.done():
            self._ending.result()

    async def _run(self) -> None:
        self._hub = Hub(self.context, self._platform, self._pcap)
        await self._hub.run(self._stop, self.ready.update)

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start a coroutine in the hub's process."""
        return self._loop.create_task(coroutine)

    def status(self) -> dict[str, Any]:
        """Return the counts of the hub."""
        return self.serving.status()

    def stop(self) -> dict[str, Any]:
        """Stop the hub, if it runs, as SIGTERM does, and return its counts."""
        if self._hub is not None:
            self._stop.set_result(None)
            self._site.run_until(self._ending.done)
            self._ending.result()
            self.counts = self.status()
            self._platform.end()
            self._hub = None
        return self.counts

    def kill(self) -> None:
        """Kill the hub, if it runs, as SIGKILL does."""
        if self._hub is not None:
            self._site.kill(self._loop)
            self._platform.end()
            self._hub = None


class BrokerSession:
    """Clean session of a device with the broker.

    Args:
        broker: The broker.
        name: Name of the device.
        on_frame: Called with each frame to the device.
    """

    def __init__(self, broker: SiteBroker, name: str, on_frame: Callable[[bytes], None]) -> None:
        self._broker, self.device = broker, name
        self._subscription = _Subscription(name, on_frame)
        self.subscribe()

    def subscribe(self) -> None:
        """Receive frames."""
        self._broker.sessions[self.device] = self._subscription

    def unsubscribe(self) -> None:
        """Lose frames to the device."""
        self._broker.forget(self._subscription)

    close = unsubscribe

    def publish(self, data: bytes, retain: bool = False) -> None:
        """Publish a frame of the device."""
        self._broker.inject(self.device, data)


class _Subscription:
    """A device's end in the broker (`virtual_broker._Session`)."""

    subscribed = True

    def __init__(self, device: str, on_frame: Callable[[bytes], None]) -> None:
        self.device, self._on_frame = device, on_frame

    def publish(self, payload: bytes, retained: bool) -> None:
        """Deliver a frame."""
        self._on_frame(payload)


def _deliver(on_record, record) -> None:
    on_record(record)


def _nothing(*_) -> None:
    """Observe nothing."""
