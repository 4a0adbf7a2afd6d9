"""HTTP routes of clips at the console: a list, files with Range, pictures. Each request is logged before it is served.

GET /clips                           all rows of the clip list, each with `files`: name and bytes
GET /clips/signers.toml              public keys that devices sign with
GET /clips/<device>/<clip>/picture   JPEG, if the hub has the evidence key
GET /clips/<device>/<clip>/<name>    a file as the device wrote it
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from patrolink.core.errors import UserError
from patrolink.hub.clips.clip_access import ClipAccess
from patrolink.hub.clips.clip_feed import ClipFeed
from patrolink.hub.clips.clip_service import ClipService

_OCTETS = "application/octet-stream"


class ClipRoutes:
    """The routes.

    Args:
        clips: The clips; None when this hub takes none.
        who: Returns the name of the dispatcher who sends a request; raises an HTTP error for a stranger.
    """

    def __init__(self, clips: ClipService | None, who: Callable[[web.Request], str]) -> None:
        self._clips, self._who = clips, who

    def attach(self, app: web.Application) -> None:
        """Add the routes to an application."""
        clip = "/clips/{device}/{clip:[0-9]{1,6}}"
        app.router.add_get("/clips", self._list)
        app.router.add_get("/clips/signers.toml", self._signers)
        app.router.add_get(clip + "/picture", self._picture)
        app.router.add_get(clip + "/{name}", self._file)

    async def _log_access(self, request: web.Request, what: str, **facts: Any) -> tuple[ClipAccess, ClipFeed]:
        """Log a request; return what serves it."""
        if self._clips is None:
            raise web.HTTPNotFound(text="this hub takes no clips; set `uploads` in the site file")
        try:
            await asyncio.to_thread(self._clips.access.record, self._who(request), what, **facts)
        except UserError as e:
            raise web.HTTPServiceUnavailable(text=str(e)) from None
        return self._clips.access, self._clips.feed

    def _clip(self, request: web.Request) -> tuple[str, int]:
        return request.match_info["device"], int(request.match_info["clip"])

    async def _list(self, request: web.Request) -> web.StreamResponse:
        _, feed = await self._log_access(request, "listed")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        separator = "["
        async for row in feed.rows():
            await response.write(f"{separator}{json.dumps(row)}".encode())
            separator = ",\n"
        await response.write(b"[]" if separator == "[" else b"]")
        return response

    async def _signers(self, request: web.Request) -> web.FileResponse:
        access, _ = await self._log_access(request, "fetched", name="signers.toml")
        if not access.signers_path.exists():
            raise web.HTTPNotFound(text="no device has announced a clip yet")
        return web.FileResponse(access.signers_path, headers={"Content-Type": "application/toml"})

    async def _picture(self, request: web.Request) -> web.Response:
        device, clip = self._clip(request)
        access, _ = await self._log_access(request, "viewed", device=device[:64], clip=clip)
        try:
            jpeg = await asyncio.to_thread(access.picture, device, clip)
        except UserError as e:
            raise web.HTTPNotFound(text=str(e)) from None
        return web.Response(body=jpeg, content_type="image/jpeg")

    async def _file(self, request: web.Request) -> web.FileResponse:
        (device, clip), name = self._clip(request), request.match_info["name"]
        part = request.headers.get("Range", "")[:40]
        facts = {"device": device[:64], "clip": clip, "name": name[:40], **({"part": part} if part else {})}
        access, _ = await self._log_access(request, "fetched", **facts)
        try:
            return web.FileResponse(access.file(device, clip, name), headers={"Content-Type": _OCTETS})
        except UserError as e:
            raise web.HTTPNotFound(text=str(e)) from None
