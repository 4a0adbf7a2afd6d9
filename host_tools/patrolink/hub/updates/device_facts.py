"""What a hub knows about the agent of a device: from its `hello` and its `firmware_status`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from patrolink.core.decoder import Row

NO_CONTENT = bytes(8).hex()  # the agent of the platform runs, not that of a slot


class DeviceFacts(NamedTuple):
    """Facts about one device.

    Attributes:
        board: Name of its board.
        platform: Number of its platform; 0: a board without slots.
        content: First 8 bytes of SHA-256 of the agent that runs, hexadecimal; NO_CONTENT if it is not from a slot.
        floor: Highest rollback floor that the device has ever reported.
        version: Version of the agent that runs.
    """

    board: str
    platform: int
    content: str
    floor: int
    version: str

    def record(self) -> dict[str, Any]:
        """Return the facts as JSON-ready data; see `from_record`."""
        return self._asdict()


def from_record(record: Mapping[str, Any]) -> DeviceFacts:
    """Return facts that were stored as `DeviceFacts.record`."""
    return DeviceFacts(**{name: record[name] for name in DeviceFacts._fields})


def from_hello(known: DeviceFacts | None, row: Row) -> DeviceFacts:
    """Return the facts after a `hello`. The floor never falls."""
    floor = max(row["rollback_floor"], known.floor if known else 0)
    return DeviceFacts(row["board"], row["platform"], row["content"], floor, row["firmware"])


def from_status(known: DeviceFacts, row: Row) -> DeviceFacts:
    """Return the facts after a `firmware_status`. The floor never falls."""
    return known._replace(content=row["content"], floor=max(row["rollback_floor"], known.floor))
