"""Serial ports, opened for one program at a time; errors name who holds a port, or which group may open it.

POSIX: the port is locked with `flock`, as pyserial, mpremote and esptool do, because the kernel gives each byte to one
of its readers. Windows opens a port for one program only. The holder is known on Linux, from /proc.
"""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import serial

from patrolink.core.errors import DeviceError
from patrolink.core.posix import user_name
from patrolink.core.text import printable

_COMMAND_MAX_CHARS = 80
_LOG = logging.getLogger("patrolink.serial")


def open_port(port: str, baud: int, timeout_s: float) -> serial.Serial:
    """Open a serial port exclusively.

    Args:
        port: path, name or pyserial URL.
        baud: bits per second.
        timeout_s: longest time that `read` waits.

    Raises:
        DeviceError: the port cannot be opened; the message names the cause and the remedy.
    """
    try:
        opened: serial.Serial = serial.serial_for_url(port, baud, timeout=timeout_s, exclusive=True)
    except (OSError, ValueError) as e:  # includes SerialException
        raise _explained(port, e) from None
    _LOG.info("opened the serial port %s at %d baud", port, baud)
    return opened


def _explained(port: str, error: Exception) -> DeviceError:
    code = getattr(error, "errno", None)
    if code in (errno.EAGAIN, errno.EBUSY):
        names = " and ".join(holders(port)) or "another program"
        return DeviceError(f"{port}: in use by {names}; end it, then start again")
    if code is None and "PermissionError" in str(error):  # Windows; pyserial passes no error number
        return DeviceError(f"{port}: in use by another program; close it, then start again")
    if code in (errno.EACCES, errno.EPERM):
        return DeviceError(f"{port}: permission denied; {permission_remedy(port)}")
    why = os.strerror(code) if code else str(error)
    return DeviceError(f"{port}: cannot be opened ({why}); `patrolink devices` lists the ports")


def holders(port: str) -> list[str]:
    """Return the processes that hold a port, each as "process 4711 (its command)"; empty if it is not known.

    Those that have locked the port are returned if there are any, else all that have opened it. Processes of other
    users are visible to root only.
    """
    try:
        device = os.stat(port).st_rdev
    except OSError:
        return []
    openers = list(_openers(device)) if device else []
    return [name for name, locked in openers if locked] or [name for name, _ in openers]


def _openers(device: int) -> Iterator[tuple[str, bool]]:
    """Yield each process that has opened a device node, and whether it has locked it."""
    for process in Path("/proc").glob("[0-9]*"):
        opened = locked = False
        with contextlib.suppress(OSError):  # of another user, or it has ended
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    if descriptor.stat().st_rdev == device:
                        opened = True
                        locked |= "lock:" in (process / "fdinfo" / descriptor.name).read_text()
            if opened:
                command = (process / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
                yield f"process {process.name} ({printable(command[:_COMMAND_MAX_CHARS])})", locked


def permission_remedy(port: str) -> str:
    """Return what to do if a port must not be opened: its group decides on POSIX."""
    try:
        import grp
        import pwd

        node = os.stat(port)
        group = grp.getgrgid(node.st_gid)
        owner = pwd.getpwuid(node.st_uid).pw_name
    except (ImportError, KeyError, OSError):
        return "ask the administrator for access to the port"
    mode = stat.filemode(node.st_mode)
    if node.st_mode & 0o060 != 0o060 or node.st_gid == 0:
        return f'only {owner} may open it ({mode}); add a udev rule with GROUP="dialout", MODE="0660"'
    user = user_name() or "USER"
    if user in group.gr_mem:
        return f"you are in its group {group.gr_name} since your last login only; log out and in again"
    return f"its group {group.gr_name} may open it; run `sudo usermod -aG {group.gr_name} {user}`, then log in again"
