"""A dispatcher's tool at a hub: its end of the console's socket (console.py says what travels)."""

import asyncio
import contextlib
import ipaddress
import json
import os
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from patrolink.core.errors import DeadlineError, UserError

TOKEN = "PATROLINK_HUB_TOKEN"  # noqa: S105 - where it is
_WAIT_S = 10
_HEARTBEAT_S = 5
_HEAD = struct.Struct(">III")  # group, SSRC, stamp; 0, id of a live view, stamp


@dataclass(frozen=True)
class Packet:
    """Voice that was heard: `stamp` is in samples at 8 kHz, modulo 2**32; `alaw` holds them."""

    group: int
    ssrc: int
    stamp: int
    alaw: bytes


Told = dict[str, Any]


class Client:
    """Made by `connect`.

    hello  what the hub said first: site, name, groups, ...
    sight  is handed what comes of live views that are watched: a view's id, and a JPEG or an RTP packet
    """

    def __init__(self, ws: aiohttp.ClientWebSocketResponse[Any], hello: Told) -> None:
        self.hello = hello
        self.sight: Callable[[int, bytes], None] = lambda view, data: None
        self._ws = ws
        self._next = 1
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._come: asyncio.Queue[Told | Packet | None] = asyncio.Queue()

    def group(self, name: str) -> Told:
        """Return a group by its number or name; UserError when there is none, or the name is not one group's."""
        groups: list[Told] = self.hello["groups"]
        found = [one for one in groups if name in (str(one["group"]), one["name"])]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{one['group']} {one['name']!r}" for one in groups if one["kind"] != "private")
        if found:
            numbers = ", ".join(str(one["group"]) for one in found)
            raise UserError(f"{len(found)} groups are named {name!r}; name one by its number: {numbers}")
        raise UserError(f"no group {name!r} at this hub; there are: {known}")

    async def ask(self, do: str, **arguments: Any) -> Any:
        """Ask for something and return its result; UserError with the hub's reason when it refuses."""
        number, self._next = self._next, self._next + 1
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            await self._ws.send_json({"do": do, "id": number, **arguments})
            return await asyncio.wait_for(answer, _WAIT_S)
        except ConnectionError:
            raise _gone() from None
        except asyncio.TimeoutError:
            raise DeadlineError(f"the hub did not answer `{do}` within {_WAIT_S} s; look at its log") from None
        finally:
            del self._asked[number]

    async def speak(self, group: int, alaw: bytes) -> None:
        """Send voice: 20 ms are 160 bytes."""
        try:
            await self._ws.send_bytes(group.to_bytes(4, "big") + alaw)
        except ConnectionError:
            raise _gone() from None

    async def next(self) -> "Told | Packet":
        """Return what the hub tells next, or voice. UserError when the hub is gone."""
        it = await self._come.get()
        if it is None:
            raise _gone()
        return it

    async def read(self) -> None:
        """Take in what comes until the socket is closed; `connect` runs it."""
        async for message in self._ws:
            if message.type == aiohttp.WSMsgType.BINARY:
                group, ssrc, stamp = _HEAD.unpack_from(message.data)
                data = message.data[_HEAD.size :]
                if group:
                    self._come.put_nowait(Packet(group, ssrc, stamp, data))
                else:
                    self.sight(ssrc, data)
            elif message.type == aiohttp.WSMsgType.TEXT:
                self._take(json.loads(message.data))
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(_gone())
        self._come.put_nowait(None)

    def _take(self, told: Told) -> None:
        if told["type"] not in ("reply", "refused"):
            self._come.put_nowait(told)
            return
        answer = self._asked.get(told["id"])
        if answer is not None and not answer.done():
            if told["type"] == "reply":
                answer.set_result(told["result"])
            else:
                answer.set_exception(UserError(f"the hub refuses: {told['error']}"))


def _gone() -> UserError:
    return UserError("the hub has closed the connection; is it still running?")


@contextlib.asynccontextmanager
async def connect(url: str) -> AsyncIterator[Client]:
    """Log in at a hub's console with the token in PATROLINK_HUB_TOKEN. UserError says what keeps us out."""
    async with contextlib.AsyncExitStack() as stack:
        asking = await stack.enter_async_context(session(url))
        opening = asking.ws_connect("/socket", heartbeat=_HEARTBEAT_S, max_msg_size=0)
        ws = await stack.enter_async_context(await asyncio.wait_for(opening, _WAIT_S))
        client = Client(ws, await ws.receive_json(timeout=_WAIT_S))
        reading = asyncio.ensure_future(client.read())
        stack.callback(reading.cancel)
        yield client


@contextlib.asynccontextmanager
async def session(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Give what asks a hub's console, with the token in PATROLINK_HUB_TOKEN. UserError says what keeps us out."""
    token = os.environ.get(TOKEN, "")
    if not token:
        raise UserError(f"no token; put the dispatcher's token into {TOKEN} (`patrolink hub --new-token` makes one)")
    try:
        async with aiohttp.ClientSession(
            _address(url),
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(sock_connect=_WAIT_S, sock_read=_WAIT_S),
            raise_for_status=True,
        ) as asking:
            yield asking
    except aiohttp.ClientResponseError as e:
        raise UserError(f"{url}: {_REFUSALS.get(e.status, f'no console of a hub (HTTP {e.status})')}") from None
    except (ssl.SSLError, aiohttp.ClientConnectorCertificateError) as e:
        raise UserError(
            f"{url}: its certificate is not trusted ({e}); name its authority's file in SSL_CERT_FILE"
        ) from None
    except asyncio.TimeoutError:
        raise DeadlineError(f"{url}: no answer within {_WAIT_S} s; is this a hub's console?") from None
    except (aiohttp.ClientError, OSError) as e:
        raise UserError(f"{url}: no connection ({e}); is the hub running, and its `console` there?") from None


_REFUSALS = {
    401: f"no dispatcher of this site has the token in {TOKEN}; check it",
    403: "the hub refuses us; is this its own address?",
    429: "too many wrong tokens came from here; wait a minute, and check the token",
    503: "the hub cannot do that now; its log tells why",
}


def _address(url: str) -> str:
    """Return where the console is. A token does not go over a network in the clear."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/"):
        raise UserError(f"{url}: not a hub's console; write http://127.0.0.1:8080 or https://host:port")
    if parts.scheme == "http" and not _loopback(host):
        raise UserError(f"{url}: the token would travel in the clear; use https, or a tunnel to 127.0.0.1")
    return f"{parts.scheme}://{parts.netloc}"


def _loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
