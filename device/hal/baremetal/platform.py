"""The platform of boards that MicroPython runs on directly: machine.UART, Pin and WDT, and a flash file system.

See hal/contract.md. In the configuration a UART is its number, or {"id": 1, "tx": 4, "rx": 5} to override the board's
default pins, with "baudrate" when it is not 115200. "buttons" is {"sos": pin, "off": pin} with optional "record" and
"man_down" pins; a pressed button pulls its pin low. "watchdog" is in milliseconds. A board's board.toml lists these
under [wiring].
"""

import select
import sys

import machine
from hal.baremetal.update_area import open_flash  # noqa: F401  # part of the contract
from hal.common import Clock, Files, Store, battery, randbelow, runtime, tcp_socket  # noqa: F401  # part of the contract

FROZEN = True  # the agent's code is in flash, not in the heap
WATCHDOG_MAX_MS = 8388 if sys.platform == "rp2" else 3_600_000
IDLE_MS = 200  # UARTs end a sleep; a button press is latched by an interrupt and handled after this time at most
_BAUD = 115200
_RX_BUFFER_BYTES = 2048
_BUTTONS = ("off", "sos", "man_down", "record")


class Inputs:
    """The UARTs that wake the main loop."""

    def __init__(self):
        self._poll = select.poll()

    def add(self, uart):
        """Let `uart` wake the main loop when it can be read."""
        self._poll.register(uart, select.POLLIN)

    def wait(self, timeout_ms):
        """Sleep until a UART can be read, at most `timeout_ms`."""
        for _ in self._poll.ipoll(timeout_ms):
            return


class Uart:
    """A UART of the chip, read without blocking.

    Args:
        settings: Number of the UART, or a dictionary of machine.UART's arguments.
        now_ms: Ignored; so are `log` and `name`. Posix boards need them.
        inputs: Inputs that received bytes wake.
    """

    def __init__(self, settings, now_ms, log, name, inputs):
        options = dict(settings) if isinstance(settings, dict) else {"id": settings}
        port = options.pop("id")
        baud = options.pop("baudrate", _BAUD)
        self._options = options
        self._uart = machine.UART(port, baud, rxbuf=_RX_BUFFER_BYTES, **options)
        self._inputs = inputs
        inputs.add(self._uart)

    def wait(self, timeout_ms):
        """Sleep until this or another UART can be read, at most `timeout_ms`."""
        self._inputs.wait(timeout_ms)

    def readinto(self, buf):
        """Read available bytes into `buf` and return their number."""
        n = self._uart.any()
        if not n:
            return 0
        return self._uart.readinto(buf, min(n, len(buf))) or 0

    def write(self, buf):
        """Send bytes; blocks while the transmit buffer is full."""
        self._uart.write(buf)

    def set_baud(self, baud):
        """Change the baud rate. Unread bytes are lost."""
        self._uart.init(baud, rxbuf=_RX_BUFFER_BYTES, **self._options)


class Buttons:
    """Pins that are low while their button is pressed. A press is latched until it is read.

    Args:
        inputs: Ignored; posix boards need it.
        pins: {button name: pin number}, or None.
    """

    def __init__(self, inputs, pins):
        pins = pins or {}
        self._pressed = bytearray(len(_BUTTONS))
        self._pins = [
            self._watch(i, machine.Pin(pins[name], machine.Pin.IN, machine.Pin.PULL_UP))
            for i, name in enumerate(_BUTTONS)
            if name in pins
        ]

    def _watch(self, i, pin):
        def pressed(pin):
            self._pressed[i] = 1

        pin.irq(pressed, machine.Pin.IRQ_FALLING)
        return pin

    def read(self):
        """Return the name of a button that was pressed, as bytes, or None."""
        for i, name in enumerate(_BUTTONS):
            if self._pressed[i]:
                self._pressed[i] = 0
                return name.replace("_", "-").encode()
        return None


class Pin:
    """A digital output.

    Args:
        number: Number of the pin.
    """

    def __init__(self, number):
        self._pin = machine.Pin(number, machine.Pin.OUT)

    def set(self, level):
        """Switch the output on or off."""
        self._pin.value(level)

    def get(self):
        """Return whether the output is on."""
        return bool(self._pin.value())


def clip_storage(directory):
    """Return the hal.clip_storage.ClipStorage of a directory. Raises OSError."""
    from hal.clip_storage import ClipStorage  # only where clips are recorded: it takes heap

    return ClipStorage(directory)


def camera(settings, indicator, now_ms, log, inputs):
    """Return the camera of a configuration. Raises ImportError for any kind but a vc0706 on a UART."""
    if settings.get("kind") != "vc0706":
        raise ImportError
    from agent.recording import vc0706  # only where a camera is configured: it takes heap

    uart = Uart(settings["source"], now_ms, log, "camera", inputs)
    return vc0706.Camera(uart, indicator, now_ms, log, settings)


class Watchdog:
    """Resets the board when it is not fed in time. It cannot be stopped.

    Args:
        timeout_ms: Milliseconds between two feeds at most, or None for no watchdog.
    """

    def __init__(self, timeout_ms):
        self._wdt = machine.WDT(timeout=timeout_ms) if timeout_ms else None

    def feed(self):
        """Restart the countdown."""
        if self._wdt:
            self._wdt.feed()

    def close(self):
        """Prepare for a planned power-off: machine.deepsleep follows at once."""
        self.feed()


def reset():
    """Reset the board."""
    machine.reset()


def board_counters():
    """Return {name: count} of what the emulated board counts, or None on other boards."""
    try:
        import board  # of the mps2_an385 port
    except ImportError:
        return None
    names = ("programs", "erases", "violations", "overruns", "heap_peak")
    return dict(zip(names, board.counts()))
