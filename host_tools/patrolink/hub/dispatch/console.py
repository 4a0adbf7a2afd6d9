"""HTTP server of the dispatchers' console: page, login, socket, recordings and clips.

The page loads nothing from other servers; the Content-Security-Policy enforces it.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from aiohttp import web

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.hub.clips.clip_service import ClipService
from patrolink.hub.clips.routes import ClipRoutes
from patrolink.hub.config import Dispatcher, Site
from patrolink.hub.dispatch.authentication import Authentication
from patrolink.hub.dispatch.console_socket import ConsoleSocket
from patrolink.hub.dispatch.session import DispatcherSession
from patrolink.hub.infra import http_server
from patrolink.hub.infra.metrics import Metrics

_PAGE = Path(__file__).with_name("page")
_MAX_REQUEST_BYTES = 1 << 16
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; media-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_HSTS = "max-age=31536000"


async def serve(
    console: "Console",
    address: str,
    tls: tuple[Path, Path] | None,
    metrics: Metrics,
    listen: http_server.Listen,
    routes: Iterable[web.RouteDef] = (),
) -> web.AppRunner:
    """Start a console's server.

    Args:
        console: The console.
        address: host:port to listen on.
        tls: Files of certificate and key, or None.
        metrics: Counters of the hub.
        listen: Opens listening sockets; see `infra.tcp.listen_tcp`.
        routes: Further routes that need no login.

    Returns:
        The runner; call its `cleanup()`.

    Raises:
        UserError: The server would be reachable from other machines without TLS, or cannot listen.
    """
    app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
    app.add_routes(routes)
    console.attach(app)
    return await http_server.start(app, address, tls, "console", metrics, listen)


class Console:
    """The console's routes.

    Args:
        site: The site file.
        find_dispatcher: Returns the dispatcher of a token, or None. Compares in constant time.
        open_session: Returns a new dispatcher session.
        audit: Writes a row to the audit log: (who, what, **facts).
        clips: The clips; None if this hub stores none.
        secure: The console is served over TLS.
        clock: Source of time.
    """

    def __init__(
        self,
        site: Site,
        find_dispatcher: Callable[[str], Dispatcher | None],
        open_session: Callable[[Dispatcher], DispatcherSession],
        audit: Callable[..., None],
        clips: ClipService | None,
        secure: bool,
        clock: Clock,
    ) -> None:
        self._open_session, self._secure = open_session, secure
        self._authentication = Authentication(find_dispatcher, audit, secure, clock)
        self._socket = ConsoleSocket(site, open_session, self._authentication)
        self._clip_routes = ClipRoutes(clips, self._dispatcher_name)

    def attach(self, app: web.Application) -> None:
        """Add the routes to an application."""
        app.router.add_get("/", self._page)
        app.router.add_get("/page/{name:[a-z]+\\.(?:js|css|svg)}", self._page)
        self._authentication.attach(app)
        app.router.add_get("/socket", self._socket.handle)
        app.router.add_get("/recordings/{name}", self._recording)
        self._clip_routes.attach(app)
        app.on_response_prepare.append(self._add_headers)
        app.on_shutdown.append(self._on_shutdown)

    def _dispatcher_name(self, request: web.Request) -> str:
        return self._authentication.identify(request).dispatcher.name

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)
        if self._secure:
            response.headers["Strict-Transport-Security"] = _HSTS

    async def _on_shutdown(self, app: web.Application) -> None:
        await self._socket.close()

    async def _page(self, request: web.Request) -> web.FileResponse:
        path = _PAGE / request.match_info.get("name", "index.html")
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _recording(self, request: web.Request) -> web.FileResponse:
        session = self._open_session(self._authentication.identify(request).dispatcher)
        try:
            return web.FileResponse(session.recording(request.match_info["name"]))
        except UserError as e:
            raise web.HTTPNotFound(text=str(e)) from None
        finally:
            session.close()
