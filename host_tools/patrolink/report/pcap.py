"""Captures for Wireshark: a classic pcap of link type USER0 that generated/patrolink.lua dissects."""

import struct
from collections.abc import Iterable
from typing import BinaryIO

from patrolink.core.capture import Record

_USER0 = 147


def write(out: BinaryIO, records: Iterable[Record], direction: int = 0) -> None:
    """Write every frame behind a pseudo header (direction, length of the device id, device id).

    direction is 0 for frames from devices, 1 for frames to them.
    """
    out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _USER0))
    for record in records:
        device = record.device.encode()
        data = bytes([direction, len(device)]) + device + record.frame
        seconds, ms = divmod(record.time_ms, 1000)
        out.write(struct.pack("<IIII", seconds & 0xFFFFFFFF, ms * 1000, len(data), len(data)) + data)
