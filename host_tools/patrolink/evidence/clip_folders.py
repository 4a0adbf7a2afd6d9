"""Clips on disk as a hub stores them: <clips>/<device>/<number>/, and public keys in <clips>/signers.toml."""

import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.evidence import manifest, segment
from patrolink.evidence.verdict import Signers

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SIGNERS_FILE = "signers.toml"
_FOLDER = re.compile(r"[0-9]{6}")
_MANIFEST = re.compile(r"[0-9]{6}\.plm")
_SEGMENT = re.compile(r"[0-9]{6}-[0-9]{6}\.pls")


# --- names and files of a clip ----------------------------------------------------------------------------------------


def clip_folder_name(number: int) -> str:
    """Return the folder name of a clip."""
    return f"{number:06d}"


def manifest_name(number: int) -> str:
    """Return the name of a clip's manifest."""
    return f"{number:06d}.plm"


def clip_number(folder: Path) -> int:
    """Return the number that a clip folder is named by, -1 when its name is not one."""
    return int(folder.name) if _FOLDER.fullmatch(folder.name) else -1


def file_size_max(name: str) -> int:
    """Return the largest size in bytes of a clip's file, by its name; -1 when no file of a clip is named so."""
    if _MANIFEST.fullmatch(name):
        return manifest.BYTES_MAX
    return segment.BYTES_MAX if _SEGMENT.fullmatch(name) else -1


def clip_folders(device: Path) -> list[Path]:
    """Return the clip folders of a device, by number."""
    try:
        return sorted(path for path in device.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir())
    except OSError as e:
        raise UserError(f"{device}: {e.strerror}; give a folder of clips") from None


def clip_files(folder: Path) -> list[str]:
    """Return the names of a clip's manifests and segments, sorted. Links are left out. Raises OSError."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_file(follow_symlinks=False) and e.name.endswith((".plm", ".pls")))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# --- signers.toml -----------------------------------------------------------------------------------------------------


def read_signers(path: Path) -> dict[str, list[str]]:
    """Return the public keys of each device from a signers.toml; UserError when the file is not valid."""
    try:
        # What comes with a clip may be a pipe, or a link to an endless file.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: not a regular file; use the file of the devices' public keys from the hub")
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; use the file of the devices' public keys from the hub") from None
    return parse_signers(data, str(path))


def parse_signers(data: bytes, origin: str) -> dict[str, list[str]]:
    """Return the public keys of each device from the text of a signers.toml.

    Args:
        data: The text, UTF-8.
        origin: A path or address, for the error.

    Raises:
        UserError: The text is not a valid signers.toml.
    """
    try:
        signers: dict[str, list[str]] = tomllib.loads(data.decode()).get("signers", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, RecursionError) as e:
        raise UserError(f"{origin}: not valid TOML ({e}); get signers.toml from the hub again") from None
    valid = isinstance(signers, dict) and all(
        isinstance(keys, list) and all(isinstance(k, str) and re.fullmatch("0[23][0-9a-f]{64}", k) for k in keys)
        for keys in signers.values()
    )
    if not valid:
        raise UserError(f'{origin}: [signers] must hold "device" = ["66 hexadecimal digits", ...] for each device')
    return signers


def format_signers(signers: Mapping[str, Iterable[str]]) -> str:
    """Return the text of a signers.toml."""
    lines = [f"{_toml_string(device)} = {json.dumps(list(keys))}\n" for device, keys in sorted(signers.items())]
    return "[signers]\n" + "".join(lines)


def _toml_string(text: str) -> str:
    """Return a TOML string: JSON's form, but DEL escaped and other characters outside ASCII not."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


# --- collections of clips ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClipListing:
    """A clip as a list shows it, unverified.

    Args:
        device: The device that recorded it.
        number: The clip's number.
        files: Bytes of each file, by name.
        trigger: What started the recording, from the manifest; None without one.
        time_ms: Unix time of the trigger, from the manifest; None without one.
        verdict: The verdict that a hub reports; None when it reports none.
    """

    device: str
    number: int
    files: dict[str, int]
    trigger: str | None
    time_ms: int | None
    verdict: str | None

    @property
    def manifest(self) -> str:
        """The name of the clip's manifest."""
        return manifest_name(self.number)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    def folder(self, clips: Path) -> Path:
        """Return the clip's folder below a site's folder of clips."""
        return clips / self.device / clip_folder_name(self.number)


class ClipSource:
    """The clips that a path names: one clip, the clips of a device, or those of a site.

    Args:
        path: A folder of a clip, of a device, or of a site's clips.
        signers: A signers.toml; None takes the one of the site's folder, if there is one.

    Raises:
        UserError: There are no clips in the folder, or the signers.toml is not valid.
    """

    def __init__(self, path: Path, signers: str | None = None) -> None:
        path = Path(os.path.realpath(path))  # `resolve` raises RuntimeError for a loop of links
        if not path.is_dir():
            raise UserError(f"{path}: not a folder; give the folder of a clip, of a device, or of a site's clips")
        self.clip = path.name if _FOLDER.fullmatch(path.name) else None  # the only clip; None: all clips
        if self.clip is not None:
            self.devices = [path.parent]
        elif clip_folders(path):
            self.devices = [path]
        else:
            self.devices = sorted(folder for folder in path.iterdir() if folder.is_dir() and _has_clips(folder))
            if not self.devices:
                raise UserError(f"{path}: no clips found; give the folder of a clip, of a device, or of a site's clips")
        signers_path = Path(signers) if signers else self.devices[0].parent / SIGNERS_FILE
        self.signers: Signers = read_signers(signers_path) if signers or signers_path.exists() else {}

    def listing(self) -> list[ClipListing]:
        """Return the clips, unverified."""
        try:
            return [
                _listing(device.name, folder)
                for device in self.devices
                for folder in clip_folders(device)
                if self.clip in (None, folder.name)
            ]
        except OSError as e:
            raise UserError(f"{e.filename}: {e.strerror}; make it readable and list again") from None


def _has_clips(folder: Path) -> bool:
    """Return whether a folder holds clips. One that cannot be read (lost+found) is skipped with a warning."""
    try:
        return bool(clip_folders(folder))
    except UserError as e:
        notes.warn(str(e))
        return False


def _listing(device: str, folder: Path) -> ClipListing:
    files = {name: (folder / name).stat().st_size for name in clip_files(folder)}
    listing = ClipListing(device, int(folder.name), files, None, None, None)
    if listing.manifest not in files:
        return listing
    head = manifest.load(folder / listing.manifest).head
    return replace(listing, trigger=head.get("trigger"), time_ms=head.get("time_ms"))
