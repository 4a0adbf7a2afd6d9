"""The update area of a board's flash: boot sectors and slots, see agent/update."""

import sys

import vfs

_BLOCK_BYTES = 4096
_ERASE_BLOCK = 6  # MP_BLOCKDEV_IOCTL_BLOCK_ERASE
_GET_SEGMENT = 2  # of vfs.rom_ioctl
_UPDATE_AREA = 1
_FOLDER = "/rom"


class UpdateFlash:
    """Flash port of agent.update.boot_journal.

    Args:
        blocks: Block device of the update area.
        slot_bytes: Bytes of a slot.
    """

    def __init__(self, blocks, slot_bytes):
        self._blocks = blocks
        self.slot_bytes = slot_bytes

    def read_into(self, offset, buffer):
        """Fill the buffer."""
        self._blocks.readblocks(offset // _BLOCK_BYTES, buffer, offset % _BLOCK_BYTES)

    def erase(self, offset):
        """Erase the sector at an offset."""
        self._blocks.ioctl(_ERASE_BLOCK, offset // _BLOCK_BYTES)

    def program(self, offset, data):
        """Program erased flash."""
        self._blocks.writeblocks(offset // _BLOCK_BYTES, data, offset % _BLOCK_BYTES)


def unmount_slots():
    """Undo what MicroPython does at its start: it mounts slot a, whatever lies there, and appends it to sys.path."""
    try:
        vfs.umount(_FOLDER)
    except OSError:
        pass  # there is no file system in slot a
    for folder in (_FOLDER, _FOLDER + "/lib"):
        if folder in sys.path:
            sys.path.remove(folder)


def open_flash():
    """Return the UpdateFlash, or None on a board without slots."""
    try:
        import board  # of the mps2_an385 port
    except ImportError:
        return None
    return UpdateFlash(board.Flash(_UPDATE_AREA), board.SLOT_BYTES)


def mount_slot(slot):
    """Mount the content of a slot in place and return its folder. Raises OSError."""
    vfs.mount(vfs.VfsRom(vfs.rom_ioctl(_GET_SEGMENT, slot)), _FOLDER)
    return _FOLDER
