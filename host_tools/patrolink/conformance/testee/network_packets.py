"""Packets on a device's pipe besides frames: times, and what the device sends and receives on its network.

    time     0xFFFFFFFF | milliseconds since the start of the device, 8 bytes
    network  0xFFFFFFFE | protocol, 1 byte: 17 UDP, 6 TCP | port of the kit, 2 bytes | length, 2 bytes | data

All numbers are little-endian. A network packet of UDP is one datagram between the device and that port of the kit. One
of TCP is a part of a stream that the device has opened to that port; without data, its sender has closed the stream.
There is one stream at a time: the first bytes after a close belong to a new one.
"""

import struct
from typing import NamedTuple

TIME, NETWORK = 0xFFFFFFFF, 0xFFFFFFFE
TIME_PACKET = struct.Struct("<IQ")
NETWORK_PACKET = struct.Struct("<IBHH")
UDP, TCP = 17, 6
_NAMES = {UDP: "udp", TCP: "tcp"}
DATA_MAX = 0xFFFF


class Traffic(NamedTuple):
    """A datagram, or a part of a stream.

    Attributes:
        protocol: UDP or TCP.
        port: Port of the kit.
        data: The bytes; TCP: empty for a stream that its sender has closed.
    """

    protocol: int
    port: int
    data: bytes

    def pack(self) -> bytes:
        """Return the packet."""
        return NETWORK_PACKET.pack(NETWORK, self.protocol, self.port, len(self.data)) + self.data

    def text(self) -> str:
        """Return the form in the evidence, such as "udp 5004 80c8"."""
        return f"{_NAMES[self.protocol]} {self.port} {self.data.hex()}"


def parse(text: str) -> Traffic:
    """Return the traffic of a text in the evidence.

    Raises:
        ValueError: It is none.
    """
    name, port, digits = text.split(" ")
    protocol = next((number for number, known in _NAMES.items() if known == name), None)
    if protocol is None:
        raise ValueError(f"unknown protocol: {name}")
    return Traffic(protocol, int(port), bytes.fromhex(digits))
