"""Clips from a hub, over its console's HTTP: what is here stays, what a broken line left is gone on with.

Nothing that the hub says is believed: names and sizes are held to what a clip has, and the manifest says what each file
has to be.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from patrolink_protocol.clip import TRIGGERS
from yarl import URL

from patrolink.core.errors import UserError
from patrolink.evidence import manifest, segment, source, verify
from patrolink.evidence.findings import VERDICTS

_DEVICE = re.compile(r"(?!\.{1,2}$)[^/\0]{1,64}")
_MANIFEST = re.compile(r"[0-9]{6}\.plm")
_SEGMENT = re.compile(r"[0-9]{6}-[0-9]{6}\.pls")
_TRIES = 5  # that bring nothing
_WAIT_S = 1.0  # before the second one; before each further one twice as long
_BLOCK = 1 << 16
_MOST = 64 << 20  # bytes of a list: a hundred thousand clips

Told = Callable[[int], None]


async def listing(hub: aiohttp.ClientSession) -> list[source.Listed]:
    """Return the clips that a hub has. UserError when that is no list of clips."""
    try:
        return [_listed(one) for one in json.loads(await _get(hub, "/clips"))]
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise UserError(f"the hub's list of clips is none ({e!r}); are hub and tool of one version?") from None


async def _get(hub: aiohttp.ClientSession, address: str) -> bytes:
    try:
        async with hub.get(address) as response:
            data = bytearray()
            async for block in response.content.iter_chunked(_BLOCK):
                data += block
                if len(data) > _MOST:
                    raise UserError(f"{address}: the hub sends more than {_MOST >> 20} MB; is it one?")
            return bytes(data)
    except aiohttp.ClientResponseError as e:
        if e.status == 404:
            raise UserError("the hub takes no clips; name `uploads` in its site file") from None
        raise


def _listed(told: dict[str, Any]) -> source.Listed:
    """Return a clip of the list; ValueError for what would not be one on this disk."""
    device, number = told["device"], told["clip"]
    if not isinstance(device, str) or not _DEVICE.fullmatch(device) or not device.isprintable():
        raise ValueError(f"device {device!r}")
    if type(number) is not int or not 0 <= number <= manifest.LAST:
        raise ValueError(f"clip {number!r}")
    files = {}
    for one in told["files"]:
        name, size = one["name"], one["bytes"]
        most = manifest.MOST if _MANIFEST.fullmatch(name) else segment.MOST if _SEGMENT.fullmatch(name) else -1
        if type(size) is not int or not 0 <= size <= most:
            raise ValueError(f"file {name!r} of {size!r} bytes")
        files[name] = size
    trigger, time_ms, verdict = told.get("trigger"), told.get("time_ms"), told.get("verdict")
    return source.Listed(
        device,
        number,
        files,
        trigger if trigger in TRIGGERS else None,
        time_ms if isinstance(time_ms, int) else None,
        verdict if verdict in VERDICTS else None,
    )


async def signers(hub: aiohttp.ClientSession, clips: Path) -> list[str]:
    """Take the keys of devices that are not known here into signers.toml; return whose key the hub tells otherwise.

    A key that is here stays: what was fetched under it is not proven by another one.
    """
    address = f"/clips/{source.SIGNERS}"
    told = verify.parse_signers(await _get(hub, address), address)
    path = clips / source.SIGNERS
    here = verify.signers(path) if path.exists() else {}
    if not set(told) <= set(here):
        lines = [f"{_quoted(device)} = {json.dumps(keys)}\n" for device, keys in sorted((told | here).items())]
        with _disk(path):
            clips.mkdir(parents=True, exist_ok=True)
            path.write_text("[signers]\n" + "".join(lines), encoding="utf-8")
    return sorted(device for device in here if not set(told.get(device, ())) <= set(here[device]))


def _quoted(text: str) -> str:
    """Return text as TOML takes it: JSON, but for surrogates and DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


async def clip(hub: aiohttp.ClientSession, one: source.Listed, clips: Path, told: Told) -> None:
    """Get what is not here of a clip. told(bytes): so many more are here. UserError when the hub does not give it."""
    folder = one.folder(clips)
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # The manifest is small, and says what the others have to be.
        await _file(hub, one, one.manifest, folder, "", told)
        listed = manifest.load(folder / one.manifest).listed
        hashes = {manifest.file_of(said): said["sha256"] for said in listed}
        for name in sorted(set(one.files) - {one.manifest}):
            await _file(hub, one, name, folder, hashes.get(name, ""), told)


@contextlib.contextmanager
def _disk(place: Path) -> Iterator[None]:
    """Say what keeps us from writing: a connection's faults are OSErrors, too, and go by."""
    try:
        yield
    except (aiohttp.ClientError, asyncio.TimeoutError):
        raise
    except OSError as e:
        raise UserError(f"{e.filename or place}: {e.strerror}; mend that and fetch again, it goes on") from None


async def _file(
    hub: aiohttp.ClientSession, one: source.Listed, name: str, folder: Path, sha256: str, told: Told
) -> None:
    """Get a file, but if it is here as it has to be. `sha256`: in hexadecimal, "" when that is not known."""
    path, part, size = folder / name, folder / f"{name}.part", one.files[name]
    if path.exists() and verify.sha256(path) == sha256:
        told(size)
        return
    address = URL(f"/clips/{quote(one.device, safe='')}/{one.number:06d}/{name}", encoded=True)
    if not sha256:
        part.unlink(missing_ok=True)
    begun = part.stat().st_size if part.exists() else 0
    told(begun)
    await _rest(hub, address, part, size, told)
    if begun and verify.sha256(part) != sha256:
        told(-size)
        part.unlink()
        await _rest(hub, address, part, size, told)
    part.replace(path)


async def _rest(hub: aiohttp.ClientSession, address: URL, part: Path, size: int, told: Told) -> None:
    """Go on with a file until it is whole, over whatever breaks the connection."""
    tries = 0
    while not part.exists() or part.stat().st_size != size:
        begun = part.stat().st_size if part.exists() else 0
        fault: Exception = UserError(f"{address}: the hub does not give its {size} bytes; list its clips again")
        try:
            await _some(hub, address, part, size, told)
        except aiohttp.ClientResponseError as e:
            raise fault if e.status in (404, 416) else e from None
        except (aiohttp.ClientError, asyncio.TimeoutError) as e:
            fault = e
        if part.exists() and part.stat().st_size > begun:
            tries = 0
            continue
        tries += 1
        if tries == _TRIES:
            raise fault
        await asyncio.sleep(_WAIT_S * 2 ** (tries - 1))


async def _some(hub: aiohttp.ClientSession, address: URL, part: Path, size: int, told: Told) -> None:
    """Append to a file what comes."""
    at = part.stat().st_size if part.exists() else 0
    if at > size:
        part.unlink()
        told(-at)
        at = 0
    async with hub.get(address, headers={"Range": f"bytes={at}-"} if at else {}) as response:
        if at and not response.headers.get("Content-Range", "").startswith(f"bytes {at}-"):
            part.unlink()
            told(-at)
            at = 0
        with part.open("ab") as f:
            async for block in response.content.iter_chunked(_BLOCK):
                at += len(block)
                if at > size:
                    raise UserError(f"{address}: more than the {size} bytes of its list come; list its clips again")
                f.write(block)
                told(len(block))
