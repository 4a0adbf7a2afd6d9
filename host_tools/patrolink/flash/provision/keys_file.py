"""Changes of a keys file that keep every other line of it."""

import re
from collections.abc import Mapping
from pathlib import Path

from patrolink.core import keys
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey

_EMPTY = b"[devices]\n"


def read(path: Path) -> bytes:
    """Return the content of a keys file; that of an empty one if it does not exist.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return _EMPTY
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; correct its owner, or `keys` in the site file") from None


def changed(path: Path, data: bytes, changes: Mapping[str, DeviceKey]) -> bytes:
    """Return the content of a keys file with new or replaced keys.

    Args:
        path: The file, for messages.
        data: Its content.
        changes: Keys by device id.

    Raises:
        UserError: The content is invalid, or has a form that this cannot change.
    """
    before = keys.parse(path, data)
    text = data.decode()
    for device, key in changes.items():
        line = keys.entry_line(device, key)
        if device in before:
            pattern = rf"^[ \t]*(?:{re.escape(device)}|[\"']{re.escape(device)}[\"'])[ \t]*=.*$\n?"
            text = re.sub(pattern, lambda _, line=line: line, text, count=1, flags=re.M)  # type: ignore[misc]
        else:
            text += ("" if text.endswith("\n") or not text else "\n") + line
    result = text.encode()
    try:
        complete = keys.parse(path, result) == {**before, **changes}
    except UserError:
        complete = False
    if not complete:
        raise UserError(
            f"{path}: new keys cannot be entered; write one device per line, with [devices] as the only table"
        )
    return result
