"""A device on a pipe: packets of a 4-byte little-endian length and a frame; standard input is down, output is up.

A device with a virtual clock (claim `virtual_clock`) also has control packets, of the length 0xFFFFFFFF and 8 bytes: a
time in milliseconds since its start, little-endian. The kit sends the time up to which the device shall run, and the
device answers with the same packet when it has. Before a frame, the device sends its time if that has changed since the
last control packet. `network_packets.py` defines these packets, and those of datagrams and streams of a device that has
its network on the pipe.

A device with a link (claim `link_control`) obeys packets of the length 0xFFFFFFFD and one byte, see `evidence.link`:
0 cut, 1 restore, 2 hold, 3 release.
"""

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from patrolink_messages import MAX_FRAME

from patrolink.conformance.case import FRAMING
from patrolink.conformance.evidence import CUT, HOLD, RELEASE, RESTORE
from patrolink.conformance.schedule import PIPE
from patrolink.conformance.testee.child import Child
from patrolink.conformance.testee.device_testee import DeviceTestee
from patrolink.conformance.testee.network_packets import (
    NETWORK,
    NETWORK_PACKET,
    TCP,
    TIME,
    TIME_PACKET,
    UDP,
    Traffic,
)
from patrolink.conformance.testee.program import describe_program
from patrolink.conformance.testee.testee import Ending, TesteeFaultError
from patrolink.core.text import plural

_LINK = 0xFFFFFFFD
_LINK_PACKET = struct.Struct("<IB")
_LINK_CODES = {CUT: 0, RESTORE: 1, HOLD: 2, RELEASE: 3}
_ADVANCE_MS = 10_000  # in steps, so that a slow device is no hanging one
_ADVANCE_TIMEOUT_S = 30.0
_PACKET_TIMEOUT_S = 2.0  # for the rest of a packet


class _Packet(NamedTuple):
    """A frame or traffic, or without both the time of a control packet."""

    arrival: str
    time_ms: int = 0


class DevicePipe(DeviceTestee):
    """A device that the kit starts.

    Args:
        command: Program and arguments.
        monotonic_ms: Clock.
        stimuli: Name of a stimulus → command.
        virtual: Whether the device has a virtual clock.
        linked: Whether it obeys link packets.
    """

    has_network = True

    def __init__(
        self,
        command: list[str],
        monotonic_ms: Callable[[], int],
        stimuli: Mapping[str, list[str]],
        virtual: bool = False,
        linked: bool = False,
    ) -> None:
        super().__init__(monotonic_ms, stimuli)
        self._command = command
        self._virtual = virtual
        self._linked = linked
        self.clock = "virtual" if virtual else "monotonic"
        self._child: Child | None = None
        self._started_ms = 0  # virtual time of the kit at the start of the device
        self._device_ms = 0  # virtual time of the device

    def describe(self) -> dict[str, str]:
        """Return the command and the hash of the program."""
        return {**describe_program(self._command), "version": "", "carriage": PIPE}

    def start(self) -> None:
        """Start the device.

        Raises:
            TesteeFaultError: It cannot be started.
        """
        self._started_ms += self._device_ms
        self._device_ms = 0
        self._child = Child(self._command)
        self._child.start()

    def stop(self) -> Ending:
        """End the device."""
        return self._child.stop() if self._child is not None else Ending()

    def restart(self) -> None:
        """Kill the device and start it again."""
        self.stop()
        self.start()

    def control_link(self, action: str) -> None:
        """Send a link packet."""
        if not self._linked:
            super().control_link(action)
        self.write_raw(_LINK_PACKET.pack(_LINK, _LINK_CODES[action]))

    def clock_ms(self) -> int:
        """Return the virtual time if the device has one."""
        return self._started_ms + self._device_ms if self._virtual else super().clock_ms()

    def write_frame(self, frame: bytes) -> None:
        """Send a packet."""
        self.write_raw(struct.pack("<I", len(frame)) + frame)

    def write_raw(self, data: bytes) -> None:
        """Write bytes to the pipe."""
        assert self._child is not None
        self._child.write(data)

    def write_traffic(self, traffic: Traffic) -> None:
        """Send a datagram or bytes of a stream."""
        self.write_raw(traffic.pack())

    def next_arrival(self, timeout_ms: int) -> str | None:
        """Return the next frame or traffic; None if none has come within this time."""
        assert self._child is not None
        if self._virtual:
            return self._next_virtual(timeout_ms)
        packet = self._child.poll(_take_packet, timeout_ms / 1000)
        if packet is not None and not packet.arrival:
            raise TesteeFaultError(FRAMING, "a control packet of a device without a virtual clock")
        return packet.arrival if packet is not None else None

    def _next_virtual(self, timeout_ms: int) -> str | None:
        """Run the device up to a time; an arrival ends the call, and the device waits for the next time."""
        assert self._child is not None
        end_ms = self._device_ms + timeout_ms
        while True:
            target_ms = min(end_ms, self._device_ms + _ADVANCE_MS)
            arrival = self._advance(target_ms)
            if arrival is not None or target_ms == end_ms:
                return arrival

    def _advance(self, target_ms: int) -> str | None:
        assert self._child is not None
        self._child.write(TIME_PACKET.pack(TIME, target_ms))
        while True:
            packet = self._child.read(_take_packet, _ADVANCE_TIMEOUT_S)
            if packet.arrival:
                return packet.arrival
            if not self._device_ms <= packet.time_ms <= target_ms:
                reason = f"time {packet.time_ms} ms, not between {self._device_ms} and {target_ms} ms"
                raise TesteeFaultError(FRAMING, reason)
            self._device_ms = packet.time_ms
            if packet.time_ms == target_ms:
                return None

    def settle(self) -> None:
        """End a case.

        Raises:
            TesteeFaultError: The program has ended or closed a pipe, or has sent half of a packet.
        """
        assert self._child is not None
        if self._child.has_output() and self._child.poll(_holds_packet, _PACKET_TIMEOUT_S) is None:
            raise TesteeFaultError(FRAMING, f"half of a packet, and no more for {_PACKET_TIMEOUT_S:g} s")
        self._child.check()


def _holds_packet(buffer: bytearray) -> bool | None:
    """Return True if the first packet is complete, else None."""
    return True if _take_packet(bytearray(buffer)) is not None else None


def _take_packet(buffer: bytearray) -> _Packet | None:
    """Remove and return the first packet; None while it is incomplete."""
    if len(buffer) < 4:
        return None
    (length,) = struct.unpack_from("<I", buffer)
    if length == TIME:
        if len(buffer) < TIME_PACKET.size:
            return None
        (_, now_ms) = TIME_PACKET.unpack_from(buffer)
        del buffer[: TIME_PACKET.size]
        return _Packet("", now_ms)
    if length == NETWORK:
        return _take_traffic(buffer)
    if not 1 <= length <= MAX_FRAME:
        raise TesteeFaultError(FRAMING, f"a packet of {plural(length, 'byte')}; frames have at most {MAX_FRAME}")
    if len(buffer) < 4 + length:
        return None
    frame = bytes(buffer[4 : 4 + length])
    del buffer[: 4 + length]
    return _Packet(frame.hex())


def _take_traffic(buffer: bytearray) -> _Packet | None:
    if len(buffer) < NETWORK_PACKET.size:
        return None
    _, protocol, port, length = NETWORK_PACKET.unpack_from(buffer)
    if protocol not in (UDP, TCP):
        raise TesteeFaultError(FRAMING, f"traffic of the protocol {protocol}; known are {UDP} (UDP) and {TCP} (TCP)")
    end = NETWORK_PACKET.size + length
    if len(buffer) < end:
        return None
    traffic = Traffic(protocol, port, bytes(buffer[NETWORK_PACKET.size : end]))
    del buffer[:end]
    return _Packet(traffic.text())
