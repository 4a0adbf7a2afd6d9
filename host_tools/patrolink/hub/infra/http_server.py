"""HTTP servers of a hub: in plain text on loopback only, otherwise under TLS."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from pathlib import Path

from aiohttp import web

from patrolink.core.errors import UserError

_MAX_CONNECTIONS = 400  # leaves file handles for everything else in the process
_IDLE_S = 30  # without the complete head of a request
_HANDSHAKE_S = 10
_NO_LOG = logging.getLogger("patrolink.access")
_NO_LOG.disabled = True


async def start(app: web.Application, address: str, tls: tuple[Path, Path] | None, name: str) -> web.AppRunner:
    """Start to serve an application, and return the runner that the caller has to `cleanup()`.

    Args:
        app: The application.
        address: host:port to listen on.
        tls: Files of the certificate chain and of the key, in PEM; None: no TLS.
        name: What is served, for error messages.

    Raises:
        UserError: The server would be reachable from other machines without TLS, or cannot listen.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = _tls_context(*tls) if tls else None
    if context is None and not _is_loopback(host):
        raise UserError(
            f"{name} requires TLS on {host}, which is not loopback; set console_certificate and console_key in the "
            "site file, or listen on 127.0.0.1"
        )
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await _Site(runner, host, int(port), context).start()
    except OSError as e:
        await runner.cleanup()
        raise UserError(
            f"{name} cannot listen on {address}: {e.strerror}; free the port, or configure another one"
        ) from e
    return runner


class _Site(web.BaseSite):
    """A listener that limits the number of connections."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(runner, ssl_context=context)
        self._address = host, port

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
        server = self._runner.server
        assert server is not None

        loop = asyncio.get_running_loop()

        def connection() -> _Connection:
            return _Connection(server, loop=loop, access_log=_NO_LOG, keepalive_timeout=_IDLE_S)

        context = self._ssl_context
        timeout_s = _HANDSHAKE_S if context else None
        self._server = await loop.create_server(
            connection, *self._address, ssl=context, ssl_handshake_timeout=timeout_s
        )


class _Connection(web.RequestHandler):
    """A connection. It is closed at once if there are too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._manager is not None and len(self._manager.connections) > _MAX_CONNECTIONS:
            self.force_close()


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
