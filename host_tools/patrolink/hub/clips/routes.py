"""Clips over the console's HTTP: a list, files with Range, pictures. Each is in the access log before it is done.

GET /clips                           rows as of `Desk.clips`, all of them, each with `files`: name and bytes
GET /clips/signers.toml              the keys that devices sign with
GET /clips/<device>/<clip>/picture   JPEG, when the hub has the evidence key
GET /clips/<device>/<clip>/<name>    a file as the device wrote it
"""

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from patrolink.core.errors import UserError

if TYPE_CHECKING:
    from patrolink.hub.clips.clip_service import Clips

_OCTETS = "application/octet-stream"


class ClipRoutes:
    """
    who  function(request): name of the dispatcher who asks, or an HTTP error
    """

    def __init__(self, clips: "Clips | None", who: Callable[[web.Request], str]) -> None:
        self._all, self._who = clips, who

    def attach(self, app: web.Application) -> None:
        """Put them into an application."""
        number = "/clips/{device}/{clip:[0-9]{1,6}}"
        app.router.add_get("/clips", self._list)
        app.router.add_get("/clips/signers.toml", self._signers)
        app.router.add_get(number + "/picture", self._picture)
        app.router.add_get(number + "/{name}", self._file)

    def _clips(self) -> "Clips":
        if self._all is None:
            raise web.HTTPNotFound(text="this hub takes no clips; name `uploads` in the site file")
        return self._all

    async def _look(self, request: web.Request, what: str, **facts: Any) -> None:
        try:
            await asyncio.to_thread(self._clips().look, self._who(request), what, **facts)
        except UserError as e:
            raise web.HTTPServiceUnavailable(text=str(e)) from None

    def _named(self, request: web.Request) -> tuple[str, int]:
        return request.match_info["device"], int(request.match_info["clip"])

    async def _list(self, request: web.Request) -> web.StreamResponse:
        await self._look(request, "listed")
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        before = "["
        async for row in self._clips().rows():
            await answer.write(f"{before}{json.dumps(row)}".encode())
            before = ",\n"
        await answer.write(b"[]" if before == "[" else b"]")
        return answer

    async def _signers(self, request: web.Request) -> web.FileResponse:
        await self._look(request, "fetched", name="signers.toml")
        if not self._clips().signers.exists():
            raise web.HTTPNotFound(text="no device has told a clip yet")
        return web.FileResponse(self._clips().signers, headers={"Content-Type": "application/toml"})

    async def _picture(self, request: web.Request) -> web.Response:
        device, clip = self._named(request)
        await self._look(request, "viewed", device=device[:64], clip=clip)
        try:
            jpeg = await asyncio.to_thread(self._clips().picture, device, clip)
        except UserError as e:
            raise web.HTTPNotFound(text=str(e)) from None
        return web.Response(body=jpeg, content_type="image/jpeg")

    async def _file(self, request: web.Request) -> web.FileResponse:
        (device, clip), name = self._named(request), request.match_info["name"]
        part = request.headers.get("Range", "")[:40]
        facts = {"device": device[:64], "clip": clip, "name": name[:40], **({"part": part} if part else {})}
        await self._look(request, "fetched", **facts)
        try:
            return web.FileResponse(self._clips().file(device, clip, name), headers={"Content-Type": _OCTETS})
        except UserError as e:
            raise web.HTTPNotFound(text=str(e)) from None
