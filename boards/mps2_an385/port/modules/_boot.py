"""Mount the flash chip. Create the file system if it does not exist."""

import gc

import board
import vfs

_flash = board.Flash()
try:
    _fs = vfs.VfsLfs2(_flash, progsize=256)
except OSError:
    vfs.VfsLfs2.mkfs(_flash, progsize=256)
    _fs = vfs.VfsLfs2(_flash, progsize=256)
vfs.mount(_fs, "/")
del _flash, _fs
gc.collect()
