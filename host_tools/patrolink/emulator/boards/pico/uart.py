"""A PL011 UART with FIFOs that fill and empty at its baud rate (Arm DDI 0183G).

The UART of rp2040py 0.3.6 raises its TX interrupt for ever.
"""

from collections import deque

from rp2040py.peripherals.uart import RPUART, UARTDR, UARTICR, UARTIMSC, IUARTDMAChannels
from rp2040py.rp2040 import RP2040

_UARTIFLS = 0x34
_FIFO_BYTES = 32
_TX_LEVELS, _RX_LEVELS = (4, 8, 16, 24, 28), (4, 8, 16, 24, 28)  # of the field of UARTIFLS
_RX_INTERRUPT, _TX_INTERRUPT, _TIMEOUT_INTERRUPT = 1 << 4, 1 << 5, 1 << 6
_TX_EMPTY, _RX_FULL, _TX_FULL, _RX_EMPTY, _BUSY = 1 << 7, 1 << 6, 1 << 5, 1 << 4, 1 << 3
_BITS, _TIMEOUT_BITS = 10, 32


class Pl011(RPUART):
    """A UART. Received bytes that do not fit are lost.

    Attributes:
        on_byte: Called with each byte that has left the pin.
    """

    def __init__(self, rp2040: RP2040, name: str, irq: int, dreq: IUARTDMAChannels) -> None:
        super().__init__(rp2040, name, irq, dreq)
        self._sent: deque[int] = deque()
        self._received: deque[int] = deque()
        self._levels = 0x12
        self._shifter = rp2040.clock.create_alarm(self._on_sent)
        self._idle = rp2040.clock.create_alarm(self._on_idle)

    def reset(self) -> None:
        """See RPUART."""
        super().reset()
        self._sent.clear()
        self._received.clear()
        self._levels = 0x12
        self._shifter.cancel()
        self._idle.cancel()

    @property
    def flags(self) -> int:
        """The flag register."""
        return (
            (0 if self._sent else _TX_EMPTY)
            | (_TX_FULL if len(self._sent) >= self._depth else 0)
            | (0 if self._received else _RX_EMPTY)
            | (_RX_FULL if len(self._received) >= self._depth else 0)
            | (_BUSY if self._sent else 0)
        )

    def feed_byte(self, value: int) -> None:
        """Receive a byte."""
        if not (self.enabled and self.rx_enabled) or len(self._received) >= self._depth:
            return
        self._received.append(value)
        self._idle.schedule(_TIMEOUT_BITS * self._bit_ns)
        self.check_interrupts()

    def check_interrupts(self) -> None:
        """Set the interrupt line from the state of FIFOs and masks."""
        level = _RX_LEVELS[min(self._levels >> 3 & 7, 4)] if self.fifos_enabled else 1
        if len(self._received) >= level:
            self._interrupt_status |= _RX_INTERRUPT
        else:
            self._interrupt_status &= ~_RX_INTERRUPT
        if not self._received:
            self._interrupt_status &= ~_TIMEOUT_INTERRUPT
        self.rp2040.set_interrupt(self.irq, bool(self._interrupt_status & self._interrupt_mask))

    def read_uint32(self, offset: int) -> int:
        """See RPUART."""
        if offset == UARTDR:
            value = self._received.popleft() if self._received else 0
            self.check_interrupts()
            return value
        return self._levels if offset == _UARTIFLS else super().read_uint32(offset)

    def write_uint32(self, offset: int, value: int) -> None:
        """See RPUART."""
        if offset == UARTDR:
            if len(self._sent) < self._depth:
                self._sent.append(value & 0xFF)
            if len(self._sent) == 1:
                self._shifter.schedule(_BITS * self._bit_ns)
        elif offset == _UARTIFLS:
            self._levels = value & 0x3F
        elif offset in (UARTIMSC, UARTICR):
            super().write_uint32(offset, value)
            self.check_interrupts()
        else:
            super().write_uint32(offset, value)

    @property
    def _depth(self) -> int:
        return _FIFO_BYTES if self.fifos_enabled else 1

    @property
    def _bit_ns(self) -> float:
        return 1e9 / max(self.baud_rate, 1)

    def _on_sent(self) -> None:
        value = self._sent.popleft()
        if self.on_byte:
            self.on_byte(value)
        if self._sent:
            self._shifter.schedule(_BITS * self._bit_ns)
        if len(self._sent) == (_TX_LEVELS[min(self._levels & 7, 4)] if self.fifos_enabled else 0) or not self._sent:
            self._interrupt_status |= _TX_INTERRUPT
            self.check_interrupts()

    def _on_idle(self) -> None:
        if self._received:
            self._interrupt_status |= _TIMEOUT_INTERRUPT
            self.check_interrupts()
