"""A device on a serial line or a PTY: COBS blocks with a checksum (SPEC.md, "Carriage")."""

import time
from collections import deque
from collections.abc import Callable, Mapping

import serial

from patrolink.conformance.case import CLOSED_PIPE, FLOOD, FRAMING, HANG, START
from patrolink.conformance.schedule import SERIAL
from patrolink.conformance.testee.device_testee import DeviceTestee
from patrolink.conformance.testee.testee import Ending, TesteeFaultError
from patrolink.core.errors import DeviceError
from patrolink.transport.serial_line import FrameUnpacker, pack_frame
from patrolink.transport.serial_port import open_port

_BAUD = 115200
_READ_TIMEOUT_S = 0.05
_WRITE_TIMEOUT_S = 5.0
_INVALID_MAX = 2  # blocks; one is usual when the port is opened inside a frame
_IDLE_BYTES_MAX = 1 << 20  # without one frame


class SerialDevice(DeviceTestee):
    """A device on a port.

    Args:
        port: Path or name.
        monotonic_ms: Clock.
        stimuli: Name of a stimulus → command.
    """

    def __init__(self, port: str, monotonic_ms: Callable[[], int], stimuli: Mapping[str, list[str]]) -> None:
        super().__init__(monotonic_ms, stimuli)
        self._name = port
        self._port: serial.Serial | None = None
        self._unpacker = FrameUnpacker()
        self._frames: deque[bytes] = deque()
        self._idle_bytes = 0

    def describe(self) -> dict[str, str]:
        """Return the name of the port; the device behind it has no hash."""
        return {"target": self._name, "sha256": "", "version": "", "carriage": SERIAL}

    def start(self) -> None:
        """Open the port.

        Raises:
            TesteeFaultError: It cannot be opened.
        """
        try:
            self._port = open_port(self._name, _BAUD, _READ_TIMEOUT_S)
        except DeviceError as e:
            raise TesteeFaultError(START, str(e)) from None
        self._port.write_timeout = _WRITE_TIMEOUT_S
        self._unpacker = FrameUnpacker()
        self._frames.clear()
        self._idle_bytes = 0

    def stop(self) -> Ending:
        """Close the port."""
        if self._port is not None:
            self._port.close()
        return Ending()

    def write_frame(self, frame: bytes) -> None:
        """Send a packet."""
        self.write_raw(pack_frame(frame))

    def write_raw(self, data: bytes) -> None:
        """Write bytes to the line."""
        assert self._port is not None
        try:
            self._port.write(data)
        except serial.SerialTimeoutException:
            raise TesteeFaultError(HANG, f"{self._name} took no data for {_WRITE_TIMEOUT_S:g} s") from None
        except OSError:
            raise TesteeFaultError(CLOSED_PIPE, f"{self._name} was disconnected") from None

    def settle(self) -> None:
        """End a case: this carriage does not show whether the device is gone."""

    def next_arrival(self, timeout_ms: int) -> str | None:
        """Return the next frame; None if none has come within this time."""
        deadline_s = time.monotonic() + timeout_ms / 1000
        while not self._frames:
            left_s = deadline_s - time.monotonic()
            if not self._read(min(max(left_s, 0), _READ_TIMEOUT_S)) and left_s <= 0:
                return None
        return self._frames.popleft().hex()

    def _read(self, timeout_s: float) -> bool:
        """Read what there is; return whether something came."""
        assert self._port is not None
        try:
            self._port.timeout = timeout_s
            data = self._port.read(max(1, self._port.in_waiting))
        except OSError:  # includes SerialException
            raise TesteeFaultError(CLOSED_PIPE, f"{self._name} was disconnected") from None
        frames = self._unpacker.feed(data)
        self._frames.extend(frames)
        self._idle_bytes = 0 if frames else self._idle_bytes + len(data)
        if self._idle_bytes > _IDLE_BYTES_MAX:
            raise TesteeFaultError(FLOOD, f"{_IDLE_BYTES_MAX} bytes without a frame")
        if self._unpacker.invalid > _INVALID_MAX:
            raise TesteeFaultError(FRAMING, f"more than {_INVALID_MAX} blocks on {self._name} that are no packets")
        return bool(data)
