"""HTTP servers of a hub: on loopback in plain, beyond it only under TLS."""

import contextlib
import ipaddress
import socket
import ssl
from pathlib import Path

from aiohttp import web

from patrolink.errors import UserError


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
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, int(port), ssl_context=context).start()
    except OSError as e:
        await runner.cleanup()
        raise UserError(f"{what} cannot listen on {where}: {e.strerror}; free it, or name another") from e
    return runner


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
