"""Checks of serial ports: drivers, permissions, and programs that hold or disturb them."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import psutil
from serial.tools import list_ports

from patrolink.doctor.finding import OK, PROBLEM, WARNING, Finding
from patrolink.transport import serial_port

_USB_DEVICES = Path("/sys/bus/usb/devices")
# USB id -> kernel module of USB-to-serial converters on common boards
_DRIVERS = {
    "0403:6001": "ftdi_sio",
    "0403:6010": "ftdi_sio",
    "0403:6014": "ftdi_sio",
    "0403:6015": "ftdi_sio",
    "067b:2303": "pl2303",
    "10c4:ea60": "cp210x",
    "10c4:ea70": "cp210x",
    "1a86:5523": "ch341",
    "1a86:7523": "ch341",
    "1a86:55d4": "cdc_acm",
}
_CDC_ACM = "02", "02"  # class and subclass of the interface of a modem, Arduino or Pico
# Programs that open serial ports of others -> what they do, and what to do
_INTRUDERS = {
    "ModemManager": (
        "ModemManager sends AT commands to new serial ports",
        'run `sudo systemctl mask --now ModemManager`, or add a udev rule with ENV{ID_MM_DEVICE_IGNORE}="1"',
    ),
    "brltty": ("brltty takes CH340 converters for Braille displays", "run `sudo apt-get remove brltty`"),
}


class Port(NamedTuple):
    """A serial port with a USB device.

    Attributes:
        name: Path, or name as COM10.
        description: Description of the USB device.
    """

    name: str
    description: str


def check_ports(
    ports: Iterable[Port],
    may_open: Callable[[str], bool],
    holders: Callable[[str], list[str]],
    remedy: Callable[[str], str],
) -> list[Finding]:
    """Return a finding for each serial port.

    Args:
        ports: The ports.
        may_open: Returns whether this user may open a port.
        holders: Returns the programs that hold a port.
        remedy: Returns what to do about a port that this user must not open.
    """
    findings = []
    for port in ports:
        name = f"{port.name} ({port.description})"
        users = holders(port.name)
        if not may_open(port.name):
            findings.append(Finding(PROBLEM, "serial port", f"{name}: permission denied", remedy(port.name)))
        elif users:
            fix = "end it before you open the port"
            findings.append(Finding(WARNING, "serial port", f"{name}: in use by {' and '.join(users)}", fix))
        else:
            findings.append(Finding(OK, "serial port", name))
    return findings or [Finding(OK, "serial port", "no USB device with a serial port is connected")]


def check_drivers(usb_devices: Path = _USB_DEVICES) -> list[Finding]:
    """Return a finding for each USB-to-serial converter that has no driver (Linux).

    Args:
        usb_devices: The folder of sysfs with a folder for each USB device and each of its interfaces.
    """
    findings = []
    for interface in sorted(usb_devices.glob("*:*")):
        device = usb_devices / interface.name.partition(":")[0]
        usb_id = f"{_read(device / 'idVendor')}:{_read(device / 'idProduct')}"
        is_modem = (_read(interface / "bInterfaceClass"), _read(interface / "bInterfaceSubClass")) == _CDC_ACM
        module = _DRIVERS.get(usb_id) or ("cdc_acm" if is_modem else None)
        if module and not (interface / "driver").exists():
            text = f"USB device {usb_id} {_read(device / 'product')}".rstrip() + " has no driver"
            findings.append(Finding(PROBLEM, "driver", text, f"run `sudo modprobe {module}`"))
    return findings


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def check_group(groups: Iterable[str], mine: Iterable[str], user: str, root: bool) -> Finding:
    """Return the finding about the group that may open serial ports.

    Args:
        groups: Groups of this system.
        mine: Groups of this process.
        user: Name of the user.
        root: Whether the user is root, who needs no group.
    """
    group = next((name for name in ("dialout", "uucp") if name in groups), None)
    if root or group is None:
        return Finding(OK, "group", "none is needed to open serial ports")
    if group in mine:
        return Finding(OK, "group", f"{user} is in {group}")
    fix = f"run `sudo usermod -aG {group} {user}`, then log in again"
    return Finding(WARNING, "group", f"{user} is not in {group} and may open no serial port", fix)


def check_intruders(running: Iterable[str], ports: Iterable[Port]) -> list[Finding]:
    """Return a finding for each running program that opens serial ports of others, if there are ports."""
    names = set(running)
    findings = [Finding(WARNING, "serial port", *_INTRUDERS[name]) for name in _INTRUDERS if name in names]
    return findings if any(True for _ in ports) else []


def check_all() -> list[Finding]:
    """Check the serial ports of this machine."""
    ports = [Port(port.device, port.description) for port in sorted(list_ports.comports()) if port.vid is not None]
    findings = check_ports(ports, _may_open, serial_port.holders, serial_port.permission_remedy)
    findings += check_drivers()
    try:
        import grp  # not on Windows

        names = [group.gr_name for group in grp.getgrall()]
        mine = [group.gr_name for group in grp.getgrall() if group.gr_gid in os.getgroups()]
        findings.append(check_group(names, mine, psutil.Process().username(), os.geteuid() == 0))
    except (ImportError, AttributeError):
        findings.append(Finding(OK, "group", "none is needed to open serial ports"))
    running = (str(process.info["name"]) for process in psutil.process_iter(["name"]))
    return findings + check_intruders(running, ports)


def _may_open(port: str) -> bool:
    return not os.path.exists(port) or os.access(port, os.R_OK | os.W_OK)
