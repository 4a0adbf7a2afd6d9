"""Files of a site's state that verbs of the tool change and running hubs follow: validated JSON, replaced at once."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from patrolink.core.errors import UserError
from patrolink.hub.infra import persistence

M = TypeVar("M", bound=BaseModel)
Stamp = tuple[int, int, int]
_MAX_BYTES = 8 << 20


def load(path: Path, model: type[M]) -> M:
    """Read a file. A missing file has the defaults of its model.

    Raises:
        UserError: The file cannot be read or is invalid.
    """
    try:
        with path.open("rb") as f:
            data = f.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise UserError(f"{path}: longer than {_MAX_BYTES} bytes; restore it from a backup")
        return model.model_validate_json(data)
    except FileNotFoundError:
        return model()
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; correct its owner, or run this as the hub's user") from None
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "file"
        raise UserError(f"{path}: {field}: {first['msg']}; restore it from a backup") from None


def save(path: Path, content: BaseModel) -> None:
    """Replace a file durably, and give it to the owner of its folder.

    Raises:
        OSError: Storage failed. The previous file is intact.
        UserError: The file would be too large to be read again.
    """
    data = content.model_dump_json(indent=1).encode()
    if len(data) > _MAX_BYTES:
        raise UserError(f"{path}: would have {len(data)} bytes, at most {_MAX_BYTES} can be read; name fewer devices")
    persistence.replace_file(path, data)
    give_to_owner(path)


def give_to_owner(path: Path) -> None:
    """Give what root has written to the owner of its folder, so that the hub can read it. Raises OSError."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, so that two changes at the same time do not lose one.

    Raises:
        OSError: The folder cannot be written.
    """
    import fcntl  # not on Windows, where a site file can be checked but no hub runs

    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def stamp(path: Path) -> Stamp | None:
    """Return what changes with each replacement of a file; None if it does not exist.

    Raises:
        UserError: The folder cannot be read.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}") from None
    return status.st_mtime_ns, status.st_size, status.st_ino
