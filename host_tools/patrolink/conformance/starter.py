"""Writes what a vendor starts from: specification, schema, C codec, vectors, adapters and the example device."""

import shutil
from pathlib import Path

from patrolink.core import resources
from patrolink.core.errors import UserError

_DOCUMENTS = ("SPEC.md", "PTT.md", "CLIP.md", "IMAGE.md", "schema.toml")
_FOLDERS = ("generated", "vectors", "adapters", "example_device", "patrolink_protocol")


def write(folder: Path) -> int:
    """Copy the files of the protocol to a new folder; return how many.

    Raises:
        UserError: The folder exists or cannot be written.
    """
    source = resources.root() / "protocol"
    try:
        folder.mkdir(parents=True)
        for name in _DOCUMENTS:
            shutil.copy(source / name, folder)
        for name in _FOLDERS:
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    except FileExistsError:
        raise UserError(f"{folder}: it exists already; name a folder that does not") from None
    except OSError as e:
        raise UserError(f"{folder}: {e.strerror}; name a folder that can be written") from None
    return sum(path.is_file() for path in folder.rglob("*"))
