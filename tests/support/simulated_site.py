"""A whole site in the test's process on virtual time: the hub, its broker and network, and clients of devices.

    site = SimulatedSite(tmp_path, simulated_site.SITE.format(...), names)
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

import aiohttp
from patrolink.emulator.network.site_broker import SiteBroker
from patrolink.emulator.network.virtual_tcp import StreamTransport, TcpExchange
from patrolink.emulator.network.virtual_udp import HubSocket, UdpExchange
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.virtual_loop import VirtualLoop, dispose
from patrolink.emulator.virtual_platform import Machine, VirtualClock, VirtualPlatform
from patrolink.hub.app import Hub
from patrolink.hub.config import HubContext
from patrolink.hub.dispatch.session import DispatcherSession

from tests.support.site_file import SITE_TEMPLATE, write_site

START_MS = 1_795_000_000_000  # 2026-11-18T11:06:40Z
FLOOR_PORT, MEDIA_PORT, LIVE_PORT, CONSOLE_PORT, UPLOAD_PORT = 5004, 5006, 5008, 8080, 8081
CONSOLE_URL = f"http://127.0.0.1:{CONSOLE_PORT}"
_STEP_MS = 5
_TIMEOUT_S = 120  # virtual
_LOOPBACK = "127.0.0.1"


def site_text(groups: str, top: str = "", hub: str = "") -> str:
    """Return a site file of one hub.

    Args:
        groups: Groups and dispatchers.
        top: Lines for the top level.
        hub: Lines for `[[hub]]`.
    """
    ports = FLOOR_PORT, MEDIA_PORT
    return SITE_TEMPLATE.format(url="mqtt://broker", ports=ports, top=top, hub=hub, groups=groups)


class SimulatedSite:
    """A hub that runs, and everything around it. It is the `device_client.Network` of its devices.

    Args:
        folder: Folder of the site.
        text: The site file; see `site_text`.
        names: Names of the devices.

    Attributes:
        scheduler: The virtual clock.
        clock: Clock of the hub's machine, which may jump.
        broker: The broker.
        hub: The hub as a process.
    """

    def __init__(self, folder: Path, text: str, names) -> None:
        self.folder, self.scheduler = folder, Scheduler()
        write_site(folder, text, names)
        self.broker = SiteBroker(self.scheduler, "site", _nothing, _nothing, _nothing, self.unix_ms)
        self.udp, self.tcp = UdpExchange(_nothing), TcpExchange()
        self.clock = VirtualClock(self.scheduler, self.unix_ms)
        self.errors: list[str] = []  # exceptions that nobody has handled
        self._clients = VirtualLoop(self.scheduler, self._on_exception)
        self._devices: list[Any] = []
        machine = Machine(self.clock, random.Random(1), self.broker, self.udp, self.tcp)
        self.hub = SimulatedHub(self, folder / "site.toml", machine)
        self.hub.start()

    def _on_exception(self, context: dict[str, Any]) -> None:
        self.errors.append(f"{context['message']}: {context.get('exception')!r}")

    def new_loop(self) -> VirtualLoop:
        """Return the event loop of a new process."""
        return VirtualLoop(self.scheduler, self._on_exception)

    def close(self) -> None:
        """End everything, and check that no exception was left unhandled."""
        self.udp.close()
        dispose([*self.hub.loops, self._clients])
        assert self.errors == []

    # --- time ---------------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Return milliseconds since the start."""
        return int(self.scheduler.now)

    def unix_ms(self) -> int:
        """Return the true time of day in milliseconds."""
        return START_MS + int(self.scheduler.now)

    def _step(self, ms: float = _STEP_MS) -> None:
        self.scheduler.run_until(self.scheduler.now + ms)
        for device in self._devices:
            device.process()

    def run_until(self, condition: Callable[[], Any], seconds: float = _TIMEOUT_S) -> Any:
        """Let time pass until `condition()` is true, and return its value.

        Raises:
            AssertionError: It was not true in time.
        """
        deadline_ms = self.now_ms() + 1000 * seconds
        while not (value := condition()):
            assert self.now_ms() < deadline_ms, f"not after {seconds} s; unhandled: {self.errors}"
            self._step()
        return value

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        end_ms = self.scheduler.now + 1000 * seconds
        while self.scheduler.now < end_ms:
            self._step(min(_STEP_MS, end_ms - self.scheduler.now))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine of a client to its end, and return its result."""
        task = self._clients.create_task(coroutine)
        self.run_until(task.done)
        return task.result()

    # --- devices ------------------------------------------------------------------------------------------------------

    def udp_socket(self) -> HubSocket:
        """Return a socket with an address on loopback."""
        return self.udp.bind(_LOOPBACK, 0)

    def open_session(self, name: str, on_frame: Callable[[bytes], None]) -> "BrokerSession":
        """Return a session of a device with the broker."""
        return BrokerSession(self.broker, name, on_frame)

    def wait(self, clients) -> None:
        """Let a short time pass."""
        self._step()

    def add_device(self, device: Any) -> Any:
        """Call `device.process()` whenever time has passed, and return the device."""
        self._devices.append(device)
        return device

    # --- dispatchers --------------------------------------------------------------------------------------------------

    def open_console(self, name: str = "duty") -> DispatcherSession:
        """Return a new session of a dispatcher, without HTTP."""
        dispatchers = self.hub.context.site.dispatcher
        return self.hub.serving.open_session(next(each for each in dispatchers if each.name == name))

    def connector(self) -> aiohttp.BaseConnector:
        """Return a connector for HTTP clients that `run` runs."""
        return VirtualConnector(self.tcp)

    def http_request(self, method: str, path: str, body: Any = None, port: int = CONSOLE_PORT, **headers: str):
        """Send one HTTP request with a JSON body, and return status, headers and text of the response."""

        async def request():
            base = f"http://{_LOOPBACK}:{port}"
            fields = {"Origin": base, **{name.replace("_", "-"): value for name, value in headers.items()}}
            async with (
                aiohttp.ClientSession(connector=self.connector(), cookie_jar=aiohttp.DummyCookieJar()) as http,
                http.request(method, base + path, json=body, headers=fields, allow_redirects=False) as response,
            ):
                return response.status, response.headers, (await response.read()).decode(errors="replace")

        return self.run(request())


class SimulatedHub:
    """The hub of a site as a process, with the interface of `hub_process.HubProcess`.

    Attributes:
        ready: The hub's addresses.
        counts: The hub's counts, after `stop`.
        loops: Event loops of all its lives.
    """

    def __init__(self, site: SimulatedSite, path: Path, machine: Machine) -> None:
        self._site, self._path, self._machine = site, path, machine
        self.loops: list[VirtualLoop] = []
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
        self.loops.append(self._loop)
        self._platform = VirtualPlatform(self._machine, self._loop, _deliver)
        self._stop = self._loop.create_future()
        self.ready = {}
        self._ending = self._loop.create_task(self._run())
        self._site.run_until(lambda: self.ready or self._ending.done())
        if self._ending.done():
            self._ending.result()

    async def _run(self) -> None:
        self._hub = Hub(self.context, self._platform)
        await self._hub.run(self._stop, self.ready.update)

    def status(self) -> dict[str, Any]:
        """Return the counts of the hub."""
        return self.serving.status()

    def stop(self) -> dict[str, Any]:
        """Stop the hub as SIGTERM does, and return its counts."""
        self._stop.set_result(None)
        self._site.run_until(self._ending.done)
        self._ending.result()
        self.counts = self.status()
        self._end()
        return self.counts

    def kill(self) -> None:
        """Kill the hub, if it runs, as SIGKILL does."""
        if self._hub is not None:
            self._end()

    def _end(self) -> None:
        self._loop.kill()
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


class VirtualConnector(aiohttp.BaseConnector):
    """Connects HTTP clients on a virtual loop."""

    def __init__(self, exchange: TcpExchange) -> None:
        super().__init__(force_close=True)
        self._exchange = exchange

    async def _create_connection(self, req, traces, timeout):
        protocol = self._factory()
        try:
            StreamTransport(self._loop, protocol, self._exchange.connect(req.url.port))
        except OSError as e:
            raise aiohttp.ClientConnectorError(req.connection_key, e) from e
        await asyncio.sleep(0)  # until `connection_made` was called
        return protocol


def _deliver(on_record, record) -> None:
    on_record(record)


def _nothing(*_) -> None:
    """Observe nothing."""
