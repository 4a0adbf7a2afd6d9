"""The upload server: tus 1.0 with creation and creation-with-upload (protocol/CLIP.md, "Upload").

It is our own because the tus servers for Python read a whole body before they authenticate the sender, write files on
the event loop, or need another web framework besides aiohttp.

An upload's address is /clips/<device>/<clip>/<name>. A device has one request at a time: a new request closes the
connection of the one before, which the device has lost. Statuses: 400 and 413 malformed or too large, 401 not
authorized, 409 wrong offset or another file of that name, 423 another request is active, 429 too many, 460 wrong
SHA-256 (the file is deleted), 507 no space.
"""

import asyncio
import base64
import contextlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, NoReturn, Protocol

from aiohttp import web

from patrolink.core.text import plural
from patrolink.core.timeouts import wait_for
from patrolink.evidence import segment
from patrolink.evidence.clip_folders import file_sha256, file_size_max, manifest_name
from patrolink.hub.clips.upload_authorization import UnauthorizedError, UploadAuthorization
from patrolink.hub.clips.upload_store import ClipFile, StorageLimitError, Upload, UploadStore
from patrolink.hub.infra.attempt_limiter import TooManyAttemptsError
from patrolink.hub.infra.metrics import Metrics

PATH = "/clips"
_VERSION = "1.0.0"
_BLOCK_BYTES = 1 << 18  # of one write
_IDLE_TIMEOUT_S = 60  # without a byte of a body
_LOCK_TIMEOUT_S = 5  # until the request before has ended
_REQUEST_MIN_S = 0.005  # of a request: voice shares the thread
_METADATA_KEYS = {"device", "clip", "name", "sha256"}
_METADATA_MAX = 1024  # characters
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CLIP = re.compile(r"0|[1-9][0-9]{0,5}")
_NUMBER = re.compile(r"[0-9]{1,10}")


class UploadEvents(Protocol):
    """What the server reports."""

    async def file_stored(self, file: ClipFile) -> None:
        """A complete file is on storage."""

    def upload_progressed(self, file: ClipFile) -> None:
        """More bytes of a file have arrived."""

    def upload_damaged(self, file: ClipFile) -> None:
        """A file arrived with another SHA-256 than announced and was deleted."""


class _Creation(NamedTuple):
    """What a POST asks for: a file, its length and its SHA-256."""

    file: ClipFile
    length: int
    sha256: str


@dataclass(eq=False)
class _RequestLock:
    """The lock of a device's requests.

    Args:
        holder: The request that holds the lock.
        newest: The request that arrived last.
        lock: The lock.
    """

    holder: web.Request | None = None
    newest: web.Request | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TusServer:
    """The HTTP routes of uploads.

    Args:
        store: Keeps the files.
        authorization: Finds out which device sent a request.
        events: Receives what happens to files.
        metrics: Counters of the hub.
        audit: Records what a device must not do: (device, what, **facts).
    """

    def __init__(
        self,
        store: UploadStore,
        authorization: UploadAuthorization,
        events: UploadEvents,
        metrics: Metrics,
        audit: Callable[..., None],
    ) -> None:
        self._store, self._authorization, self._events = store, authorization, events
        self._metrics, self._audit = metrics, audit
        self._locks: dict[str, _RequestLock] = defaultdict(_RequestLock)

    def attach(self, app: web.Application) -> None:
        """Add the routes to an application."""
        app.router.add_options(PATH, self._options)
        app.router.add_post(PATH, self._create)
        where = PATH + "/{device}/{clip}/{name}"
        app.router.add_route("HEAD", where, self._head)
        app.router.add_patch(where, self._patch)
        app.on_response_prepare.append(self._add_headers)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update({"Tus-Resumable": _VERSION, "Cache-Control": "no-store"})

    async def _options(self, request: web.Request) -> web.Response:
        headers = {
            "Tus-Version": _VERSION,
            "Tus-Extension": "creation,creation-with-upload",
            "Tus-Max-Size": str(segment.BYTES_MAX),
        }
        return web.Response(status=204, headers=headers)

    async def _create(self, request: web.Request) -> web.Response:
        device = self._authenticate(request)
        creation = self._parse_creation(request, device)
        file, length, sha256 = creation
        async with self._locked(device, request):
            if self._store.path(file).exists():
                await self._create_existing(creation, request)
                return _created(file, length)
            upload = self._store.get(file)
            if upload is None or (upload.length, upload.sha256) != (length, sha256):
                upload = await self._begin(creation)
            if request.body_exists or not length:
                upload.offset = 0
                await self._receive(upload, request)
            elif upload.offset == upload.length:
                await self._finish(upload)
            return _created(file, upload.offset)

    async def _create_existing(self, creation: _Creation, request: web.Request) -> None:
        """Accept a file that is complete already, if it has the same content."""
        file, path = creation.file, self._store.path(creation.file)
        if path.stat().st_size != creation.length or await asyncio.to_thread(file_sha256, path) != creation.sha256:
            self._audit(file.device, "upload refused", clip=file.clip, name=file.name, sha256=creation.sha256)
            self._refuse(409, f"{file.name} of clip {file.clip} is stored already with other content, which stays")
        await self._discard_body(request)
        if path.suffix == ".plm":  # the device starts the clip again: it may not have received the verdict
            await self._events.file_stored(file)

    async def _head(self, request: web.Request) -> web.Response:
        device = self._authenticate(request)
        async with self._locked(device, request):
            file = self._parse_file(request, device)
            upload = self._store.get(file)
            if upload is None:
                offset = length = self._complete_size(file)
                sha256 = await asyncio.to_thread(file_sha256, self._store.path(file))
            else:
                if upload.offset == upload.length:  # received, but the hub stopped before it was stored
                    await self._finish(upload)
                offset, length, sha256 = upload.offset, upload.length, upload.sha256
            headers = {"Upload-Offset": str(offset), "Upload-Length": str(length)}
            return web.Response(status=200, headers={**headers, "Upload-Metadata": _format_metadata(file, sha256)})

    async def _patch(self, request: web.Request) -> web.Response:
        device = self._authenticate(request)
        if request.content_type != "application/offset+octet-stream":
            self._refuse(415, "the Content-Type of a PATCH must be application/offset+octet-stream")
        offset = self._parse_number(request, "Upload-Offset")
        async with self._locked(device, request):
            file = self._parse_file(request, device)
            upload = self._store.get(file)
            if upload is None:
                self._refuse(409, f"the upload is complete with {plural(self._complete_size(file), 'byte')}")
            if offset != upload.offset:
                self._refuse(409, f"the upload's offset is {upload.offset}, not {offset}")
            await self._receive(upload, request)
            return web.Response(status=204, headers={"Upload-Offset": str(upload.offset)})

    def disconnect(self, device: str) -> None:
        """End the request of a device that is in progress."""
        state = self._locks.get(device)
        if state is not None and state.holder is not None and state.holder.transport is not None:
            state.holder.transport.close()

    # --- checks -------------------------------------------------------------------------------------------------------

    def _refuse(self, status: int, text: str, **headers: str) -> NoReturn:
        error = _STATUS.get(status, web.HTTPBadRequest)(text=text, headers=headers)
        if status not in _STATUS:
            error.set_status(status)
        if status in (401, 412, 429):
            error.force_close()  # an unauthorized client must not hold a connection
        raise error

    def _refuse_storage(self, e: OSError) -> NoReturn:
        self._metrics.counts["storage_failed"] += 1
        self._refuse(507, f"the hub's storage failed: {e.strerror}")

    def _authenticate(self, request: web.Request) -> str:
        """Return the device that sent a request."""
        if request.headers.get("Tus-Resumable") != _VERSION:
            self._refuse(412, "this server supports tus 1.0.0 only", **{"Tus-Version": _VERSION})
        try:
            return self._authorization.authorize(request.method, request.path_qs, request.headers, request.remote or "")
        except TooManyAttemptsError as e:
            self._refuse(
                429, f"too many unauthorized requests; retry in {e.retry_s} s", **{"Retry-After": str(e.retry_s)}
            )
        except UnauthorizedError as e:
            self._refuse(401, str(e))

    def _parse_file(self, request: web.Request, device: str) -> ClipFile:
        path = request.match_info
        if path["device"] != device or not _CLIP.fullmatch(path["clip"]) or file_size_max(path["name"]) < 0:
            self._refuse(404, "there is no such upload")
        return ClipFile(device, int(path["clip"]), path["name"])

    def _complete_size(self, file: ClipFile) -> int:
        """Return the size of a complete file."""
        try:
            return self._store.path(file).stat().st_size
        except FileNotFoundError:
            self._refuse(404, "there is no such upload")

    def _parse_number(self, request: web.Request, field: str) -> int:
        text = request.headers.get(field, "")
        if not _NUMBER.fullmatch(text):
            self._refuse(400, f"{field} must be a number, not {text[:20]!r}")
        return int(text)

    def _parse_creation(self, request: web.Request, device: str) -> _Creation:
        metadata = _parse_metadata(request.headers.get("Upload-Metadata", ""))
        if set(metadata) != _METADATA_KEYS or metadata["device"] != device:
            self._refuse(400, "Upload-Metadata must hold device (the sender), clip, name and sha256")
        clip, name, sha256 = metadata["clip"], metadata["name"], metadata["sha256"]
        if not _CLIP.fullmatch(clip) or file_size_max(name) < 0 or not _SHA256.fullmatch(sha256):
            self._refuse(400, "clip, name or sha256 in Upload-Metadata is malformed")
        if name.endswith(".plm") and name != manifest_name(int(clip)):
            self._refuse(400, f"{name} is not the manifest of clip {clip}")
        length = self._parse_number(request, "Upload-Length")
        if length > file_size_max(name):
            self._refuse(413, f"Upload-Length {length} is too large: such a file has at most {file_size_max(name)}")
        if request.body_exists and (request.content_length is None or request.content_length > length):
            self._refuse(413, f"Content-Length must be present and at most the file's {length} bytes")
        return _Creation(ClipFile(device, int(clip), name), length, sha256)

    async def _begin(self, creation: _Creation) -> Upload:
        try:
            return await self._store.create(creation.file, creation.length, creation.sha256)
        except StorageLimitError as e:
            self._refuse(e.status, str(e), **({"Retry-After": "60"} if e.status == 429 else {}))
        except OSError as e:
            self._refuse_storage(e)

    # --- bytes --------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _locked(self, device: str, request: web.Request) -> AsyncIterator[None]:
        """Hold the lock of a device's requests. The request that holds it is disconnected."""
        state = self._locks[device]
        state.newest = request
        if state.holder is not None and state.holder.transport is not None:
            state.holder.transport.close()
        try:
            await wait_for(state.lock.acquire(), _LOCK_TIMEOUT_S)
        except asyncio.TimeoutError:
            self._refuse(423, "another request of this device is active")
        state.holder = request
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        try:
            if state.newest is not request:
                self._refuse(423, "a newer request of this device has arrived")
            yield
        finally:
            state.holder = None
            await asyncio.sleep(start_s + _REQUEST_MIN_S - loop.time())
            state.lock.release()

    async def _receive(self, upload: Upload, request: web.Request) -> None:
        """Append the body to a pending file; a file that is complete then is verified and stored."""
        size = request.content_length
        if size is None and request.body_exists:
            self._refuse(411, "Content-Length is missing")
        if (size or 0) > upload.length - upload.offset:
            self._refuse(
                413, f"Content-Length is {size}, more than the missing {plural(upload.length - upload.offset, 'byte')}"
            )
        try:
            self._store.check_space(size or 0)
            with open(upload.path, "r+b", buffering=0) as f:
                f.truncate(upload.offset)
                f.seek(upload.offset)
                await self._write_body(upload, request, f)
        except StorageLimitError as e:
            self._refuse(e.status, str(e))
        except ConnectionError:
            self._refuse(408, "the connection was lost")  # for the metrics: nobody receives it
        except web.RequestPayloadError:
            self._refuse(400, "the body is malformed")
        except OSError as e:
            self._refuse_storage(e)
        self._events.upload_progressed(upload.file)
        if upload.offset == upload.length:
            await self._finish(upload)

    async def _write_body(self, upload: Upload, request: web.Request, f: BinaryIO) -> None:
        """Write the body in blocks; on an error, write what has arrived."""
        block = bytearray()
        try:
            while data := await wait_for(request.content.readany(), _IDLE_TIMEOUT_S):
                if upload.offset + len(block) + len(data) > upload.length:
                    self._refuse(413, f"the body exceeds the file's {plural(upload.length, 'byte')}")
                block += data
                if len(block) >= _BLOCK_BYTES:
                    await self._write_block(upload, f, block)
                    block = bytearray()
        except asyncio.TimeoutError:
            self._refuse(408, f"no data for {_IDLE_TIMEOUT_S} s")
        finally:
            if block:
                await self._write_block(upload, f, block)

    async def _discard_body(self, request: web.Request) -> None:
        """Read the body of a file that is stored already, so that the connection stays usable."""
        try:
            while await wait_for(request.content.readany(), _IDLE_TIMEOUT_S):
                pass
        except asyncio.TimeoutError:
            self._refuse(408, f"no data for {_IDLE_TIMEOUT_S} s")

    async def _write_block(self, upload: Upload, f: BinaryIO, block: bytearray) -> None:
        written = 0
        while written < len(block):
            written += await asyncio.to_thread(f.write, memoryview(block)[written:])
        upload.offset += len(block)
        self._metrics.counts["upload_bytes"] += len(block)

    async def _finish(self, upload: Upload) -> None:
        """Verify the SHA-256 of a file that has all its bytes, and store it."""
        file = upload.file
        try:
            valid = await asyncio.to_thread(file_sha256, upload.path) == upload.sha256
            if valid:
                await self._store.complete(upload)
        except OSError as e:
            self._refuse_storage(e)
        if not valid:
            self._store.drop(file)
            self._audit(file.device, "upload damaged", clip=file.clip, name=file.name, sha256=upload.sha256)
            self._events.upload_damaged(file)
            self._refuse(460, "the file's SHA-256 differs from the announced one; the file was deleted, send it again")
        self._metrics.counts["uploads"] += 1
        await self._events.file_stored(file)


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


def _created(file: ClipFile, offset: int) -> web.Response:
    location = f"{PATH}/{file.device}/{file.clip}/{file.name}"
    return web.Response(status=201, headers={"Location": location, "Upload-Offset": str(offset)})


def _parse_metadata(text: str) -> dict[str, str]:
    """Return the pairs of Upload-Metadata; empty when it is malformed or repeats a key."""
    metadata: dict[str, str] = {}
    for pair in text.split(",") if len(text) <= _METADATA_MAX else ():
        key, _, value = pair.strip().partition(" ")
        try:
            decoded = base64.b64decode(value, validate=True).decode()
        except ValueError:
            return {}
        if key in metadata:
            return {}
        metadata[key] = decoded
    return metadata


def _format_metadata(file: ClipFile, sha256: str) -> str:
    """Return the Upload-Metadata that a file was created with."""
    pairs = {"device": file.device, "clip": str(file.clip), "name": file.name, "sha256": sha256}
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())
