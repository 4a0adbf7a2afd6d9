"""Model of the loader in an ESP32's ROM, and of the stub that esptool loads over it.

It does what esptool says to an array that stands for the flash chip: serial protocol of "ESP32 Serial Protocol" in the
documentation of esptool. Packets are framed by SLIP (RFC 1055).
"""

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

FLASH_BYTES = 8 << 20
ESP32_MAGIC, ESP32_S2_MAGIC = 0x00F01D83, 0x000007C6
_MAGIC_REGISTER = 0x40001000
_EFUSE = 0x3FF5A000
_SPI = 0x3FF42000
_SPI_COMMAND, _SPI_OPCODE, _SPI_DATA = _SPI, _SPI + 0x24, _SPI + 0x80
_SPI_EXECUTE = 1 << 18
_READ_FLASH_ID, _FLASH_ID = 0x9F, 0x1740C8  # GigaDevice, 8 MB
_OK, _BAD_COMMAND, _BAD_CHECKSUM = b"\0\0", b"\1\5", b"\1\7"
_SYNC_ANSWERS = 8
_READ_BLOCK = _SECTOR_BYTES = 4096

Handler = Callable[[bytes, int], None]  # data, checksum


@dataclass
class Faults:
    """What is wrong with a board. A count of -1 never comes.

    Attributes:
        silent: It does not answer.
        cut_after: Flash writes until it is unplugged in the middle of the next one.
        corrupt_answer: Answers until one has a flipped bit.
        stuck_bit_at: Address whose lowest bit the chip cannot program to 0.
    """

    silent: bool = False
    cut_after: int = -1
    corrupt_answer: int = -1
    stuck_bit_at: int = -1


class EspRom:
    """The loader of one chip.

    Args:
        mac: Its MAC.
        send: Sends bytes to the host.
        magic: Value of the register from which esptool detects the type of the chip.
        faults: What is wrong with it.

    Attributes:
        flash: Content of the flash chip.
        commands: Number of commands of each kind that were executed.
        unplugged: Whether the fault `cut_after` has come.
    """

    def __init__(
        self, mac: bytes, send: Callable[[bytes], None], magic: int = ESP32_MAGIC, faults: Faults | None = None
    ) -> None:
        self.flash = bytearray(b"\xff" * FLASH_BYTES)
        self.commands: dict[int, int] = {}
        self.unplugged = False
        self._send, self._faults = send, faults or Faults()
        self._registers = {
            _MAGIC_REGISTER: magic,
            _EFUSE + 4: int.from_bytes(mac[2:], "big"),
            _EFUSE + 8: int.from_bytes(mac[:2], "big"),
            _EFUSE + 12: 1 << 15 | 1 << 13,  # revision 1 of the chip
            _EFUSE + 20: 1 << 20,
            0x3FF6607C: 1 << 31,  # revision 3
        }
        self._fixed = frozenset(self._registers)
        self._input = b""
        self._stub = False
        self._at = 0
        self._inflater = zlib.decompressobj()
        self._handlers: dict[int, Handler] = {
            0x02: self._flash_begin,
            0x03: self._flash_data,
            0x06: self._memory_end,
            0x08: self._sync,
            0x09: self._write_register,
            0x0A: self._read_register,
            0x10: self._flash_deflated_begin,
            0x11: self._flash_deflated_data,
            0x13: self._flash_md5,
            0xD2: self._read_flash,
        }

    def feed(self, data: bytes) -> None:
        """Take bytes from the host."""
        if self._faults.silent or self.unplugged:
            return
        *packets, self._input = (self._input + data).split(b"\xc0")
        for packet in packets:
            packet = packet.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
            if len(packet) >= 8 and packet[0] == 0:
                self._execute(packet)

    def _execute(self, packet: bytes) -> None:
        _, command, _, checksum = struct.unpack_from("<BBHI", packet)
        self.commands[command] = self.commands.get(command, 0) + 1
        handler = self._handlers.get(command)
        if handler is not None:
            handler(packet[8:], checksum)
        elif command in (0x04, 0x05, 0x07, 0x0B, 0x0D, 0x0F, 0x12):  # end, memory, SPI, baud rate: nothing to model
            self._answer(command)
        else:
            self._answer(command, status=_BAD_COMMAND)

    def _answer(self, command: int, value: int = 0, data: bytes = b"", status: bytes = _OK) -> None:
        data += status + (b"" if self._stub else b"\0\0")
        self._frame(struct.pack("<BBHI", 1, command, len(data), value) + data)

    def _frame(self, packet: bytes) -> None:
        if self.unplugged:
            return
        if self._faults.corrupt_answer == 0:
            packet = bytes([packet[0], packet[1] ^ 1]) + packet[2:]
        self._faults.corrupt_answer -= 1
        self._send(b"\xc0" + packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0")

    def _program(self, data: bytes) -> None:
        if self._faults.cut_after == 0:
            data, self.unplugged = data[: len(data) // 2], True
        self._faults.cut_after -= 1
        end = self._at + len(data)
        # A program only clears bits.
        self.flash[self._at : end] = bytes(old & new for old, new in zip(self.flash[self._at : end], data, strict=True))
        if self._at <= self._faults.stuck_bit_at < end:
            self.flash[self._faults.stuck_bit_at] |= 1
        self._at = end

    def _sync(self, data: bytes, checksum: int) -> None:
        for _ in range(_SYNC_ANSWERS):
            self._answer(0x08, 0 if self._stub else 0x20120707)

    def _read_register(self, data: bytes, checksum: int) -> None:
        (address,) = struct.unpack_from("<I", data)
        self._answer(0x0A, self._registers.get(address, 0))

    def _write_register(self, data: bytes, checksum: int) -> None:
        for address, value, _, _ in struct.iter_unpack("<4I", data[: len(data) // 16 * 16]):
            if address == _SPI_COMMAND and value & _SPI_EXECUTE:
                opcode = self._registers.get(_SPI_OPCODE, 0) & 0xFF
                self._registers[_SPI_DATA] = _FLASH_ID if opcode == _READ_FLASH_ID else 0
                value = 0  # the command is complete
            if address not in self._fixed:
                self._registers[address] = value
        self._answer(0x09)

    def _memory_end(self, data: bytes, checksum: int) -> None:
        self._answer(0x06)
        (stay_in_loader,) = struct.unpack_from("<I", data)
        if not stay_in_loader and not self._stub:
            self._stub = True
            self._frame(b"OHAI")

    def _flash_begin(self, data: bytes, checksum: int) -> None:
        self._erase(data)
        self._answer(0x02)

    def _erase(self, data: bytes) -> None:
        size, _, _, self._at = struct.unpack_from("<4I", data)
        begin = self._at // _SECTOR_BYTES * _SECTOR_BYTES
        end = -(-(self._at + size) // _SECTOR_BYTES) * _SECTOR_BYTES
        self.flash[begin:end] = b"\xff" * (end - begin)

    def _flash_data(self, data: bytes, checksum: int) -> None:
        if self._checked(0x03, data[16:], checksum):
            (size,) = struct.unpack_from("<I", data)
            self._program(data[16 : 16 + size])
            self._answer(0x03)

    def _flash_deflated_begin(self, data: bytes, checksum: int) -> None:
        self._erase(data)
        self._inflater = zlib.decompressobj()
        self._answer(0x10)

    def _flash_deflated_data(self, data: bytes, checksum: int) -> None:
        if self._checked(0x11, data[16:], checksum):
            self._program(self._inflater.decompress(data[16:]))
            self._answer(0x11)

    def _checked(self, command: int, body: bytes, checksum: int) -> bool:
        computed = 0xEF
        for byte in body:
            computed ^= byte
        if computed != checksum & 0xFF:
            self._answer(command, status=_BAD_CHECKSUM)
        return computed == checksum & 0xFF

    def _flash_md5(self, data: bytes, checksum: int) -> None:
        address, size = struct.unpack_from("<2I", data)
        digest = hashlib.md5(self.flash[address : address + size], usedforsecurity=False)
        self._answer(0x13, data=digest.digest() if self._stub else digest.hexdigest().encode())

    def _read_flash(self, data: bytes, checksum: int) -> None:
        address, size = struct.unpack_from("<2I", data)
        content = bytes(self.flash[address : address + size])
        self._answer(0xD2)
        for at in range(0, size, _READ_BLOCK):
            self._frame(content[at : at + _READ_BLOCK])
        self._frame(hashlib.md5(content, usedforsecurity=False).digest())
