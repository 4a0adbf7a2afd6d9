"""Where clips are: folders as the hub keeps them, <clips>/<device>/<number>/, with <clips>/signers.toml."""

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from patrolink.core.errors import UserError
from patrolink.evidence import manifest, verify

SIGNERS = "signers.toml"
_CLIP = re.compile(r"[0-9]{6}")


@dataclass(frozen=True)
class Listed:
    """A clip as a list tells of it.

    files    their names and bytes; trigger, time_ms: as its manifest says, when it is there
    verdict  when the hub told one
    """

    device: str
    number: int
    files: dict[str, int]
    trigger: str | None
    time_ms: int | None
    verdict: str | None

    @property
    def manifest(self) -> str:
        """The name of its manifest."""
        return f"{self.number:06d}.plm"

    @property
    def size(self) -> int:
        """Bytes of all files that the hub has."""
        return sum(self.files.values())

    def folder(self, clips: Path) -> Path:
        """Return where it belongs."""
        return clips / self.device / f"{self.number:06d}"

    def facts(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "device": self.device,
            "clip": self.number,
            "trigger": self.trigger,
            "time_ms": self.time_ms,
            "verdict": self.verdict,
            "files": [{"name": name, "bytes": size} for name, size in self.files.items()],
        }


class Place:
    """
    devices  folders of devices
    clip     name of the one clip that is meant, None for all
    signers  keys that devices sign with, as far as they are known
    """

    def __init__(self, path: Path, signers: str | None = None) -> None:
        """Find out what a folder is. UserError when it holds no clips."""
        path = path.resolve()
        if not path.is_dir():
            raise UserError(f"{path}: no folder; name that of a clip, of a device, or of a site's clips")
        self.clip = path.name if _CLIP.fullmatch(path.name) else None
        if self.clip is not None:
            self.devices = [path.parent]
        elif verify.clip_folders(path):
            self.devices = [path]
        else:
            self.devices = sorted(it for it in path.iterdir() if it.is_dir() and _is_device(it))
            if not self.devices:
                raise UserError(f"{path}: no clips in it; name the folder of a clip, of a device, or of a site's clips")
        given = Path(signers) if signers else self.devices[0].parent / SIGNERS
        self.signers: verify.Signers = verify.signers(given) if signers or given.exists() else {}

    def listing(self) -> list[Listed]:
        """Return the clips that are here, nothing proven."""
        try:
            return [
                _listed(device.name, folder)
                for device in self.devices
                for folder in verify.clip_folders(device)
                if self.clip in (None, folder.name)
            ]
        except OSError as e:
            raise UserError(f"{e.filename}: {e.strerror}; see that it can be read") from None


def _is_device(folder: Path) -> bool:
    """Whether a folder holds clips; one that is not ours to read (lost+found) is told and left out."""
    try:
        return bool(verify.clip_folders(folder))
    except UserError as e:
        print(f"warning: {e}", file=sys.stderr)
        return False


def _listed(device: str, folder: Path) -> Listed:
    files = {name: (folder / name).stat().st_size for name in verify.names(folder)}
    one = Listed(device, int(folder.name), files, None, None, None)
    if one.manifest not in files:
        return one
    head = manifest.load(folder / one.manifest).head
    return replace(one, trigger=head.get("trigger"), time_ms=head.get("time_ms"))
