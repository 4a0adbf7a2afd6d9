"""The dispatchers' console: a page, and a WebSocket that `patrolink talk` and `listen` use as well.

A browser logs in with a token and gets a cookie; a tool sends the token in its request (`Authorization: Bearer`). No
token or session stands in an address, so none gets into a log. The page loads nothing from anywhere else.

The socket (`/socket`) carries a desk (desk.py). From the hub come as JSON `hello` (site, name, ambient, groups, alarms,
positions, recordings, live), all that `Desk.next` tells, and `reply` or `refused` to what was asked under the same
`id`; as binary voice: group (u32), ssrc (u32), stamp (u32), all big-endian, A-law; and a live view's: 0 (u32), its id
(u32), stamp (u32), a JPEG or an RTP packet. To the hub go requests as JSON (`do` and the
arguments of the method of Desk with that name; `id`), and as binary group (u32) and 1 to 480 bytes of A-law.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from patrolink.core.errors import UserError
from patrolink.hub.clips.routes import ClipRoutes
from patrolink.hub.config import Dispatcher
from patrolink.hub.dispatch.logins import SESSION_S, Session, Sessions, TooMany
from patrolink.hub.dispatch.messages import LiveFrame, VoiceFrame
from patrolink.hub.dispatch.requests import perform
from patrolink.hub.dispatch.session import DispatcherSession
from patrolink.hub.infra import http_server

if TYPE_CHECKING:
    from patrolink.hub.app import Hub
    from patrolink.hub.config import HubContext

_PAGE = Path(__file__).with_name("page")
_COOKIE = "patrolink"
_HEARTBEAT_S = 5  # a browser that is gone is noticed, and its floor free
_MOST_REQUEST = 1 << 16
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


async def serve(hub: "Hub", place: "HubContext", routes: Iterable[web.RouteDef] = ()) -> web.AppRunner:
    """Start the console of a hub as its site file says, and return what to `cleanup()`. `routes` are served, too.

    UserError when it would be reachable from outside without TLS, or cannot listen.
    """
    app = web.Application(client_max_size=_MOST_REQUEST)
    app.add_routes(routes)
    Console(hub, place.console_tls is not None).attach(app)
    return await http_server.start(app, place.hub.console, place.console_tls, "the console")


class Console:
    """
    secure  it is served over TLS
    """

    def __init__(self, hub: "Hub", secure: bool) -> None:
        self._hub = hub
        self._secure = secure
        self._sessions = Sessions(hub.dispatcher)
        self._sockets: set[web.WebSocketResponse] = set()

    def attach(self, app: web.Application) -> None:
        """Put page, login, socket and recordings into an application."""
        app.router.add_get("/", self._page)
        app.router.add_get("/page/{name:[a-z]+\\.(?:js|css|svg)}", self._page)
        app.router.add_post("/login", self._login)
        app.router.add_post("/logout", self._logout)
        app.router.add_get("/session", self._session)
        app.router.add_get("/socket", self._socket)
        app.router.add_get("/recordings/{name}", self._recording)
        ClipRoutes(self._hub.clips, lambda request: self._who(request)[0].name).attach(app)
        app.on_response_prepare.append(self._protect)
        app.on_shutdown.append(self._shut)

    async def _protect(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)
        if self._secure:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"

    async def _shut(self, app: web.Application) -> None:
        for ws in list(self._sockets):
            await ws.close(code=1001, message=b"the hub stops")

    # --- page and login -----------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.FileResponse:
        path = _PAGE / request.match_info.get("name", "index.html")
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _login(self, request: web.Request) -> web.Response:
        """A token for a cookie. JSON only: a form of another site cannot send it without being asked first."""
        self._same_origin(request)
        try:
            token = (await request.json())["token"]
        except (ValueError, KeyError, TypeError):
            raise web.HTTPBadRequest(text='write {"token": "..."}') from None
        dispatcher = self._check(request, str(token))
        response = web.Response(status=204)
        response.set_cookie(
            _COOKIE,
            self._sessions.open(dispatcher, time.monotonic()),
            max_age=SESSION_S,
            httponly=True,
            secure=self._secure,
            samesite="Strict",
        )
        self._hub.audit(dispatcher.name, "login", address=request.remote)
        return response

    async def _logout(self, request: web.Request) -> web.Response:
        self._same_origin(request)
        self._sessions.close(request.cookies.get(_COOKIE, ""))
        response = web.Response(status=204)
        response.del_cookie(_COOKIE, httponly=True, secure=self._secure, samesite="Strict")
        return response

    async def _session(self, request: web.Request) -> web.Response:
        """Tell a page whether it is logged in."""
        session = self._sessions.get(request.cookies.get(_COOKIE, ""), time.monotonic())
        return web.json_response({"name": session.dispatcher.name if session else None})

    def _check(self, request: web.Request, token: str) -> Dispatcher:
        try:
            dispatcher = self._sessions.check(request.remote or "", token, time.monotonic())
        except TooMany as e:
            raise web.HTTPTooManyRequests(
                text=f"too many wrong tokens; try again in {e.retry_s} s", headers={"Retry-After": str(e.retry_s)}
            ) from None
        if dispatcher is None:
            self._hub.audit("", "login refused", address=request.remote)
            raise web.HTTPUnauthorized(text="no dispatcher of this site has that token")
        return dispatcher

    def _same_origin(self, request: web.Request) -> None:
        """Only the console's own page may use a browser's session."""
        origin = request.headers.get("Origin", "")
        if origin != f"{'https' if self._secure else 'http'}://{request.host}":
            raise web.HTTPForbidden(text="only the console's own page may do that")

    def _who(self, request: web.Request) -> tuple[Dispatcher, Session | None]:
        """Return who asks: by token, or by session from the page."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._check(request, token.strip()), None
        session = self._sessions.get(request.cookies.get(_COOKIE, ""), time.monotonic())
        if session is None:
            raise web.HTTPUnauthorized(text="log in first")
        return session.dispatcher, session

    async def _recording(self, request: web.Request) -> web.FileResponse:
        desk = self._hub.desk(self._who(request)[0])
        try:
            return web.FileResponse(desk.recording(request.match_info["name"]))
        except UserError as e:
            raise web.HTTPNotFound(text=str(e)) from None
        finally:
            desk.close()

    # --- the socket ---------------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        dispatcher, session = self._who(request)
        if session is not None:
            self._same_origin(request)
        ws = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=_MOST_REQUEST)
        await ws.prepare(request)
        self._sockets.add(ws)
        loop = asyncio.get_running_loop()

        def end() -> None:
            closing.append(loop.create_task(ws.close(code=4401, message=b"the session is over")))

        closing: list[asyncio.Task[bool]] = []
        timer = None
        if session is not None:
            session.ended.append(end)
            timer = loop.call_later(max(0.0, session.ends_s - time.monotonic()), end)
        desk = self._hub.desk(dispatcher)
        try:
            await ws.send_json(self._hello(desk))
            telling = loop.create_task(_tell(ws, desk))
            try:
                await _hear(ws, desk)
            finally:
                telling.cancel()
        except ConnectionError:
            pass  # it has gone while something was being told
        finally:
            desk.close()
            self._sockets.discard(ws)
            if session is not None and timer is not None:
                timer.cancel()
                session.ended.remove(end)
        return ws

    def _hello(self, desk: DispatcherSession) -> dict[str, Any]:
        site = self._hub.place.site
        return {
            "type": "hello",
            "site": site.name,
            "name": desk.name,
            "ambient": site.ambient_listening,
            "groups": desk.groups(),
            "alarms": desk.alarms(),
            "positions": desk.positions(),
            "recordings": desk.recordings(),
            "live": desk.live(),
        }


async def _tell(ws: web.WebSocketResponse, desk: DispatcherSession) -> None:
    """Pass on what the desk is told, until the socket is closed."""
    with contextlib.suppress(ConnectionError):
        while not ws.closed:
            it = await desk.next()
            if isinstance(it, VoiceFrame):
                head = b"".join(number.to_bytes(4, "big") for number in (it.group, it.ssrc, it.timestamp))
                await ws.send_bytes(head + it.alaw)
            elif isinstance(it, LiveFrame):
                await ws.send_bytes(bytes(4) + it.view.to_bytes(4, "big") + it.timestamp.to_bytes(4, "big") + it.data)
            else:
                await ws.send_json(it)


async def _hear(ws: web.WebSocketResponse, desk: DispatcherSession) -> None:
    """Do what is asked, until the socket is closed."""
    async for message in ws:
        if message.type == WSMsgType.BINARY and len(message.data) > 4:
            with contextlib.suppress(UserError):  # the group has ended: `gone` has been told
                desk.send_audio(int.from_bytes(message.data[:4], "big"), message.data[4:])
        elif message.type == WSMsgType.TEXT:
            await ws.send_json(perform(desk, message.data))
