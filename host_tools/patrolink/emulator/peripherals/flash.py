"""Flash chip of an emulated board: a file with the littlefs that the board's MicroPython mounts."""

import os
from pathlib import Path

from littlefs import LittleFS, LittleFSError, UserContext

_BLOCK = 4096
_CHIP = 16 << 20  # the file covers the whole PSRAM that stands in for the chip


def _mount(path: Path, kb: int) -> LittleFS:
    data = path.read_bytes()[: kb << 10] if path.exists() else b""
    context = UserContext(kb << 10)
    context.buffer[: len(data)] = data
    fs = LittleFS(context=context, block_size=_BLOCK, block_count=(kb << 10) // _BLOCK, prog_size=256, mount=False)
    try:
        fs.mount()
    except LittleFSError:
        fs.format()
        fs.mount()
    return fs


def provision(path: Path, kb: int, name: str, content: bytes) -> None:
    """Put a file on the board's file system, which is created if necessary.

    The file holds keys, so its mode is 0600.
    """
    fs = _mount(path, kb)
    with fs.open(name, "wb") as f:
        f.write(content)
    fs.unmount()
    with os.fdopen(os.open(path, os.O_CREAT | os.O_RDWR, 0o600), "r+b") as out:
        out.write(fs.context.buffer)
        out.truncate(_CHIP)
