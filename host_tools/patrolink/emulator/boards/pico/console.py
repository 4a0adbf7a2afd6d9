"""The console of MicroPython: a serial port over USB (CDC PSTN 1.2)."""

from patrolink.emulator.boards.pico.chip import NS_PER_MS, Chip
from patrolink.emulator.boards.pico.usb_host import CDC_DATA, UsbHost

_SET_CONTROL_LINE_STATE = 0x22
_CLASS_INTERFACE = 0x21  # request type
_DTR_RTS = 3
_SLICE_MS = 5


class Console:
    """The serial port.

    Args:
        chip: The device.
        host: Its host, attached.

    Attributes:
        output: Everything that the firmware has written.
    """

    def __init__(self, chip: Chip, host: UsbHost) -> None:
        self._chip, self._host = chip, host
        self._endpoints = host.endpoints[CDC_DATA]
        self.output = bytearray()
        host.control_out(_CLASS_INTERFACE, _SET_CONTROL_LINE_STATE, _DTR_RTS)

    def write(self, data: bytes) -> None:
        """Send bytes; the firmware takes them when it is ready."""
        self._host.queue(self._endpoints.out, data)

    def run(self, ms: float) -> bytes:
        """Run the chip for emulated milliseconds and return what it has written."""
        end = self._chip.now_ns + ms * NS_PER_MS
        while self._chip.now_ns < end:
            self._chip.run(end)
        return self._take()

    def wait_for(self, text: bytes, timeout_ms: float) -> bytes:
        """Run until the firmware has written a text; return what it has written since the call, up to and with it.

        Raises:
            DeadlineError: It has not within `timeout_ms` of emulated time.
        """
        start = len(self.output)

        def is_there() -> bool:
            self._take()
            return self.output.find(text, start) >= 0

        self._chip.wait(is_there, timeout_ms, repr(text))
        return bytes(self.output[start : self.output.find(text, start) + len(text)])

    def _take(self) -> bytes:
        data = self._host.take(self._endpoints.in_)
        self.output += data
        return data
