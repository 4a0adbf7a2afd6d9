"""Pipe to the conformance kit of a device on a virtual clock: frames, traffic, and the times up to which it may run.

The format is that of `patrolink.conformance.testee.device_pipe`. Time stands still while this side waits for the kit.
"""

import os
import select
import struct
from collections.abc import Callable

from patrolink.conformance.testee.network_packets import NETWORK, NETWORK_PACKET, TIME, TIME_PACKET, Traffic
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.testee.buttons import Buttons

_LENGTH = struct.Struct("<I")
_LINK = 0xFFFFFFFD
_LINK_PACKET = struct.Struct("<IB")
CUT, RESTORE, HOLD, RELEASE = range(4)  # bytes of link packets
_PAYLOAD_MAX = 1 << 16  # a longer packet is skipped; whether a frame is too long is for the device to find
_CHUNK = 65536


class KitGoneError(BaseException):
    """The kit has closed the pipe. A BaseException, so that no handler of the agent catches it."""


class KitPipe:
    """Lets a scheduler run as far as the kit permits.

    Args:
        scheduler: Virtual clock of the device; it begins at 0.
        from_kit, to_kit: File descriptors of the pipe.
        buttons: Buttons of the device; a press counts before what the kit sends after it.
        on_frame: Called with each frame for the device.
        on_traffic: Called with each datagram or part of a stream for the device.
        on_link: Called with CUT, RESTORE, HOLD or RELEASE.
        on_pause: Called with the time each time the device stands still.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        from_kit: int,
        to_kit: int,
        buttons: Buttons,
        on_frame: Callable[[bytes], None],
        on_traffic: Callable[[Traffic], None],
        on_link: Callable[[int], None],
        on_pause: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._from_kit, self._to_kit = from_kit, to_kit
        self._buttons, self._on_frame, self._on_traffic = buttons, on_frame, on_traffic
        self._on_link, self._on_pause = on_link, on_pause
        self._received = bytearray()
        self._skip = 0
        self._target_ms = 0
        self._reported_ms = 0

    def send(self, frame: bytes) -> None:
        """Send a frame of the device, and wait for the time up to which it may go on.

        Raises:
            KitGoneError: The kit has closed the pipe.
        """
        self._send(_LENGTH.pack(len(frame)) + frame)

    def send_traffic(self, traffic: Traffic) -> None:
        """Send what the device sends on its network, and wait as after a frame.

        Raises:
            KitGoneError: The kit has closed the pipe.
        """
        self._send(traffic.pack())

    def _send(self, packet: bytes) -> None:
        self._report(int(self._scheduler.now))
        self._write(packet)
        self.wait()

    def wait(self) -> None:
        """Stand still until the kit sends the next time; pass on the frames before it.

        Raises:
            KitGoneError: The kit has closed the pipe.
        """
        self._on_pause()
        while not self._take_packets():
            ready, _, _ = select.select([self._from_kit, self._buttons.fileno()], [], [])
            self._buttons.poll()
            if self._from_kit in ready:
                data = os.read(self._from_kit, _CHUNK)
                if not data:
                    raise KitGoneError
                self._received += data
        target_ms = self._target_ms
        self._scheduler.at(target_ms, lambda: self._arrive(target_ms))

    def _arrive(self, target_ms: int) -> None:
        if target_ms == self._target_ms:  # else a frame has ended this wait, and there is a later one
            self._reported_ms = -1
            self._report(target_ms)
            self._target_ms = -1
            self.wait()

    def _report(self, now_ms: int) -> None:
        if now_ms != self._reported_ms:
            self._reported_ms = now_ms
            self._write(TIME_PACKET.pack(TIME, now_ms))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._to_kit, view) :]
        except BrokenPipeError:
            raise KitGoneError from None

    def _take_packets(self) -> bool:
        """Pass on complete packets; return True after a time, which ends the pause."""
        received = self._received
        while True:
            skipped = min(self._skip, len(received))
            del received[:skipped]
            self._skip -= skipped
            if len(received) < _LENGTH.size:
                return False
            (length,) = _LENGTH.unpack_from(received)
            if length == TIME:
                if len(received) < TIME_PACKET.size:
                    return False
                (_, self._target_ms) = TIME_PACKET.unpack_from(received)
                del received[: TIME_PACKET.size]
                return True
            if length == NETWORK:
                if not self._take_traffic():
                    return False
                continue
            if length == _LINK:
                if len(received) < _LINK_PACKET.size:
                    return False
                (_, action) = _LINK_PACKET.unpack_from(received)
                del received[: _LINK_PACKET.size]
                self._on_link(action)
                continue
            if length > _PAYLOAD_MAX:
                self._skip = length
                del received[: _LENGTH.size]
                continue
            if len(received) < _LENGTH.size + length:
                return False
            frame = bytes(received[_LENGTH.size : _LENGTH.size + length])
            del received[: _LENGTH.size + length]
            if frame:
                self._on_frame(frame)

    def _take_traffic(self) -> bool:
        """Pass on the traffic that `_received` begins with; return False while it is incomplete."""
        received = self._received
        if len(received) < NETWORK_PACKET.size:
            return False
        _, protocol, port, length = NETWORK_PACKET.unpack_from(received)
        end = NETWORK_PACKET.size + length
        if len(received) < end:
            return False
        traffic = Traffic(protocol, port, bytes(received[NETWORK_PACKET.size : end]))
        del received[:end]
        self._on_traffic(traffic)
        return True
