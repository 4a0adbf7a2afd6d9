"""Records that describe a port, the device on it, and what is to be written."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from patrolink.core.errors import UserError


class RefusedError(UserError):
    """The image must not be written to this device; another attempt does not help."""


class CancelledError(Exception):
    """The operator stopped the command."""


@dataclass(frozen=True)
class Port:
    """A port and what USB knows of the device behind it.

    Attributes:
        path: What a program opens, such as `/dev/ttyUSB0`. The system may give it to another device.
        location: Path through hubs and their sockets, such as `1-2.3`; empty if it is not known.
        usb_serial: Serial number in the USB descriptor; empty if there is none.
        usb_id: Vendor and product as `10c4:ea60`; empty if the port is not on USB.
    """

    path: str
    location: str = ""
    usb_serial: str = ""
    usb_id: str = ""

    @property
    def bound(self) -> bool:
        """Whether USB tells which device this is, whatever its path."""
        return bool(self.location or self.usb_serial)


@dataclass(frozen=True)
class Identity:
    """What a device says of itself.

    Attributes:
        unique_id: Id of the chip: unique id of MicroPython, or MAC; empty if the method cannot read one.
        board: Name of the board; empty if the device does not know it.
        chip: Name of the chip; empty if the method cannot read one.
        architecture: Architecture of native code, as `mpy-cross` names it; empty if it is not known.
        version: Version of the installed agent; empty if it is not known.
        rollback: Rollback number of the installed agent; None if it is not known.
        rollback_floor: Lowest rollback number that the device accepts; None if it is not known.
        platform: Number of the platform image; None if it is not known.
        release_keys: Ids of the release keys whose images the device accepts; None if they are not known.
        content_sha256: SHA-256 of the installed content, computed by the device; empty if it is not known.
        configured: Whether it has a configuration; None if it is not known.
        device: Device id in its configuration; empty if it has none, or it is not known.
    """

    unique_id: str = ""
    board: str = ""
    chip: str = ""
    architecture: str = ""
    version: str = ""
    rollback: int | None = None
    rollback_floor: int | None = None
    platform: int | None = None
    release_keys: tuple[str, ...] | None = None
    content_sha256: bytes = b""
    configured: bool | None = None
    device: str = ""


@dataclass(frozen=True)
class Plan:
    """What would be written to a device.

    Attributes:
        text: One line for people.
        bytes: Size of the content.
        unchanged: Whether the device has this content already, read back from it.
    """

    text: str
    bytes: int
    unchanged: bool = False


@dataclass(frozen=True)
class Assignment:
    """The row of a table of devices that a device gets.

    Attributes:
        device: Id of the device.
        serial: Serial number.
        files: Contents of its files by name, in the order in which they are written. They hold its key.
    """

    device: str
    serial: str
    files: Mapping[str, bytes] = field(repr=False)
