"""The floor control messages of a hub in plain, as a pcap of IP packets (link type RAW) that Wireshark dissects."""

import struct
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

_RAW = 101
_UDP = 17


class Trace:
    """Writes a capture until `close`. It holds no voice, and no keys."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _RAW))

    def write(self, source: tuple[Any, ...], target: tuple[Any, ...], data: bytes) -> None:
        """Add a datagram from (host, port) to (host, port)."""
        ends = ip_address(source[0]).packed, ip_address(target[0]).packed
        n = 8 + len(data)
        udp = struct.pack(">HHH", source[1], target[1], n)
        pseudo = ends[0] + ends[1] + struct.pack(">II", n, _UDP)
        udp += struct.pack(">H", _checksum(pseudo + udp + data) or 0xFFFF) + data
        if len(ends[0]) == 4:
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + n, 0, 0, 64, _UDP, 0) + ends[0] + ends[1]
            head = head[:10] + struct.pack(">H", _checksum(head)) + head[12:]
        else:
            head = struct.pack(">IHBB", 0x60000000, n, _UDP, 64) + ends[0] + ends[1]
        packet = head + udp
        s, ns = divmod(time.time_ns(), 1_000_000_000)
        self._file.write(struct.pack("<IIII", s, ns // 1000, len(packet), len(packet)) + packet)
        self._file.flush()

    def close(self) -> None:
        """End the capture."""
        self._file.close()


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += bytes(len(data) & 1)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
