"""HTTP servers of a hub: in plain text on loopback only, otherwise under TLS.

What every request has to comply with is checked here: a body must not be encoded, because a few bytes could unpack to
gigabytes. Refused requests are counted by server and status.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from patrolink.core.errors import UserError
from patrolink.hub.infra.attempt_limiter import source_network
from patrolink.hub.infra.connection_table import ConnectionTable, Entry
from patrolink.hub.infra.metrics import Metrics

_MAX_CONNECTIONS = 400  # leaves file handles for everything else in the process
_MAX_OF_SOURCE = 300  # consoles of a control room, or devices behind one NAT
_IDLE_S = 15  # without the complete head of a request
_HANDSHAKE_S = 10
_LINGER_S = 2  # for the rest of a request that was refused: otherwise the client may not get the answer
_ACCEPT_RETRY_S = 0.1  # without file handles
_NO_LOG = logging.getLogger("patrolink.access")
_NO_LOG.disabled = True

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Listen = Callable[[str, int], Sequence[Any]]  # returns listening sockets


async def start(
    app: web.Application,
    address: str,
    tls: tuple[Path, Path] | None,
    name: str,
    metrics: Metrics,
    listen: Listen,
) -> web.AppRunner:
    """Start to serve an application, and return the runner that the caller has to `cleanup()`.

    Args:
        app: The application.
        address: host:port to listen on.
        tls: Files of the certificate chain and of the key, in PEM; None: no TLS.
        name: What is served, one word, for error messages and metrics.
        metrics: Counters of the hub.
        listen: Opens listening sockets; see `infra.tcp.listen_tcp`.

    Raises:
        UserError: The server would be reachable from other machines without TLS, or cannot listen.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = _tls_context(*tls) if tls else None
    if context is None and not _is_loopback(host):
        raise UserError(
            f"the {name} server requires TLS on {host}, which is not loopback; set console_certificate and console_key "
            "in the site file, or listen on 127.0.0.1"
        )
    app.middlewares.insert(0, _guard(name, metrics))
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await _Site(runner, (host, int(port)), listen, context, name, metrics).start()
    except OSError as e:
        await runner.cleanup()
        raise UserError(
            f"the {name} server cannot listen on {address}: {e.strerror}; free the port, or configure another one"
        ) from e
    return runner


def _guard(name: str, metrics: Metrics) -> Any:
    """Return the middleware that checks and counts requests."""

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)
        try:
            if "Content-Encoding" in request.headers:
                raise _closing(web.HTTPUnsupportedMediaType(text="send the body without Content-Encoding"))
            connection.entry.is_serving = True
            return await handler(request)
        except web.HTTPException as e:
            if e.status >= 400:
                metrics.refused[f"{name} {e.status}"] += 1
            raise
        except (ConnectionError, web.RequestPayloadError):  # the client is gone, or sent a malformed body
            metrics.refused[f"{name} 400"] += 1
            raise _closing(web.HTTPBadRequest(text="the body of the request is malformed")) from None
        finally:
            connection.entry.is_serving = False

    return guard


def _closing(error: web.HTTPException) -> web.HTTPException:
    error.force_close()
    return error


class _Site(web.BaseSite):
    """A listener that limits its connections, those in a TLS handshake included."""

    def __init__(
        self,
        runner: web.AppRunner,
        address: tuple[str, int],
        listen: Listen,
        context: ssl.SSLContext | None,
        name: str,
        metrics: Metrics,
    ) -> None:
        super().__init__(runner, ssl_context=context)
        self._address, self._listen, self._server_name, self._metrics = address, listen, name, metrics
        self._table = ConnectionTable(_MAX_CONNECTIONS, _MAX_OF_SOURCE)
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.gauges[f"{name}_connections"] = self._table.__len__

    @property
    def name(self) -> str:
        """The URL."""
        return f"{'https' if self._ssl_context else 'http'}://{self._address[0]}:{self._address[1]}"

    async def start(self) -> None:
        """Start to listen.

        Raises:
            OSError: The address is not available.
        """
        await super().start()
        for listener in self._listen(*self._address):
            self._run(self._accept(listener))

    async def stop(self) -> None:
        """Stop to listen, and end handshakes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().stop()

    def _run(self, job: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    sock, address = await loop.sock_accept(listener)
                except OSError:  # no file handle is left, or the client is gone
                    await asyncio.sleep(_ACCEPT_RETRY_S)
                    continue
                source = source_network(str(address[0]))
                if self._table.admit(source):
                    entry = Entry(source, sock.close)
                    self._table.add(entry)
                    entry.close = self._run(self._connect(sock, entry)).cancel
                else:
                    self._metrics.refused[f"{self._server_name} connection"] += 1
                    sock.close()
                await asyncio.sleep(0)  # a flood of connections does not keep the loop from other work

    async def _connect(self, sock: socket.socket, entry: Entry) -> None:
        """Serve a connection after its TLS handshake."""
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None
        timeout_s = _HANDSHAKE_S if self._ssl_context else None
        sock.setblocking(False)
        try:
            await loop.connect_accepted_socket(
                lambda: _Connection(server, entry, self._table, self._server_name, self._metrics, loop),
                sock,
                ssl=self._ssl_context,
                ssl_handshake_timeout=timeout_s,
            )
        except (OSError, asyncio.TimeoutError):  # ssl.SSLError is an OSError
            self._metrics.refused[f"{self._server_name} handshake"] += 1
            self._table.remove(entry)


class _Connection(web.RequestHandler):
    """A connection.

    Attributes:
        entry: Its entry in the table of connections.
    """

    def __init__(
        self,
        server: web.Server,
        entry: Entry,
        table: ConnectionTable,
        name: str,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=_NO_LOG,
            keepalive_timeout=_IDLE_S,
            lingering_time=_LINGER_S,
            auto_decompress=False,
        )
        self.entry = entry
        self._table, self._server_name, self._metrics = table, name, metrics

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.entry.close = self.force_close

    def connection_lost(self, exc: BaseException | None) -> None:
        self._table.remove(self.entry)
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is not HTTP, without a traceback in the log. Other errors are defects."""
        if status != 400:
            return super().handle_error(request, status, exc, message)
        self._metrics.refused[f"{self._server_name} 400"] += 1
        response = web.Response(status=400, text="the request is not valid HTTP")
        response.force_close()
        return response


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    try:
        addresses = socket.getaddrinfo(host, None)
    except OSError as e:
        raise UserError(f"the host {host!r} cannot be resolved ({e.strerror}); use its IP address") from None
    return all(ipaddress.ip_address(str(entry[4][0]).split("%")[0]).is_loopback for entry in addresses)


def _tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as e:
        raise UserError(
            f"cannot use the certificate {certificate} with the key {key}: {e}; name a PEM file with the whole chain "
            "and the key that belongs to it"
        ) from None
    return context
