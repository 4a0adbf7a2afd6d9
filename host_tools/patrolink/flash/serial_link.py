"""A serial line to a board."""

import threading

import serial

from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.flash.link import Link
from patrolink.transport.serial_port import open_port

_LOOK_S = 0.1
_WRITE_S = 10.0


class SerialLink(Link):
    """Bytes to and from a board.

    Args:
        port: Path of the port.
        baud: Bits per second.
        cancel: Set when the operator stops the command.

    Raises:
        DeviceError: The port cannot be opened.
    """

    def __init__(self, port: str, baud: int, cancel: threading.Event) -> None:
        super().__init__(port, cancel)
        self._serial = open_port(port, baud, _LOOK_S)
        self._serial.write_timeout = _WRITE_S

    def write(self, data: bytes) -> None:
        """See `Link.write`."""
        self.check_cancelled()
        try:
            self._serial.write(data)
        except serial.SerialTimeoutException:
            raise DeadlineError(f"{self.port}: the board takes no data; check its cable, then repeat") from None
        except OSError as e:
            raise self._broken(e) from None

    def close(self) -> None:
        """See `Link.close`."""
        self._serial.close()

    def _receive(self) -> bytes:
        try:
            data: bytes = self._serial.read(max(1, self._serial.in_waiting))
        except (OSError, TypeError) as e:  # pyserial raises TypeError when another thread has closed the port
            raise self._broken(e) from None
        return data

    def _remedy(self) -> str:
        return "check cable and power, and that the board runs MicroPython, then repeat the command"

    def _broken(self, error: Exception) -> DeviceError:
        return DeviceError(f"{self.port}: the connection broke ({error}); connect the board again, then repeat")
