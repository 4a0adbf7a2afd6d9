"""A network on virtual time in the test's process: event loops, sockets, and HTTP clients.

Time passes only in `run_until`, `run_for`, `run`, and in calls of simulated sockets that wait.
"""

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
from patrolink.emulator.network.virtual_tcp import Endpoint, Listener, StreamTransport, TcpExchange
from patrolink.emulator.network.virtual_udp import HubSocket, UdpExchange
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.virtual_loop import VirtualLoop, dispose
from patrolink.emulator.virtual_platform import VirtualClock

START_MS = 1_795_000_000_000  # 2026-11-18T11:06:40Z
_STEP_MS = 5
_TIMEOUT_S = 120  # virtual
_LOOPBACK = "127.0.0.1"


class SimulatedNetwork:
    """Virtual clock, UDP and TCP.

    Attributes:
        scheduler: The virtual clock.
        clock: Clock of the hub's machine, which may jump.
        udp, tcp: The network.
        errors: Exceptions on event loops that nobody has handled.
    """

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.udp, self.tcp = UdpExchange(self.on_datagram), TcpExchange()
        self.clock = VirtualClock(self.scheduler, self.unix_ms)
        self.errors: list[str] = []
        self._loops: list[VirtualLoop] = []
        self._client_loop = self.new_loop()
        self._devices: list[Any] = []
        self._is_process_killed = False

    def on_datagram(self, source: tuple[str, int], target: tuple[str, int], data: bytes) -> None:
        """Observe a datagram that reaches or leaves a server."""

    def _on_exception(self, context: dict[str, Any]) -> None:
        self.errors.append(f"{context['message']}: {context.get('exception')!r}")

    def new_loop(self) -> VirtualLoop:
        """Return the event loop of a new process."""
        self._loops.append(VirtualLoop(self.scheduler, self._on_exception))
        return self._loops[-1]

    def kill(self, loop: VirtualLoop) -> None:
        """Kill a process: nothing of it runs any more."""
        loop.kill()
        self._is_process_killed = True

    def close(self) -> None:
        """End everything, and check that no exception was left unhandled."""
        self.udp.close()
        if self._is_process_killed:
            dispose(self._loops)  # takes long: a garbage collection
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

    def run_until(self, condition: Callable[[], Any], message: Any = "", seconds: float = _TIMEOUT_S) -> Any:
        """Let time pass until `condition()` is true, and return its value.

        Raises:
            AssertionError: It was not true in time.
        """
        deadline_ms = self.now_ms() + 1000 * seconds
        while not (value := condition()):
            if self.now_ms() >= deadline_ms:
                text = message() if callable(message) else message
                raise AssertionError(f"not within {seconds} s: {text}; unhandled: {self.errors}")
            self._step()
        return value

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        end_ms = self.scheduler.now + 1000 * seconds
        while self.scheduler.now < end_ms:
            self._step(min(_STEP_MS, end_ms - self.scheduler.now))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine of a client to its end, and return its result."""
        task = self._client_loop.create_task(coroutine)
        self.run_until(task.done)
        return task.result()

    def wait(self, clients) -> None:
        """Let a short time pass."""
        self._step()

    def sleep_ms(self, ms: float) -> None:
        """Let time pass."""
        self.run_for(ms / 1000)

    def add_device(self, device: Any) -> Any:
        """Call `device.process()` whenever time has passed, and return the device."""
        self._devices.append(device)
        return device

    # --- sockets ------------------------------------------------------------------------------------------------------

    def udp_socket(self) -> HubSocket:
        """Return a socket with an address on loopback."""
        return self.udp.bind(_LOOPBACK, 0)

    def listen_tcp(self, host: str, port: int) -> list[Listener]:
        """Return a listening socket (`http_server.Listen`)."""
        return [self.tcp.listen(host, port)]

    def connect_tcp(self, port: int) -> "SimulatedSocket":
        """Return a connected socket of a client whose calls let time pass."""
        return SimulatedSocket(self, self.tcp.connect(port))

    def tcp_stream(self, net: Any) -> "SimulatedStream":
        """Return a TCP stream of a device (`compat.netsock.TcpSocket`)."""
        return SimulatedStream(self, net)

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    def connector(self) -> aiohttp.BaseConnector:
        """Return a connector for HTTP clients that `run` runs."""
        return VirtualConnector(self.tcp)

    def http_get(self, port: int, path: str, **headers: str):
        """Send a GET request, and return status, headers and body of the response."""
        return self._http("GET", port, path, None, headers)

    def http_request(self, method: str, path: str, body: Any = None, port: int = 8080, **headers: str):
        """Send one HTTP request with a JSON body, and return status, headers and text of the response."""
        fields = {"Origin": f"http://{_LOOPBACK}:{port}", **headers}
        status, answer, data = self._http(method, port, path, body, fields)
        return status, answer, data.decode(errors="replace")

    def _http(self, method: str, port: int, path: str, body: Any, headers: dict[str, str]):
        async def request():
            url = f"http://{_LOOPBACK}:{port}{path}"
            async with (
                aiohttp.ClientSession(connector=self.connector(), cookie_jar=aiohttp.DummyCookieJar()) as http,
                http.request(method, url, json=body, headers=headers, allow_redirects=False) as response,
            ):
                return response.status, response.headers, await response.read()

        return self.run(request())


class SimulatedSocket:
    """A connected TCP socket whose calls wait on the virtual clock, with the names of `socket.socket`."""

    def __init__(self, network: SimulatedNetwork, endpoint: Endpoint) -> None:
        self._network, self._endpoint = network, endpoint
        self._rest = b""
        self._timeout_s = _TIMEOUT_S

    def settimeout(self, seconds: float) -> None:
        self._timeout_s = seconds

    def sendall(self, data: bytes) -> None:
        for at in range(0, len(data), 16_384):
            self._network.run_until(lambda: not self._endpoint.is_full or self._endpoint.is_reset)
            self._endpoint.send(data[at : at + 16_384])

    def recv(self, n: int) -> bytes:
        deadline_ms = self._network.now_ms() + 1000 * self._timeout_s
        while not self._rest:
            self._rest = self._endpoint.read()
            if self._endpoint.is_reset:
                raise ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
            if self._rest or self._endpoint.has_ended:
                break
            if self._network.now_ms() >= deadline_ms:
                raise TimeoutError
            self._network.wait(())
        data, self._rest = self._rest[:n], self._rest[n:]
        return data

    def shutdown(self, how: int) -> None:
        self._endpoint.end()

    def close(self) -> None:
        self._endpoint.close()

    def __enter__(self) -> "SimulatedSocket":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class SimulatedStream:
    """TCP stream of a device in the test's own flow (`compat.netsock.TcpSocket`)."""

    def __init__(self, network: SimulatedNetwork, net: Any) -> None:
        self._network, self._net = network, net
        self._endpoint: Endpoint | None = None
        self._rest = b""

    def connect(self, address: tuple[str, int]) -> None:
        self._endpoint = self._network.tcp.connect(address[1])

    def wait(self, writing: bool) -> bool:
        if self._is_ready(writing):
            return True
        self._network.sleep_ms(self._net.slice_ms)
        return self._is_ready(writing)

    def _is_ready(self, writing: bool) -> bool:
        end = self._endpoint
        return end.is_reset or (not end.is_full if writing else bool(self._rest or end.unread or end.has_ended))

    def send(self, view) -> int:
        if self._endpoint.is_full:
            return 0
        self._endpoint.send(bytes(view))
        return len(view)

    def recv_into(self, view) -> int | None:
        self._rest = self._rest or self._endpoint.read()
        if not self._rest:
            if self._endpoint.is_reset:
                raise ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
            return 0 if self._endpoint.has_ended else None
        n = min(len(view), len(self._rest))
        view[:n], self._rest = self._rest[:n], self._rest[n:]
        return n

    def close(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()


class VirtualConnector(aiohttp.BaseConnector):
    """Connects HTTP clients on a virtual loop."""

    def __init__(self, exchange: TcpExchange) -> None:
        super().__init__(force_close=True)
        self._exchange = exchange
        self._endpoints: list[Endpoint] = []

    def kill(self) -> None:
        """Close all connections: the process has ended."""
        for endpoint in self._endpoints:
            endpoint.close()

    async def _create_connection(self, req, traces, timeout):
        protocol = self._factory()
        try:
            endpoint = self._exchange.connect(req.url.port)
        except OSError as e:
            raise aiohttp.ClientConnectorError(req.connection_key, e) from e
        self._endpoints.append(endpoint)
        StreamTransport(self._loop, protocol, endpoint)
        await asyncio.sleep(0)  # until `connection_made` was called
        return protocol
