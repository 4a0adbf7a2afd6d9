"""The update area of a board's flash: boot sectors and slots, see agent/update.

On the ports rp2 and esp32 it is MicroPython's ROMFS partition, a block device that is mapped into memory. The port
mps2_an385 has a segment for each slot.
"""

import sys

import vfs
from hal.baremetal.block_flash import BLOCK_BYTES, BlockFlash, PagedFlash

_GET_SEGMENT = 2  # of vfs.rom_ioctl
_UPDATE_AREA = 1
_BOOT_SECTORS = 2
_FOLDER = "/rom"


def unmount_slots():
    """Undo what MicroPython does at its start: it mounts a ROMFS, whatever it holds, and appends it to sys.path."""
    try:
        vfs.umount(_FOLDER)
    except OSError:
        pass  # there was none
    for folder in (_FOLDER, _FOLDER + "/lib"):
        if folder in sys.path:
            sys.path.remove(folder)


def open_flash():
    """Return the flash port, or None on a board without slots."""
    try:
        import board  # of the mps2_an385 port
    except ImportError:
        partition = _partition()
        return partition and PagedFlash(partition, _slot_bytes())
    return BlockFlash(board.Flash(_UPDATE_AREA), board.SLOT_BYTES)


def mount_slot(slot):
    """Mount the content of a slot in place and return its folder. Raises OSError."""
    vfs.mount(vfs.VfsRom(_content(slot)), _FOLDER)
    return _FOLDER


def _content(slot):
    """Return the memory that the content of a slot is mapped to."""
    try:
        import board  # noqa: F401
    except ImportError:
        end = _BOOT_SECTORS * BLOCK_BYTES + (slot + 1) * _slot_bytes()
        return memoryview(_partition())[end - _slot_bytes() + BLOCK_BYTES : end]
    return vfs.rom_ioctl(_GET_SEGMENT, slot)


def _partition():
    """Return the ROMFS partition, or None on a board without slots."""
    partition = vfs.rom_ioctl(_GET_SEGMENT, 0) if hasattr(vfs, "rom_ioctl") and _slot_bytes() else None
    return None if isinstance(partition, int) else partition  # an error number


def _slot_bytes():
    try:
        import platform_build  # frozen by the recipe of the board
    except ImportError:
        return 0
    return platform_build.SLOT_BYTES
