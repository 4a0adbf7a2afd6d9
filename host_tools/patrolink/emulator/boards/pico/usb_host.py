"""A USB host with one device, the chip: enumeration, control and bulk transfers (USB 2.0, chapters 8 and 9)."""

import struct
from collections import deque
from typing import NamedTuple

from patrolink.emulator.boards.pico.chip import NS_PER_MS, Chip

MASS_STORAGE, CDC_DATA = 8, 10  # interface classes
_PACKET_BYTES = 64
_GET_DESCRIPTOR, _SET_ADDRESS, _SET_CONFIGURATION = 6, 5, 9
_DEVICE, _CONFIGURATION = 1, 2  # descriptor types
_INTERFACE_TYPE, _ENDPOINT_TYPE = 4, 5
_IN = 0x80
_BULK = 2
_TIMEOUT_MS, _RESET_TIMEOUT_MS = 2000, 10_000
_STATUS_MS = 1  # until the firmware has handled the end of a control transfer
_SETTLE_MS = 5  # a device has 2 ms after SET_ADDRESS, and 10 ms after a reset (9.2.6)


class BulkEndpoints(NamedTuple):
    """Numbers of an interface's bulk endpoints."""

    in_: int
    out: int


def bulk_endpoints(configuration: bytes) -> dict[int, BulkEndpoints]:
    """Return the bulk endpoints of the interfaces in a configuration descriptor, by interface class."""
    ends: dict[int, dict[bool, int]] = {}
    at = interface_class = 0
    while at + 2 <= len(configuration) and configuration[at]:
        kind = configuration[at + 1]
        if kind == _INTERFACE_TYPE:
            interface_class = configuration[at + 5]
        elif kind == _ENDPOINT_TYPE and configuration[at + 3] & 3 == _BULK:
            address = configuration[at + 2]
            ends.setdefault(interface_class, {}).setdefault(bool(address & _IN), address & 15)
        at += configuration[at]
    return {name: BulkEndpoints(pair[True], pair[False]) for name, pair in ends.items() if len(pair) == 2}


class UsbHost:
    """The host.

    Args:
        chip: The device; its power is on.

    Attributes:
        product_id: idProduct of the device.
        endpoints: Bulk endpoints by interface class.
    """

    def __init__(self, chip: Chip) -> None:
        self._chip, self._usb = chip, chip.usb
        self._received: dict[int, deque[bytes]] = {}
        self._unsent: dict[int, deque[bytes]] = {}
        self._armed: dict[int, int] = {}
        self._bus_resets = 0
        self.product_id = 0
        self.endpoints: dict[int, BulkEndpoints] = {}
        self._usb.on_usb_enabled = self._usb.reset_device
        self._usb.on_reset_received = self._on_bus_reset
        self._usb.on_endpoint_write = self._on_in
        self._usb.on_endpoint_read = self._on_out
        self._usb.on_reset = self._on_controller_reset

    def attach(self) -> None:
        """Wait for the device and configure it. Raises DeadlineError."""
        self._chip.wait(lambda: self._bus_resets, _RESET_TIMEOUT_MS, "device on USB")
        self._settle(4 * _SETTLE_MS)
        self.product_id = struct.unpack_from("<H", self.control_in(_IN, _GET_DESCRIPTOR, _DEVICE << 8, 18), 10)[0]
        self.control_out(0, _SET_ADDRESS, 1)
        self._settle(_SETTLE_MS)
        head = self.control_in(_IN, _GET_DESCRIPTOR, _CONFIGURATION << 8, 9)
        (total,) = struct.unpack_from("<H", head, 2)
        configuration = self.control_in(_IN, _GET_DESCRIPTOR, _CONFIGURATION << 8, total)
        self.endpoints = bulk_endpoints(configuration)
        self.control_out(0, _SET_CONFIGURATION, 1)
        self._settle(_SETTLE_MS)

    def control_in(self, kind: int, request: int, value: int, length: int) -> bytes:
        """Return the data of a control transfer, at most `length` bytes. Raises DeadlineError."""
        self._usb.send_setup_packet(struct.pack("<BBHHH", kind, request, value, 0, length))
        data = b""
        while len(data) < length:
            packet = self.read(0)
            data += packet
            if len(packet) < _PACKET_BYTES:
                break
        self.write(0, b"")
        self._settle(_STATUS_MS)
        return data

    def control_out(self, kind: int, request: int, value: int = 0) -> None:
        """Carry out a control transfer without data. Raises DeadlineError."""
        self._usb.send_setup_packet(struct.pack("<BBHHH", kind, request, value, 0, 0))
        self.read(0)
        self._settle(_STATUS_MS)

    def read(self, endpoint: int, timeout_ms: float = _TIMEOUT_MS) -> bytes:
        """Return the next packet of an endpoint. Raises DeadlineError."""
        packets = self._received.setdefault(endpoint, deque())
        self._chip.wait(lambda: packets, timeout_ms, f"packet of endpoint {endpoint}")
        return packets.popleft()

    def take(self, endpoint: int) -> bytes:
        """Return what an endpoint has sent so far."""
        packets = self._received.pop(endpoint, deque())
        return b"".join(packets)

    def write(self, endpoint: int, data: bytes, timeout_ms: float = _TIMEOUT_MS) -> None:
        """Send data in packets, at least one. Raises DeadlineError if the device does not take them."""
        self.queue(endpoint, data)
        waiting = self._unsent[endpoint]
        self._chip.wait(lambda: not waiting, timeout_ms, f"space in endpoint {endpoint}")

    def queue(self, endpoint: int, data: bytes) -> None:
        """Send data as soon as the device takes it."""
        waiting = self._unsent.setdefault(endpoint, deque())
        waiting.extend(data[at : at + _PACKET_BYTES] for at in range(0, max(len(data), 1), _PACKET_BYTES))
        while waiting and self._armed.get(endpoint):
            self._armed[endpoint] -= 1
            self._usb.endpoint_read_done(endpoint, waiting.popleft())

    def queued(self, endpoint: int) -> int:
        """Return the number of packets that the device has not taken yet."""
        return len(self._unsent.get(endpoint, ()))

    def _settle(self, ms: float) -> None:
        end = self._chip.now_ns + ms * NS_PER_MS
        while self._chip.now_ns < end:
            self._chip.run(end)

    def _on_bus_reset(self) -> None:
        self._bus_resets += 1
        self._chip.interrupt()

    def _on_in(self, endpoint: int, packet: bytes | bytearray) -> None:
        self._received.setdefault(endpoint, deque()).append(bytes(packet))
        self._chip.interrupt()

    def _on_out(self, endpoint: int, length: int) -> None:
        waiting = self._unsent.get(endpoint)
        if waiting:
            self._usb.endpoint_read_done(endpoint, waiting.popleft())
        else:
            self._armed[endpoint] = self._armed.get(endpoint, 0) + 1
        self._chip.interrupt()

    def _on_controller_reset(self) -> None:
        self._received.clear()
        self._unsent.clear()
        self._armed.clear()
        self.endpoints = {}
        self._bus_resets = 0
