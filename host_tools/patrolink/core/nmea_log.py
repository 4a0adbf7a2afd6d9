"""NMEA logs to fixes, by the device's own receiver code in a process of its own."""

import contextlib
import subprocess
from collections.abc import Iterable, Iterator
from datetime import date
from typing import BinaryIO

from patrolink.core import resources
from patrolink.core.errors import DeviceError, UserError


@contextlib.contextmanager
def decode(log: str, runtime: str = "cpython", floor: date | None = None) -> Iterator[Iterable[str]]:
    """Yield the lines of JSON that the device code makes of a log; "-" is standard input.

    UserError when the log cannot be read, DeviceError when the device code fails.
    """
    command = [*resources.interpreter(runtime), str(resources.root() / "device" / "decode_nmea.py"), "-"]
    if floor:
        command.append(str((floor - date(1970, 1, 1)).days))
    with contextlib.ExitStack() as stack:
        # Opened here, so that a pipe serves as well as a file: the device code inherits no other descriptor.
        source = stack.enter_context(_opened(log)) if log != "-" else None
        process = stack.enter_context(
            subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        )
        assert process.stdout is not None
        try:
            yield process.stdout
        except BaseException:
            # Nobody reads on: end the device code before its pipe breaks under it.
            process.kill()
            raise
    if process.returncode:
        raise DeviceError(f"the device code ended with exit code {process.returncode} under {runtime}")


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as e:
        raise UserError(f"{path}: {str(e.strerror).lower()}; name an NMEA log, or - for standard input") from None
