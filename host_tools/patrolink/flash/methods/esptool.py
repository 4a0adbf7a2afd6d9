"""Method `esptool`: an ESP32 in its ROM loader, written by the unmodified esptool as a child process.

esptool is GPL-2.0-or-later and is never imported. It sends each block with a checksum, and has the chip compute a hash
of what it holds, before and after.
"""

import importlib.util
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from patrolink.core.errors import DeviceError, UserError
from patrolink.core.text import plural
from patrolink.flash import child_process
from patrolink.flash.method import Method, Report
from patrolink.flash.records import Identity, Plan, RefusedError

_CONNECT_S = 45.0  # esptool tries ten resets
_BYTES_PER_S = 4000  # slowest line, 115,200 baud, with a margin
_CONNECTED = re.compile(r"Connected to (\S+) on ")
_MAC = re.compile(r"MAC: +([0-9a-f]{2}(?::[0-9a-f]{2}){5})")
_PERCENT = re.compile(r"Writing at 0x[0-9a-f]+ .*?([0-9.]+)%")
_ERROR = re.compile(r"(?:A fatal error occurred: |Error: )(.*)")
_ADVICE = re.compile(r"\.? This can have many causes.*")
_VERIFIED = "Hash of data verified"
_MISMATCH = re.compile(r"Verification failed|digest mismatch", re.IGNORECASE)


def require_esptool() -> None:
    """Raise UserError if esptool is not installed."""
    if importlib.util.find_spec("esptool") is None:
        raise UserError("the method esptool needs esptool, which is not installed; run: pip install 'patrolink[flash]'")


def has_modem_lines(port: str) -> bool:
    """Return whether a port has the lines DTR and RTS, by which esptool resets a chip; a PTY has none."""
    try:
        import fcntl
        import termios
    except ImportError:  # Windows: a COM port has them
        return True
    try:
        handle = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return True  # esptool reports the error
    try:
        fcntl.ioctl(handle, termios.TIOCMGET, bytes(4))
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


class EsptoolMethod(Method):
    """Writes one file at one address.

    Args:
        port: Path of the port.
        cancel: Set when the operator stops the command.
        chip: Chip that the image is for, as esptool names it: "ESP32".
        file: The content of the image.
        address: Address of the content in flash.
        label: Name of the image, for people.
    """

    def __init__(self, port: str, cancel: threading.Event, chip: str, file: Path, address: int, label: str) -> None:
        super().__init__(port, cancel)
        self._chip, self._file, self._address, self._label = chip, file, address, label
        self._size = file.stat().st_size
        self._lines = has_modem_lines(port)
        self._mac = ""
        self._same = self._verified = False

    def identify(self) -> Identity:
        """See `Method.identify`: type of the chip, MAC, and whether it holds the content already."""
        code, output = self._esptool("verify-flash", hex(self._address), str(self._file))
        chip, mac = _CONNECTED.search(output), _MAC.search(output)
        self._same = code == 0
        if chip is None or mac is None:
            raise self._error(output)
        self._mac = mac[1]
        if chip[1] == self._chip and code and not _MISMATCH.search(output):
            raise self._error(output)  # esptool cannot read the flash of a chip that it does not expect either
        return Identity(unique_id=mac[1].replace(":", ""), chip=chip[1])

    def plan(self, identity: Identity) -> Plan:
        """See `Method.plan`: nothing is written if the chip holds this content already."""
        if identity.chip != self._chip:
            raise RefusedError(
                f"{self.port}: the image is for {self._chip}, but this is {identity.chip}; use an image for this board"
            )
        text = f"{self._label}, {plural(self._size, 'byte')} at 0x{self._address:x}"
        return Plan(text, self._size, unchanged=self._same)

    def write(self, plan: Plan, report: Report) -> None:
        """See `Method.write`. esptool is stopped, before it erases, if it has connected to another chip."""

        def on_line(line: str) -> None:
            if (mac := _MAC.search(line)) and mac[1] != self._mac:
                raise RefusedError(
                    f"{self.port}: the chip with MAC {mac[1]} answers, not {self._mac}; nothing was written to it; "
                    "check the cables, then start again"
                )
            if percent := _PERCENT.search(line):
                report(int(self._size * float(percent[1]) / 100), self._size)

        after = "hard-reset" if self._lines else "no-reset"
        code, output = self._esptool("write-flash", hex(self._address), str(self._file), after=after, on_line=on_line)
        if code:
            raise self._error(output)
        self._verified = _VERIFIED in output

    def verify(self, plan: Plan) -> None:
        """See `Method.verify`: `write-flash` ends with a hash that the chip computes of what it holds."""
        if not self._verified:
            raise DeviceError(
                f"{self.port}: esptool has not verified what it wrote; install esptool 5 or newer (pip install "
                "'patrolink[flash]'), then repeat the command"
            )

    def release(self) -> None:
        """See `Method.release`: esptool has reset the board; one on a port without reset line stays in its loader."""

    def close(self) -> None:
        """See `Method.close`: esptool holds the port only while it runs."""

    def _esptool(
        self, *words: str, after: str = "no-reset", on_line: Callable[[str], None] = lambda line: None
    ) -> tuple[int, str]:
        """Run esptool and return its exit code and its output."""
        before = "default-reset" if self._lines else "no-reset"
        options = ["--port", self.port, "--before", before, "--after", after]
        limit_s = _CONNECT_S + self._size / _BYTES_PER_S
        command = [sys.executable, "-m", "esptool", *options, *words]
        code, lines = child_process.run(command, limit_s, self._cancel, on_line)
        return code, "\n".join(lines)

    def _error(self, output: str) -> DeviceError:
        errors = _ERROR.findall(output)
        why = _ADVICE.sub("", errors[-1]) if errors else (output.strip().splitlines() or ["no output"])[-1]
        return DeviceError(
            f"{self.port}: esptool: {why.rstrip('.')}; check cable and power, hold the boot button of a board without "
            "automatic reset, then repeat the command"
        )
