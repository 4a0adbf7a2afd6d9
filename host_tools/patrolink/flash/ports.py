"""Ports of this machine, and which of them a device has now: systems renumber ports."""

from collections.abc import Callable, Iterable

from patrolink.core.errors import DeviceError
from patrolink.flash.records import Port

Listing = Callable[[], list[Port]]


def list_ports() -> list[Port]:
    """Return the ports of this machine, sorted by path."""
    from serial.tools import list_ports as system

    return sorted(
        (
            Port(
                path=entry.device,
                location=entry.location or "",
                usb_serial=entry.serial_number or "",
                usb_id=f"{entry.vid:04x}:{entry.pid:04x}" if entry.vid is not None else "",
            )
            for entry in system.comports()
        ),
        key=lambda port: port.path,
    )


def find(path: str, listing: Iterable[Port]) -> Port:
    """Return the port with this path; one that is not listed, such as a PTY, has only its path."""
    return next((port for port in listing if port.path == path), Port(path))


def current_path(port: Port, listing: Iterable[Port]) -> str:
    """Return the path that the device of a port has now.

    USB topology decides, because devices in a boot loader may all have the same serial number. The serial number
    decides where the system does not tell the topology.

    Raises:
        DeviceError: The device is unplugged, or another one is in its socket.
    """
    if not port.bound:
        return port.path
    for entry in listing:
        if port.location and entry.location == port.location:
            if port.usb_serial and entry.usb_serial and entry.usb_serial != port.usb_serial:
                raise DeviceError(
                    f"{port.path}: the device in USB socket {port.location} now has the serial number "
                    f"{entry.usb_serial}, not {port.usb_serial}; nothing was written to it; plug the right one in"
                )
            return entry.path
        if not port.location and entry.usb_serial == port.usb_serial:
            return entry.path
    where = f"USB socket {port.location}" if port.location else f"serial number {port.usb_serial}"
    raise DeviceError(f"{port.path}: unplugged ({where}); connect it again, then repeat the command")
