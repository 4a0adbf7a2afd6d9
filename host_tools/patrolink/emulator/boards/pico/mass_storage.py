"""USB mass storage, bulk-only transport, and the part of SCSI that a drive of 512-byte blocks needs."""

import struct

from patrolink.core.errors import DeviceError
from patrolink.emulator.boards.pico.usb_host import MASS_STORAGE, UsbHost

BLOCK_BYTES = 512
_READ_10, _WRITE_10, _READ_CAPACITY = 0x28, 0x2A, 0x25
_COMMAND, _STATUS = b"USBC", b"USBS"
_COMMAND_BLOCK_BYTES = 16
_IN = 0x80


class Drive:
    """The drive that a device is.

    Args:
        host: Its host, attached.
    """

    def __init__(self, host: UsbHost) -> None:
        self._host = host
        self._endpoints = host.endpoints[MASS_STORAGE]
        self._tag = 0

    def blocks(self) -> int:
        """Return the size of the drive in blocks."""
        last, size = struct.unpack(">II", self._command(bytes([_READ_CAPACITY]) + bytes(9), 8))
        assert size == BLOCK_BYTES
        return int(last) + 1

    def read(self, block: int, count: int = 1) -> bytes:
        """Return the content of blocks."""
        return self._command(struct.pack(">BBIBHB", _READ_10, 0, block, 0, count, 0), BLOCK_BYTES * count)

    def write(self, block: int, data: bytes) -> None:
        """Write whole blocks."""
        command = struct.pack(">BBIBHB", _WRITE_10, 0, block, 0, len(data) // BLOCK_BYTES, 0)
        self._command(command, data=data)

    def _command(self, command: bytes, length: int = 0, data: bytes = b"") -> bytes:
        self._tag += 1
        head = (_COMMAND, self._tag, len(data) or length, 0 if data else _IN, 0, len(command))
        block = struct.pack("<4sIIBBB", *head) + command.ljust(_COMMAND_BLOCK_BYTES, b"\0")
        self._host.write(self._endpoints.out, block)
        answer = b""
        if data:
            self._host.write(self._endpoints.out, data)
        while len(answer) < length:
            answer += self._host.read(self._endpoints.in_)
        signature, tag, _, status = struct.unpack("<4sIIB", self._host.read(self._endpoints.in_))
        if signature != _STATUS or tag != self._tag or status:
            raise DeviceError(f"emulated Pico: its drive refused SCSI command {command[0]:#x} with status {status}")
        return answer
