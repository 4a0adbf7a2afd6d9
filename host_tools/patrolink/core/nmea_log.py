"""Decode NMEA logs to fixes with the device's own receiver code, in a separate process."""

import contextlib
import subprocess
from collections.abc import Iterable, Iterator
from datetime import date
from typing import BinaryIO

from patrolink.core import resources
from patrolink.core.errors import DeviceError, UserError


@contextlib.contextmanager
def decode(log: str, runtime: str = "cpython", date_floor: date | None = None) -> Iterator[Iterable[str]]:
    """Yield the lines of JSON that the device code makes of a log: a `fix` each, and a `summary` at the end.

    Args:
        log: path of the log, or "-" for standard input.
        runtime: interpreter of the device code, "cpython" or "micropython".
        date_floor: earlier dates are flagged as suspect (GPS week rollover).

    Raises:
        UserError: the log cannot be read.
        DeviceError: the device code failed, or the runtime is not installed.
    """
    command = [*resources.interpreter(runtime), str(resources.root() / "device" / "decode_nmea.py"), "-"]
    if date_floor:
        command.append(str((date_floor - date(1970, 1, 1)).days))
    with contextlib.ExitStack() as stack:
        # Opened here so that a named pipe works as well as a file: the device code inherits no other descriptor.
        source = stack.enter_context(_open_log(log)) if log != "-" else None
        process = stack.enter_context(
            subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        )
        assert process.stdout is not None
        try:
            yield process.stdout
        except BaseException:
            # The caller stopped reading: end the device code before its pipe breaks.
            process.kill()
            raise
    if process.returncode:
        raise DeviceError(f"the device code ended with exit code {process.returncode} under {runtime}; see above")


def _open_log(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as e:
        raise UserError(f"{path}: {str(e.strerror).lower()}; name an NMEA log, or - for standard input") from None
