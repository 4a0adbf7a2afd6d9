"""Clips as they come from devices: a tus 1.0 server (core, creation, creation-with-upload; protocol/CLIP.md, "Upload").

It is our own: the tus servers there are for Python take a whole body before they look at who sends it, write files on
the event loop, or want another web framework beside aiohttp.

Its upload's address is `/clips/<device>/<clip>/<name>`. A device has one request at a time: one that comes cuts off the
one before, whose connection its device has lost. Answers: 401 not authorized, 429 too often, 400 and 413 what no device
asks for, 409 another offset or another file of that name, 423 another request is still at it, 460 its bytes are not
those that were told (the file is dropped), 507 no room.
"""

import asyncio
import base64
import binascii
import contextlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

from aiohttp import web

from patrolink.evidence import manifest, segment, verify
from patrolink.hub.clips.upload_authorization import Authorization, Refused
from patrolink.hub.clips.upload_store import Incoming, NoRoom, Place, Upload
from patrolink.hub.dispatch.logins import TooMany
from patrolink.hub.infra.metrics import Metrics

PATH = "/clips"
_VERSION = "1.0.0"
_BLOCK = 1 << 18  # bytes that are written at once
_QUIET_S = 60  # without a byte of a body
_TURN_S = 5  # until the request before has let go
_EACH_S = 0.005  # that a request takes at least: voice has the same thread
_WORDS = {"device", "clip", "name", "sha256"}
NAME = re.compile(r"[0-9]{6}\.plm|[0-9]{6}-[0-9]{6}\.pls")
_HASH = re.compile(r"[0-9a-f]{64}")
_CLIP = re.compile(r"0|[1-9][0-9]{0,5}")
_NUMBER = re.compile(r"[0-9]{1,10}")


@dataclass(eq=False)
class _Turn:
    """Whose turn it is of a device's requests; last: the one that came last."""

    by: web.Request | None = None
    last: web.Request | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Uploads:
    """
    taken   is told (device, clip, name) when a whole file is at rest here
    moved   is told (device, clip) when more of a file has come
    spoilt  is told (device, clip, name) when a file has come with other bytes than were recorded, and was dropped
    audit   is told (device, what, **facts) of what a device must not do
    """

    def __init__(
        self, folder: Path, authorization: Authorization, most: int, metrics: Metrics, audit: Callable[..., None]
    ) -> None:
        """`most`: bytes of one device."""
        self._authorization, self._metrics, self._audit = authorization, metrics, audit
        self._files = Incoming(folder, most)
        self.taken: Callable[[str, int, str], Awaitable[None]] = _nobody
        self.moved: Callable[[str, int], None] = lambda device, clip: None
        self.spoilt: Callable[[str, int, str], None] = lambda device, clip, name: None
        self._turns: dict[str, _Turn] = defaultdict(_Turn)
        self.coming, self.delete = self._files.of, self._files.delete

    def attach(self, app: web.Application) -> None:
        """Put the server into an application."""
        app.router.add_options(PATH, self._options)
        app.router.add_post(PATH, self._create)
        where = PATH + "/{device}/{clip}/{name}"
        app.router.add_route("HEAD", where, self._head)
        app.router.add_patch(where, self._patch)
        app.on_response_prepare.append(self._label)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _label(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update({"Tus-Resumable": _VERSION, "Cache-Control": "no-store"})

    async def _options(self, request: web.Request) -> web.Response:
        told = {
            "Tus-Version": _VERSION,
            "Tus-Extension": "creation,creation-with-upload",
            "Tus-Max-Size": str(segment.MOST),
        }
        return web.Response(status=204, headers=told)

    async def _create(self, request: web.Request) -> web.Response:
        device = self._device(request)
        place, length, sha256 = self._wanted(request, device)
        where = {"Location": f"{PATH}/{device}/{place[1]}/{place[2]}"}
        async with self._turn(device, request):
            there = self._files.path(place)
            if there.exists():
                if there.stat().st_size != length or await asyncio.to_thread(verify.sha256, there) != sha256:
                    self._audit(device, "upload refused", clip=place[1], name=place[2], sha256=sha256)
                    self._refuse(409, f"{place[2]} of clip {place[1]} is here already, with other bytes; those stay")
                await _pass_over(request)
                if there.suffix == ".plm":  # it begins the clip anew: perhaps it was never told the verdict
                    await self.taken(*place)
                return web.Response(status=201, headers={**where, "Upload-Offset": str(length)})
            upload = self._files.get(place)
            if upload is None or (upload.length, upload.sha256) != (length, sha256):
                upload = await self._begin(place, length, sha256)
            if request.body_exists or not length:
                upload.offset = 0
                await self._take(upload, request)
            elif upload.offset == upload.length:
                await self._end(upload)
            return web.Response(status=201, headers={**where, "Upload-Offset": str(upload.offset)})

    async def _head(self, request: web.Request) -> web.Response:
        device = self._device(request)
        async with self._turn(device, request):
            place = self._place(request, device)
            upload = self._files.get(place)
            if upload is None:
                offset = length = self._size(request, device)
                sha256 = await asyncio.to_thread(verify.sha256, self._files.path(place))
            else:
                if upload.offset == upload.length:  # it has come, and the hub was stopped before it was at rest
                    await self._end(upload)
                offset, length, sha256 = upload.offset, upload.length, upload.sha256
            told = {"Upload-Offset": str(offset), "Upload-Length": str(length)}
            return web.Response(status=200, headers={**told, "Upload-Metadata": _told(place, sha256)})

    async def _patch(self, request: web.Request) -> web.Response:
        device = self._device(request)
        if request.content_type != "application/offset+octet-stream":
            self._refuse(415, "the Content-Type of a PATCH is application/offset+octet-stream")
        offset = self._number(request, "Upload-Offset")
        async with self._turn(device, request):
            upload = self._files.get(self._place(request, device))
            if upload is None:
                self._refuse(409, f"it is whole, with {self._size(request, device)} bytes")
            if offset != upload.offset:
                self._refuse(409, f"{upload.offset} bytes are here, not {offset}")
            await self._take(upload, request)
            return web.Response(status=204, headers={"Upload-Offset": str(upload.offset)})

    # --- what is checked ----------------------------------------------------------------------------------------------

    def _refuse(self, status: int, text: str, **headers: str) -> NoReturn:
        self._metrics.refused[f"upload {status}"] += 1
        error = _STATUS.get(status, web.HTTPBadRequest)(text=text, headers=headers)
        if status not in _STATUS:
            error.set_status(status)
        if status in (401, 412, 429):
            error.force_close()  # nobody keeps a connection for what is refused
        raise error

    def _device(self, request: web.Request) -> str:
        """Return the device that asks, once its tag is right."""
        if request.headers.get("Tus-Resumable") != _VERSION:
            self._refuse(412, "this is tus 1.0.0", **{"Tus-Version": _VERSION})
        try:
            return self._authorization.device(request.method, request.path_qs, request.headers, request.remote or "")
        except TooMany as e:
            self._refuse(429, f"too many wrong requests; try again in {e.retry_s} s", **{"Retry-After": str(e.retry_s)})
        except Refused as e:
            self._refuse(401, str(e))

    def _place(self, request: web.Request, device: str) -> Place:
        path = request.match_info
        if path["device"] != device or not _CLIP.fullmatch(path["clip"]) or not NAME.fullmatch(path["name"]):
            self._refuse(404, "there is no such upload")
        return device, int(path["clip"]), path["name"]

    def _size(self, request: web.Request, device: str) -> int:
        """Return the size of a file that is whole."""
        _, clip, name = self._place(request, device)
        try:
            return self._files.path((device, clip, name)).stat().st_size
        except FileNotFoundError:
            self._refuse(404, "there is no such upload")

    def _number(self, request: web.Request, field: str) -> int:
        text = request.headers.get(field, "")
        if not _NUMBER.fullmatch(text):
            self._refuse(400, f"{field} has to be a number, it is {text[:20]!r}")
        return int(text)

    def _wanted(self, request: web.Request, device: str) -> tuple[Place, int, str]:
        """Return where a new file belongs, its length and its hash."""
        told = _metadata(request.headers.get("Upload-Metadata", ""))
        if set(told) != _WORDS or told["device"] != device:
            self._refuse(400, "Upload-Metadata has to tell the device's own name, clip, name and sha256")
        clip, name, sha256 = told["clip"], told["name"], told["sha256"]
        if not _CLIP.fullmatch(clip) or not NAME.fullmatch(name) or not _HASH.fullmatch(sha256):
            self._refuse(400, "clip, name or sha256 are not those of a file of a clip")
        if name.endswith(".plm") and name != f"{int(clip):06d}.plm":
            self._refuse(400, f"{name} is not the manifest of clip {clip}")
        length = self._number(request, "Upload-Length")
        if length > (manifest.MOST if name.endswith(".plm") else segment.MOST):
            self._refuse(413, f"{length} bytes are more than such a file has")
        if request.body_exists and (request.content_length is None or request.content_length > length):
            self._refuse(413, f"its body may have the {length} bytes of the file, and has to tell Content-Length")
        return (device, int(clip), name), length, sha256

    async def _begin(self, place: Place, length: int, sha256: str) -> Upload:
        try:
            return await self._files.begin(place, length, sha256)
        except NoRoom as e:
            self._refuse(e.status, str(e), **({"Retry-After": "60"} if e.status == 429 else {}))
        except OSError as e:
            self._failed(e)

    def _failed(self, e: OSError) -> NoReturn:
        self._metrics.counts["storage_failed"] += 1
        self._refuse(507, f"the hub's storage refuses ({e.strerror})")

    # --- bytes --------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _turn(self, device: str, request: web.Request) -> AsyncIterator[None]:
        """Have a device's files for oneself."""
        turn = self._turns[device]
        turn.last = request
        if turn.by is not None and turn.by.transport is not None:
            turn.by.transport.close()
        try:
            await asyncio.wait_for(turn.lock.acquire(), _TURN_S)
        except asyncio.TimeoutError:
            self._refuse(423, "another request of this device is still at it")
        turn.by = request
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            if turn.last is not request:
                self._refuse(423, "another request of this device has come since")
            yield
        finally:
            turn.by = None
            await asyncio.sleep(began_s + _EACH_S - loop.time())
            turn.lock.release()

    async def _take(self, upload: Upload, request: web.Request) -> None:
        """Write the body behind what is here; at the end of the file, hold it to its hash."""
        size = request.content_length
        if size is None and upload.length:
            self._refuse(411, "Content-Length has to tell how much comes")
        if (size or 0) > upload.length - upload.offset:
            self._refuse(413, f"{size} bytes come, {upload.length - upload.offset} are missing")
        try:
            self._files.room(size or 0)
            with open(upload.path, "r+b", buffering=0) as f:
                f.truncate(upload.offset)
                f.seek(upload.offset)
                await self._write(upload, request, f)
        except NoRoom as e:
            self._refuse(e.status, str(e))
        except ConnectionError:
            self._refuse(408, "the connection broke off")  # nobody hears it
        except OSError as e:
            self._failed(e)
        self.moved(*upload.place[:2])
        if upload.offset == upload.length:
            await self._end(upload)

    async def _write(self, upload: Upload, request: web.Request, f: BinaryIO) -> None:
        """Write what comes of the body, and what has come when it breaks off."""
        block = bytearray()
        try:
            while data := await asyncio.wait_for(request.content.readany(), _QUIET_S):
                block += data
                if len(block) >= _BLOCK:
                    await self._put(upload, f, block)
                    block = bytearray()
        except asyncio.TimeoutError:
            self._refuse(408, f"no byte for {_QUIET_S} s")
        finally:
            if block:
                await self._put(upload, f, block)

    async def _put(self, upload: Upload, f: BinaryIO, block: bytearray) -> None:
        at = 0
        while at < len(block):
            at += await asyncio.to_thread(f.write, memoryview(block)[at:])
        upload.offset += len(block)
        self._metrics.counts["upload_bytes"] += len(block)

    async def _end(self, upload: Upload) -> None:
        """All bytes are here: the file takes its place, if they are those that were told."""
        device, clip, name = upload.place
        try:
            right = await asyncio.to_thread(verify.sha256, upload.path) == upload.sha256
            if right:
                await self._files.settle(upload)
        except OSError as e:
            self._failed(e)
        if not right:
            self._files.drop(upload.place)
            self._audit(device, "upload damaged", clip=clip, name=name, sha256=upload.sha256)
            self.spoilt(device, clip, name)
            self._refuse(460, "its bytes are not those that sha256 told; begin it anew")
        self._metrics.counts["uploads"] += 1
        await self.taken(device, clip, name)


_STATUS: dict[int, type[web.HTTPError]] = {
    400: web.HTTPBadRequest,
    401: web.HTTPUnauthorized,
    404: web.HTTPNotFound,
    408: web.HTTPRequestTimeout,
    409: web.HTTPConflict,
    411: web.HTTPLengthRequired,
    412: web.HTTPPreconditionFailed,
    415: web.HTTPUnsupportedMediaType,
    429: web.HTTPTooManyRequests,
    507: web.HTTPInsufficientStorage,
}


def _metadata(text: str) -> dict[str, str]:
    """Return the pairs of Upload-Metadata; empty when it is not in its form, or names one twice."""
    told: dict[str, str] = {}
    for pair in text.split(",") if len(text) <= 1024 else ():
        key, _, value = pair.strip().partition(" ")
        try:
            plain = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return {}
        if key in told:
            return {}
        told[key] = plain
    return told


def _told(place: Place, sha256: str) -> str:
    """Return the Upload-Metadata that a file came with."""
    device, clip, name = place
    pairs = {"device": device, "clip": str(clip), "name": name, "sha256": sha256}
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())


async def _pass_over(request: web.Request) -> None:
    """Read the body of a file that is here already: the connection goes on."""
    async for _ in request.content.iter_any():
        pass


async def _nobody(device: str, clip: int, name: str) -> None:
    pass
