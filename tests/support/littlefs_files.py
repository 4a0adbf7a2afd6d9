"""Reads files of an emulated board from the file of its flash chip."""

from collections.abc import Iterable
from pathlib import Path

from littlefs import LittleFS, UserContext

_BLOCK_BYTES = 4096


def read_files(chip: Path, flash_kb: int, names: Iterable[str]) -> dict[str, bytes]:
    """Return the contents of files by name.

    Args:
        chip: File of the chip.
        flash_kb: Size of its file system.
        names: Paths on the board.
    """
    context = UserContext(flash_kb << 10)
    with chip.open("rb") as f:
        context.buffer[:] = f.read(flash_kb << 10)
    blocks = (flash_kb << 10) // _BLOCK_BYTES
    fs = LittleFS(context=context, block_size=_BLOCK_BYTES, block_count=blocks, prog_size=256, mount=True)
    contents = {}
    for name in names:
        with fs.open(name, "rb") as f:
            contents[name] = f.read()
    return contents
