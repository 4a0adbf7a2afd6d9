"""Client of a hub's console socket for dispatcher tools; `patrolink.hub.dispatch.console` describes the protocol."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from patrolink.audio.voice_packet import VoicePacket
from patrolink.core import untrusted_json
from patrolink.core.errors import DeadlineError, ServerError, UserError
from patrolink.core.text import printable
from patrolink.core.timeouts import wait_for

TOKEN_VARIABLE = "PATROLINK_HUB_TOKEN"  # noqa: S105 - the name of the environment variable
_LOG = logging.getLogger("patrolink.client")
_TIMEOUT_S = 10
_HEARTBEAT_S = 5
_BINARY_HEADER = struct.Struct(">III")  # group, SSRC, timestamp; for live view 0, view id, timestamp

JsonObject = dict[str, Any]


class ConsoleClient:
    """A connection to a hub's console socket. Use `connect` to open one.

    Args:
        ws: The open socket.
        hello: The hub's first message.
        on_live_frame: Called with view id and data (a JPEG or an RTP packet) of each frame of a live view.

    Attributes:
        hello: The hub's first message: site, name, groups and more.
    """

    def __init__(
        self,
        ws: aiohttp.ClientWebSocketResponse[Any],
        hello: JsonObject,
        on_live_frame: Callable[[int, bytes], None] | None = None,
    ) -> None:
        self.hello = hello
        self._ws, self._on_live_frame = ws, on_live_frame
        self._next_id = 1
        self._requests: dict[int, asyncio.Future[Any]] = {}
        self._messages: asyncio.Queue[JsonObject | VoicePacket | None] = asyncio.Queue()
        self._fault = _connection_closed()

    def find_group(self, name: str) -> JsonObject:
        """Return the group with this number or name.

        Raises:
            UserError: There is none, or several have this name.
        """
        groups: list[JsonObject] = self.hello["groups"]
        matches = [group for group in groups if name in (str(group["group"]), group["name"])]
        if len(matches) == 1:
            return matches[0]
        if matches:
            numbers = ", ".join(str(group["group"]) for group in matches)
            raise UserError(f"{len(matches)} groups are named {name!r}; use the number: {numbers}")
        known = ", ".join(f"{group['group']} {group['name']!r}" for group in groups if group["kind"] != "private")
        raise UserError(f"no group {name!r} at this hub; available groups: {known}")

    async def request(self, name: str, /, **arguments: Any) -> Any:
        """Send a request and return its result.

        Args:
            name: Value of `do`; see `patrolink.hub.dispatch.requests`.
            **arguments: The request's other fields.

        Raises:
            UserError: The hub rejected the request.
            ServerError: The hub closed the connection.
            DeadlineError: The hub did not respond.
        """
        request_id, self._next_id = self._next_id, self._next_id + 1
        response = self._requests[request_id] = asyncio.get_running_loop().create_future()
        try:
            await self._ws.send_json({"do": name, "id": request_id, **arguments})
            return await wait_for(response, _TIMEOUT_S)
        except ConnectionError:
            raise _connection_closed() from None
        except asyncio.TimeoutError:
            raise DeadlineError(f"the hub did not respond to `{name}` within {_TIMEOUT_S} s; check its log") from None
        finally:
            del self._requests[request_id]

    async def send_voice(self, group: int, alaw: bytes) -> None:
        """Send A-law samples to a group; 20 ms are 160 bytes.

        Raises:
            ServerError: The hub closed the connection.
        """
        try:
            await self._ws.send_bytes(group.to_bytes(4, "big") + alaw)
        except ConnectionError:
            raise _connection_closed() from None

    async def next_message(self) -> "JsonObject | VoicePacket":
        """Return the hub's next message or voice packet.

        Raises:
            ServerError: The hub closed the connection.
        """
        message = await self._messages.get()
        if message is None:
            raise self._fault
        return message

    def discard_messages(self) -> None:
        """Discard the messages that were received but not returned yet."""
        while not self._messages.empty():
            self._messages.get_nowait()

    async def run(self) -> None:
        """Receive until the socket is closed or a message is invalid; `connect` runs this in a task."""
        try:
            async for message in self._ws:
                if message.type == aiohttp.WSMsgType.BINARY:
                    self._on_binary(message.data)
                elif message.type == aiohttp.WSMsgType.TEXT:
                    self._on_json(untrusted_json.parse(message.data))
        except (ValueError, KeyError, TypeError, struct.error) as e:
            self._fault = _invalid_message(e)
        for response in self._requests.values():
            if not response.done():
                response.set_exception(self._fault)
        self._messages.put_nowait(None)

    def _on_binary(self, data: bytes) -> None:
        group, source, timestamp = _BINARY_HEADER.unpack_from(data)
        payload = data[_BINARY_HEADER.size :]
        if group:
            self._messages.put_nowait(VoicePacket(group, source, timestamp, payload))
        elif self._on_live_frame is not None:
            self._on_live_frame(source, payload)

    def _on_json(self, message: JsonObject) -> None:
        if not isinstance(message["type"], str):
            raise ValueError("the type is not a text")
        if message["type"] not in ("reply", "refused"):
            self._messages.put_nowait(message)
            return
        response = self._requests.get(message["id"])
        if response is not None and not response.done():
            if message["type"] == "reply":
                response.set_result(message["result"])
            else:
                response.set_exception(UserError(f"the hub rejected the request: {printable(str(message['error']))}"))


def _connection_closed() -> ServerError:
    return ServerError("the hub closed the connection; check that it is running")


def _invalid_message(e: Exception) -> ServerError:
    return ServerError(f"the hub sent an invalid message ({e!r}); check that hub and tool have the same version")


@contextlib.asynccontextmanager
async def connect(
    url: str,
    on_live_frame: Callable[[int, bytes], None] | None = None,
    connector: aiohttp.BaseConnector | None = None,
) -> AsyncIterator[ConsoleClient]:
    """Log in at a hub's console with the token in PATROLINK_HUB_TOKEN and yield the connection.

    Args:
        url: Address of the console.
        on_live_frame: See `ConsoleClient`.
        connector: See `http_session`.

    Raises:
        UserError: The address is invalid, or there is no token.
        ServerError: The hub cannot be reached or rejects the login.
        DeadlineError: The hub did not respond.
    """
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_session(url, connector))
        opening = http.ws_connect("/socket", heartbeat=_HEARTBEAT_S, max_msg_size=0)
        ws = await stack.enter_async_context(await wait_for(opening, _TIMEOUT_S))
        _LOG.info("connected to the hub %s", url)
        client = ConsoleClient(ws, await _receive_hello(ws), on_live_frame)
        receiver = asyncio.ensure_future(client.run())
        stack.callback(receiver.cancel)
        yield client


async def _receive_hello(ws: aiohttp.ClientWebSocketResponse[Any]) -> JsonObject:
    try:
        hello = untrusted_json.parse(await ws.receive_str(timeout=_TIMEOUT_S))
    except (ValueError, TypeError) as e:  # aiohttp raises TypeError for what is no text
        raise _invalid_message(e) from None
    if not isinstance(hello, dict) or not isinstance(hello.get("groups"), list):
        raise _invalid_message(ValueError("no list of groups"))
    return hello


async def wait_first(*jobs: Awaitable[object], timeout_s: float | None = None) -> bool:
    """Run jobs until the first ends; raise its exception if it failed.

    Args:
        jobs: Coroutines, which are cancelled at the end, or futures of the caller, which are not.
        timeout_s: Maximum time, or None.

    Returns:
        False if none ended in time.
    """
    tasks = [job if isinstance(job, asyncio.Future) else asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, job in zip(tasks, jobs, strict=True):
            if task is not job:
                task.cancel()
    for task in done:
        task.result()
    return bool(done)


@contextlib.asynccontextmanager
async def http_session(
    url: str, connector: aiohttp.BaseConnector | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield an HTTP session with a hub's console that sends the token in PATROLINK_HUB_TOKEN.

    Args:
        url: Address of the console.
        connector: Opens the connections; None: over the network.

    Raises:
        UserError: The address is invalid, or there is no token.
        ServerError: The hub cannot be reached or rejects the login.
        DeadlineError: The hub did not respond.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise UserError(
            f"{TOKEN_VARIABLE} is not set; set it to the dispatcher's token (see `patrolink hub --new-token`)"
        )
    try:
        async with aiohttp.ClientSession(
            _base_url(url),
            connector=connector,
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(sock_connect=_TIMEOUT_S, sock_read=_TIMEOUT_S),
            raise_for_status=True,
        ) as http:
            yield http
    except aiohttp.ClientResponseError as e:
        raise ServerError(f"{url}: {_HTTP_ERRORS.get(e.status, f'not a hub console (HTTP {e.status})')}") from None
    except (ssl.SSLError, aiohttp.ClientConnectorCertificateError) as e:
        raise ServerError(
            f"{url}: the certificate is not trusted ({e}); name the CA's certificate file in SSL_CERT_FILE"
        ) from None
    except asyncio.TimeoutError:
        raise DeadlineError(f"{url}: no response within {_TIMEOUT_S} s; check that this is a hub's console") from None
    except (aiohttp.ClientError, OSError) as e:
        raise ServerError(
            f"{url}: no connection ({e}); check that the hub is running and its site file has a `console`"
        ) from None


_HTTP_ERRORS = {
    401: f"the token in {TOKEN_VARIABLE} is not known at this site; check it",
    403: "access is forbidden; check that this is the hub's own address",
    429: "too many wrong tokens from this address; check the token and retry in a minute",
    503: "the hub is temporarily unable to do that; check its log",
}


def _base_url(url: str) -> str:
    """Return scheme and host of a console's address. HTTP is accepted only on loopback: the token is a secret."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/"):
        raise UserError(f"{url}: not the address of a hub console; write http://127.0.0.1:8080 or https://host:port")
    if parts.scheme == "http" and not _is_loopback(host):
        raise UserError(f"{url}: HTTP would send the token unencrypted; use https, or a tunnel to 127.0.0.1")
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
