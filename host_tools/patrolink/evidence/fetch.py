"""Downloads clips from a hub's console. Complete files are kept, partial ones are continued.

Nothing that the hub sends is trusted: names and sizes are checked against what a clip can have, and files against the
hashes in the manifest.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from patrolink_protocol.clip import TRIGGERS
from yarl import URL

from patrolink.core import untrusted_json
from patrolink.core.errors import ServerError, UserError
from patrolink.core.text import plural
from patrolink.evidence import manifest
from patrolink.evidence.clip_folders import (
    SIGNERS_FILE,
    ClipListing,
    clip_folder_name,
    file_sha256,
    file_size_max,
    format_signers,
    parse_signers,
    read_signers,
)
from patrolink.evidence.verdict import VERDICTS

_LOG = logging.getLogger("patrolink.fetch")
_DEVICE = re.compile(r"(?!\.{1,2}$)[^/\0]{1,64}")
_ATTEMPTS_MAX = 5  # in a row without new bytes
_RETRY_S = 1.0  # before the second attempt; doubled for each further one
_BLOCK_BYTES = 1 << 16
_LIST_BYTES_MAX = 64 << 20  # a hundred thousand clips

Progress = Callable[[int], None]  # called with the number of bytes that were added; negative when some are dropped


async def list_clips(hub: aiohttp.ClientSession) -> list[ClipListing]:
    """Return the clips of a hub; ServerError when the answer is not a list of clips."""
    try:
        return [_parse_listing(row) for row in untrusted_json.parse(await _get(hub, "/clips"))]
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise ServerError(
            f"the hub's answer is not a valid list of clips ({e!r}); check that hub and tool have the same version"
        ) from None


async def _get(hub: aiohttp.ClientSession, address: str) -> bytes:
    try:
        async with hub.get(address) as response:
            data = bytearray()
            async for block in response.content.iter_chunked(_BLOCK_BYTES):
                data += block
                if len(data) > _LIST_BYTES_MAX:
                    limit_mb = _LIST_BYTES_MAX >> 20
                    raise ServerError(f"{address}: the answer exceeds {limit_mb} MB; check the address of the hub")
            return bytes(data)
    except aiohttp.ClientResponseError as e:
        if e.status == 404:
            raise ServerError("the hub takes no clips; set `uploads` in its site file") from None
        raise


def _parse_listing(row: dict[str, Any]) -> ClipListing:
    """Return a row of the list; ValueError for names and sizes that no clip can have."""
    device, number = row["device"], row["clip"]
    if not isinstance(device, str) or not _DEVICE.fullmatch(device) or not device.isprintable():
        raise ValueError(f"device {device!r}")
    if type(number) is not int or not 0 <= number <= manifest.CLIP_NUMBER_MAX:
        raise ValueError(f"clip {number!r}")
    files = {}
    for file in row["files"]:
        name, size = file["name"], file["bytes"]
        if type(size) is not int or not 0 <= size <= file_size_max(name):
            raise ValueError(f"file {name!r} with the size {size!r}")
        files[name] = size
    trigger, time_ms, verdict = row.get("trigger"), row.get("time_ms"), row.get("verdict")
    return ClipListing(
        device,
        number,
        files,
        trigger if trigger in TRIGGERS else None,
        time_ms if isinstance(time_ms, int) else None,
        verdict if verdict in VERDICTS else None,
    )


async def fetch_signers(hub: aiohttp.ClientSession, clips: Path) -> list[str]:
    """Add the public keys of unknown devices to signers.toml. Known keys stay: clips were fetched under them.

    Returns:
        The devices for which the hub has keys that the file does not have.
    """
    address = f"/clips/{SIGNERS_FILE}"
    hub_signers = parse_signers(await _get(hub, address), address)
    path = clips / SIGNERS_FILE
    signers = read_signers(path) if path.exists() else {}
    if not set(hub_signers) <= set(signers):
        with _disk_errors(path):
            clips.mkdir(parents=True, exist_ok=True)
            path.write_text(format_signers(hub_signers | signers), encoding="utf-8")
    return sorted(device for device in signers if not set(hub_signers.get(device, ())) <= set(signers[device]))


async def fetch_clip(hub: aiohttp.ClientSession, listing: ClipListing, clips: Path, progress: Progress) -> None:
    """Download the missing files of a clip.

    Args:
        hub: A session with the hub's console.
        listing: The clip.
        clips: The site's folder of clips.
        progress: Receives the progress in bytes.

    Raises:
        ServerError: The hub does not deliver a file.
        UserError: A file cannot be written.
    """
    folder = listing.folder(clips)
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # The manifest is small and holds the hashes of the others.
        await _fetch_file(hub, listing, listing.manifest, folder, "", progress)
        lines = manifest.load(folder / listing.manifest).listed
        hashes = {manifest.segment_file(line): line["sha256"] for line in lines}
        for name in sorted(set(listing.files) - {listing.manifest}):
            await _fetch_file(hub, listing, name, folder, hashes.get(name, ""), progress)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of writing into UserError. Those of the connection pass, which may be OSErrors too."""
    try:
        yield
    except (aiohttp.ClientError, asyncio.TimeoutError):
        raise
    except OSError as e:
        raise UserError(f"{e.filename or path}: {e.strerror}; correct that and fetch again to continue") from None


async def _fetch_file(
    hub: aiohttp.ClientSession, listing: ClipListing, name: str, folder: Path, sha256: str, progress: Progress
) -> None:
    """Download a file unless it is complete. `sha256` in hexadecimal, empty when unknown."""
    path, part, size = folder / name, folder / f"{name}.part", listing.files[name]
    if path.exists() and file_sha256(path) == sha256:
        progress(size)
        return
    folder_name = clip_folder_name(listing.number)
    address = URL(f"/clips/{quote(listing.device, safe='')}/{folder_name}/{name}", encoded=True)
    if not sha256:
        part.unlink(missing_ok=True)
    resumed_at = _size(part)
    progress(resumed_at)
    await _download(hub, address, part, size, progress)
    if resumed_at and file_sha256(part) != sha256:
        progress(-size)
        part.unlink()
        await _download(hub, address, part, size, progress)
    part.replace(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def _download(hub: aiohttp.ClientSession, address: URL, part: Path, size: int, progress: Progress) -> None:
    """Continue a file until it is complete; retry when the connection is lost."""
    attempts = 0
    while not part.exists() or part.stat().st_size != size:
        start = _size(part)
        error: Exception = ServerError(
            f"{address}: the hub does not deliver its {plural(size, 'byte')}; list its clips again"
        )
        try:
            await _download_part(hub, address, part, size, progress)
        except aiohttp.ClientResponseError as e:
            raise error if e.status in (404, 416) else e from None
        except (aiohttp.ClientError, asyncio.TimeoutError) as e:
            error = e
        if _size(part) > start:
            attempts = 0
            continue
        attempts += 1
        if attempts == _ATTEMPTS_MAX:
            raise error
        delay_s = _RETRY_S * 2 ** (attempts - 1)
        _LOG.info("%s: %s; attempt %d in %g s", address, error, attempts + 1, delay_s)
        await asyncio.sleep(delay_s)


async def _download_part(hub: aiohttp.ClientSession, address: URL, part: Path, size: int, progress: Progress) -> None:
    """Append what one request delivers."""
    offset = _size(part)
    if offset > size:
        offset = _drop(part, offset, progress)
    async with hub.get(address, headers={"Range": f"bytes={offset}-"} if offset else {}) as response:
        if offset and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            offset = _drop(part, offset, progress)
        with part.open("ab") as f:
            async for block in response.content.iter_chunked(_BLOCK_BYTES):
                offset += len(block)
                if offset > size:
                    raise ServerError(
                        f"{address}: the hub sends more than the {plural(size, 'byte')} it listed; list again"
                    )
                f.write(block)
                progress(len(block))


def _drop(part: Path, size: int, progress: Progress) -> int:
    part.unlink()
    progress(-size)
    return 0
