"""Where clips are: folders as the hub keeps them, <clips>/<device>/<number>/, with <clips>/signers.toml."""

import re
from pathlib import Path

from patrolink.clips import verify
from patrolink.errors import UserError

SIGNERS = "signers.toml"
_CLIP = re.compile(r"[0-9]{6}")


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
            self.devices = sorted(it for it in path.iterdir() if it.is_dir() and verify.clip_folders(it))
            if not self.devices:
                raise UserError(f"{path}: no clips in it; name the folder of a clip, of a device, or of a site's clips")
        given = Path(signers) if signers else self.devices[0].parent / SIGNERS
        self.signers: verify.Signers = verify.signers(given) if signers or given.exists() else {}
