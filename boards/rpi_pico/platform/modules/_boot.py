"""Mount the flash chip. A file system is created only on an empty chip: a damaged one holds configuration and keys."""

import gc

import rp2
import vfs

_SUPERBLOCKS = 2
_BLOCK_BYTES = 4096


def _is_empty(flash):
    data = bytearray(_BLOCK_BYTES)
    for block in range(_SUPERBLOCKS):
        flash.readblocks(block, data)
        if data != b"\xff" * _BLOCK_BYTES and data != bytes(_BLOCK_BYTES):
            return False
    return True


def _mount(flash):
    try:
        vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/")
    except OSError as e:
        if not _is_empty(flash):
            print("the file system is damaged and is not formatted; erase the flash and provision the board:", e)
            return
        vfs.VfsLfs2.mkfs(flash, progsize=256)
        vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/")


_mount(rp2.Flash())
del _is_empty, _mount
gc.collect()
