"""Writes the hub's floor control messages in plain text as a pcap file that Wireshark dissects (link type RAW)."""

import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from patrolink.core.clock import Clock

_LINKTYPE_RAW = 101
_UDP = 17


class FloorTrace:
    """A capture file. It holds neither voice nor keys.

    Args:
        path: The file; an existing one is overwritten.
        clock: Time of the messages.
        hub_address: Host and port that stand for the hub's floor socket.
    """

    def __init__(self, path: Path, clock: Clock, hub_address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._clock, self._hub_address = clock, hub_address
        self._file = path.open("wb")
        self._file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _LINKTYPE_RAW))

    def write_received(self, source: tuple[Any, ...], data: bytes) -> None:
        """Add a datagram from a device to the hub."""
        self.write(source, self._hub_address, data)

    def write_sent(self, target: tuple[Any, ...], data: bytes) -> None:
        """Add a datagram from the hub to a device."""
        self.write(self._hub_address, target, data)

    def write(self, source: tuple[Any, ...], target: tuple[Any, ...], data: bytes) -> None:
        """Add a datagram. Addresses are host and port, both IPv4 or both IPv6."""
        source_ip, target_ip = ip_address(source[0]).packed, ip_address(target[0]).packed
        n = 8 + len(data)
        udp = struct.pack(">HHH", source[1], target[1], n)
        pseudo_header = source_ip + target_ip + struct.pack(">II", n, _UDP)
        udp += struct.pack(">H", _checksum(pseudo_header + udp + data) or 0xFFFF) + data
        if len(source_ip) == 4:
            header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + n, 0, 0, 64, _UDP, 0) + source_ip + target_ip
            header = header[:10] + struct.pack(">H", _checksum(header)) + header[12:]
        else:
            header = struct.pack(">IHBB", 0x60000000, n, _UDP, 64) + source_ip + target_ip
        packet = header + udp
        s, ns = divmod(self._clock.unix_ns(), 1_000_000_000)
        self._file.write(struct.pack("<IIII", s, ns // 1000, len(packet), len(packet)) + packet)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += bytes(len(data) & 1)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
