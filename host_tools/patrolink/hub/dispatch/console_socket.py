"""WebSocket of the console (`/socket`), used by the page and by the tools `talk`, `listen`, `floor` and `live`.

The hub sends

- JSON: `hello` (site, name, ambient, groups, alarms, positions, recordings, live), the messages of the dispatcher
  session, and `reply` or `refused` with the `id` of a request;
- binary voice: group (u32), SSRC (u32), timestamp (u32), A-law;
- binary live view: 0 (u32), view id (u32), timestamp (u32), a JPEG or an RTP packet.

The client sends

- JSON requests: `do` (see `patrolink.hub.dispatch.requests`), `id` and arguments;
- binary voice: group (u32), 1 to 480 bytes of A-law.

Integers are big-endian.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from patrolink.hub.config import Dispatcher, Site
from patrolink.hub.dispatch.authentication import Authentication
from patrolink.hub.dispatch.messages import LiveFrame, VoiceFrame
from patrolink.hub.dispatch.requests import perform
from patrolink.hub.dispatch.session import DispatcherSession

_HEARTBEAT_S = 5  # detects a browser that is gone, so that its floor is released
_MAX_REQUEST_BYTES = 1 << 16
_CLOSE_GOING_AWAY = 1001
_CLOSE_SESSION_ENDED = 4401


class ConsoleSocket:
    """Serves the sockets of a console.

    Args:
        site: The site file.
        open_session: Returns a new dispatcher session.
        authentication: Authenticates requests.
    """

    def __init__(
        self, site: Site, open_session: Callable[[Dispatcher], DispatcherSession], authentication: Authentication
    ) -> None:
        self._site, self._open_session, self._authentication = site, open_session, authentication
        self._sockets: set[web.WebSocketResponse] = set()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one socket until it is closed."""
        dispatcher, login = self._authentication.identify(request)
        if login is not None:
            self._authentication.check_origin(request)
        ws = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_REQUEST_BYTES)
        await ws.prepare(request)
        self._sockets.add(ws)
        with contextlib.ExitStack() as stack:
            stack.callback(self._sockets.discard, ws)
            if login is not None:
                session_end = _SessionEnd(ws)
                stack.callback(login.on_end(session_end.close))
                loop = asyncio.get_running_loop()
                timer = loop.call_later(self._authentication.remaining_s(login), session_end.close)
                stack.callback(timer.cancel)
            session = self._open_session(dispatcher)
            stack.callback(session.close)
            with contextlib.suppress(ConnectionError):  # the client is gone
                await ws.send_json(self._hello(session))
                sender = asyncio.ensure_future(_send(ws, session))
                stack.callback(sender.cancel)
                await _receive(ws, session)
        return ws

    async def close(self) -> None:
        """Close all sockets."""
        for ws in list(self._sockets):
            await ws.close(code=_CLOSE_GOING_AWAY, message=b"the hub was stopped")

    def _hello(self, session: DispatcherSession) -> dict[str, Any]:
        return {
            "type": "hello",
            "site": self._site.name,
            "name": session.name,
            "ambient": self._site.ambient_listening,
            **session.snapshot(),
        }


class _SessionEnd:
    """Closes a socket when its login session ends."""

    def __init__(self, ws: web.WebSocketResponse) -> None:
        self._ws = ws
        self._task: asyncio.Task[bool] | None = None  # keeps a reference while it runs

    def close(self) -> None:
        closing = self._ws.close(code=_CLOSE_SESSION_ENDED, message=b"the session has ended")
        self._task = asyncio.get_running_loop().create_task(closing)


async def _send(ws: web.WebSocketResponse, session: DispatcherSession) -> None:
    """Send the messages of a session until the socket is closed."""
    with contextlib.suppress(ConnectionError):
        while not ws.closed:
            message = await session.queue.next()
            if isinstance(message, VoiceFrame):
                await ws.send_bytes(_header(message.group, message.ssrc, message.timestamp) + message.alaw)
            elif isinstance(message, LiveFrame):
                await ws.send_bytes(_header(0, message.view, message.timestamp) + message.data)
            else:
                await ws.send_json(message)


def _header(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


async def _receive(ws: web.WebSocketResponse, session: DispatcherSession) -> None:
    """Perform requests and pass on voice until the socket is closed."""
    async for message in ws:
        if message.type == WSMsgType.BINARY and len(message.data) > 4:
            session.send_audio(int.from_bytes(message.data[:4], "big"), message.data[4:])
        elif message.type == WSMsgType.TEXT:
            await ws.send_json(await perform(session, message.data))
