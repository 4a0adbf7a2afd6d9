"""The platform of boards that MicroPython runs on directly: machine.UART, Pin and WDT, a flash file system.

Configuration: UARTs are numbers, or {"id": 1, "tx": 4, "rx": 5} where the board's own pins are not meant, with
"baudrate" where it is not 115200; "buttons" {"sos": pin, "off": pin} and, where there are such, "record" and "man_down"
(pressed is low), "watchdog" milliseconds. A board's board.toml has these under [wiring].
"""

import select

import machine
from hal.common import Clock, Files, Store, battery, clip_storage, randbelow, runtime

FROZEN = True  # the agent's code is in flash, and not in the heap
IDLE_MS = 200  # UARTs end a sleep; a button is latched by its interrupt and waits so long at most
_BAUD = 115200
_RX_ROOM = 2048
_BUTTONS = ("off", "sos", "man_down", "record")


class Inputs:
    """Whatever may wake the main loop."""

    def __init__(self):
        self._poll = select.poll()

    def add(self, uart):
        self._poll.register(uart, select.POLLIN)

    def wait(self, ms):
        """Sleep until a UART has something, for `ms` at most."""
        for _ in self._poll.ipoll(ms):
            return


class Uart:
    """A UART of the chip, read without blocking."""

    def __init__(self, where, now_ms, log, name, inputs):
        given = dict(where) if isinstance(where, dict) else {"id": where}
        port = given.pop("id")
        baud = given.pop("baudrate", _BAUD)
        self._given = given
        self._uart = machine.UART(port, baud, rxbuf=_RX_ROOM, **given)
        self._inputs = inputs
        inputs.add(self._uart)

    def wait(self, ms):
        """Sleep until this or another UART has something, for `ms` at most."""
        self._inputs.wait(ms)

    def readinto(self, buf):
        """Return how many bytes were put into `buf`."""
        n = self._uart.any()
        if not n:
            return 0
        return self._uart.readinto(buf, min(n, len(buf))) or 0

    def write(self, buf):
        """Send."""
        self._uart.write(buf)

    def rate(self, baud):
        """From now on the line has this rate. What has come and was not read is lost."""
        self._uart.init(baud, rxbuf=_RX_ROOM, **self._given)


class Buttons:
    """Pins that are low while pressed. A press is remembered until it is read."""

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
    """An output."""

    def __init__(self, number):
        self._pin = machine.Pin(number, machine.Pin.OUT)

    def set(self, level):
        self._pin.value(level)

    def get(self):
        """Return whether it is on."""
        return bool(self._pin.value())


def camera(given, now_ms, log, inputs):
    """Return the camera of a configuration. ImportError for another than one on a UART."""
    if given.get("kind") != "vc0706":
        raise ImportError
    from agent.recording import vc0706

    uart = Uart(given["source"], now_ms, log, "camera", inputs)
    return vc0706.Camera(uart, Pin(given["indicator"]), now_ms, log, given)


class Watchdog:
    """Resets the board when it is not fed for so many milliseconds; None: there is none. It can't be stopped."""

    def __init__(self, ms):
        self._wdt = machine.WDT(timeout=ms) if ms else None

    def feed(self):
        if self._wdt:
            self._wdt.feed()

    def close(self):
        """The power goes as planned: machine.deepsleep follows at once."""
        self.feed()


reset = machine.reset


def counts():
    """What this board counts about itself; None where it does not."""
    try:
        import board
    except ImportError:
        return None
    names = ("programs", "erases", "violations", "overruns", "heap_peak")
    return dict(zip(names, board.counts()))
