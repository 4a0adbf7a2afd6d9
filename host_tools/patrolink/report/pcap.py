"""Write captures for Wireshark: classic pcap with link type USER0, dissected by generated/patrolink.lua."""

import struct
from collections.abc import Iterable
from typing import BinaryIO

from patrolink.core.capture import Record

_MAGIC_MICROSECONDS = 0xA1B2C3D4
_LINKTYPE_USER0 = 147


def write(out: BinaryIO, records: Iterable[Record], direction: int = 0) -> None:
    """Write every frame after a pseudo header of direction, length of the device id and device id.

    Args:
        out: output.
        records: frames with time and device id.
        direction: 0 for uplink, 1 for downlink.
    """
    write_directed(out, ((direction, record) for record in records))


def write_directed(out: BinaryIO, records: Iterable[tuple[int, Record]]) -> None:
    """Write frames of both directions; each record comes after its direction, as `write` has it."""
    out.write(struct.pack("<IHHiIII", _MAGIC_MICROSECONDS, 2, 4, 0, 0, 65535, _LINKTYPE_USER0))
    for direction, record in records:
        device = record.device.encode()
        data = bytes([direction, len(device)]) + device + record.frame
        seconds, ms = divmod(record.time_ms, 1000)
        out.write(struct.pack("<IIII", seconds & 0xFFFFFFFF, ms * 1000, len(data), len(data)) + data)
