"""Mounts the file system of a board at its start; the platform's _boot.py calls it."""

import vfs

_SUPERBLOCKS = 2
_BLOCK_BYTES = 4096
_PAGE_BYTES = 256


def mount(flash):
    """Mount a LittleFS at /. It is created only on an empty chip: a damaged one holds configuration and keys.

    Args:
        flash: Block device.
    """
    try:
        vfs.mount(vfs.VfsLfs2(flash, progsize=_PAGE_BYTES), "/")
    except OSError as e:
        if not _is_empty(flash):
            print("the file system is damaged and is not formatted; erase the flash and provision the board:", e)
            return
        vfs.VfsLfs2.mkfs(flash, progsize=_PAGE_BYTES)
        vfs.mount(vfs.VfsLfs2(flash, progsize=_PAGE_BYTES), "/")


def _is_empty(flash):
    data = bytearray(_BLOCK_BYTES)
    for block in range(_SUPERBLOCKS):
        flash.readblocks(block, data)
        if data != b"\xff" * _BLOCK_BYTES and data != bytes(_BLOCK_BYTES):
            return False
    return True
