"""HTTP servers of a hub: on loopback in plain, beyond it only under TLS."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from pathlib import Path

from aiohttp import web

from patrolink.core.errors import UserError

_MOST = 400  # connections at once: files and sockets of all else have to find room, too
_IDLE_S = 30  # without a whole request's head
_HANDSHAKE_S = 10
_SILENT = logging.getLogger("patrolink.access")
_SILENT.disabled = True


async def start(app: web.Application, where: str, tls: tuple[Path, Path] | None, what: str) -> web.AppRunner:
    """Serve an application at host:port, and return what to `cleanup()`. tls: certificate with its chain, and key.

    UserError when it would be reachable from outside without TLS, or cannot listen; `what` names it there.
    """
    host, _, port = where.rpartition(":")
    host = host.strip("[]")
    context = _context(*tls) if tls else None
    if context is None and not _loopback(host):
        raise UserError(
            f"{what} would be open to the network on {host} without TLS; name console_certificate and "
            "console_key in the site file, or listen on 127.0.0.1"
        )
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await _Site(runner, host, int(port), context).start()
    except OSError as e:
        await runner.cleanup()
        raise UserError(f"{what} cannot listen on {where}: {e.strerror}; free it, or name another") from e
    return runner


class _Site(web.BaseSite):
    """A listener that takes so many connections and no more."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(runner, ssl_context=context)
        self._where = host, port

    @property
    def name(self) -> str:
        """Its address."""
        return f"{'https' if self._ssl_context else 'http'}://{self._where[0]}:{self._where[1]}"

    async def start(self) -> None:
        """Listen from now on. OSError."""
        await super().start()
        server = self._runner.server
        assert server is not None

        loop = asyncio.get_running_loop()

        def connection() -> _Connection:
            return _Connection(server, loop=loop, access_log=_SILENT, keepalive_timeout=_IDLE_S)

        context = self._ssl_context
        wait_s = _HANDSHAKE_S if context else None
        self._server = await loop.create_server(connection, *self._where, ssl=context, ssl_handshake_timeout=wait_s)


class _Connection(web.RequestHandler):
    """A connection; one that is one too many is closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._manager is not None and len(self._manager.connections) > _MOST:
            self.force_close()


def _loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as e:
        raise UserError(f"the host {host!r} is not known ({e.strerror}); write its address") from None
    return all(ipaddress.ip_address(str(one[4][0]).split("%")[0]).is_loopback for one in found)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as e:
        raise UserError(
            f"the certificate {certificate} with the key {key} cannot be used: {e}; "
            "name a PEM file with the chain, and its key"
        ) from None
    return context
