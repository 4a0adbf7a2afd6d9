"""Network stack and sound of a simulated board that is not behind an AT modem."""

from collections import deque
from collections.abc import Callable
from typing import Any

from patrolink.emulator.boards.parallel_hal import ParallelHal
from patrolink.emulator.network.carrier import Connection, Network

_ECONNREFUSED, _ECONNRESET = 111, 104
_UNIT_BYTES = 160  # 10 ms of samples
_TICK_MS = 60  # how often the microphone delivers samples
_WAITING_MAX = 64  # datagrams in the receive buffer of a socket
_VOICE_WAIT_MS = 50  # shortest wait while there is voice: sound is played in pieces of this length
_VOICE_MS = 1000  # after sound or a datagram there may be voice for this time
_SPEECH = bytes(range(256)) * 2  # loud enough to count as speech


class StackHal(ParallelHal):
    """Platform of a board with a network stack, a microphone and a speaker.

    Args:
        network: Radio and carrier of the board.
        on_sensors: Called when a sensor or the indicator has been switched on or off.

    Attributes:
        indicator: Level of the indicator of all sensors.
        sensors: Sensors that are on.
    """

    def __init__(self, network: Network, seed: str, on_sensors: Callable[[], None]) -> None:
        super().__init__(network.scheduler, seed)
        self.network, self._on_sensors = network, on_sensors
        self.indicator = 0
        self.sensors: set[VirtualSensor] = set()
        self.played_units = 0
        self._voice_until_ms = 0.0
        self.pins["indicator"] = self._set_indicator

    def _set_indicator(self, level: int) -> None:
        self.indicator = level
        self._on_sensors()

    def switch(self, sensor: "VirtualSensor", is_on: bool) -> None:
        """Switch a sensor on or off."""
        (self.sensors.add if is_on else self.sensors.discard)(sensor)
        self._on_sensors()

    def boot(self) -> None:
        """Power on; see VirtualHal. Sockets and sensors of the previous boot are gone."""
        super().boot()
        self.network.forget()
        self.stop_sensors()

    def stop_sensors(self) -> None:
        """Take power or reset from sensors and indicator: the end of a boot, however it came."""
        self.sensors.clear()
        self._set_indicator(0)

    def wake(self) -> None:
        """Wake the main loop: data has arrived at a socket."""
        self._wake()

    def expect_voice(self) -> None:
        """Note a datagram, or sound that is played or recorded."""
        self._voice_until_ms = self._scheduler.now + _VOICE_MS

    def shortest_wait_ms(self) -> float:
        """See ParallelHal."""
        is_voice = self._scheduler.now < self._voice_until_ms
        return min(_VOICE_WAIT_MS, self.SHORTEST_WAIT_MS) if is_voice else self.SHORTEST_WAIT_MS

    # --- names of the HAL contract ---

    def tcp_socket(self) -> Callable[[Any], "VirtualTcp"]:
        return lambda net: VirtualTcp(self, net)

    def audio(self) -> "VirtualAudio":
        return VirtualAudio(self)


class VirtualTcp:
    """TCP stream of a board: a raw stream (see compat.stream)."""

    def __init__(self, hal: StackHal, net: Any) -> None:
        self._hal, self._net = hal, net
        self._connection: Connection | None = None
        self._received = bytearray()
        self._connected = self._refused = self._closed = False

    def connect(self, address: tuple[str, int]) -> None:
        host, port = address
        self._hal.network.connect("TCP", host, port, self._on_connected)
        deadline = self._net.now_ms() + self._net.timeout_ms
        while not self._connected:
            if self._refused:
                raise OSError(_ECONNREFUSED)
            self._net.await_(self, True, deadline)

    def _on_connected(self, connection: Connection | None) -> None:
        if connection is None:
            self._refused = True
        elif self._closed:
            connection.close()
            return
        else:
            self._connection = connection
            connection.on_data, connection.on_closed = self._on_data, self._on_closed
            self._connected = True
        self._hal.wake()

    def _on_data(self, data: bytes) -> None:
        self._received += data
        self._hal.wake()

    def _on_closed(self) -> None:
        self._closed = True
        self._hal.wake()

    def wait(self, writing: bool) -> bool:
        if (self._connected and writing) or self._received or self._closed:
            return True
        self._hal.wait(self._net.slice_ms)
        return bool(self._received)

    def send(self, view: memoryview) -> int:
        if self._closed or self._connection is None:
            raise OSError(_ECONNRESET)
        self._connection.send(bytes(view))
        return len(view)

    def recv_into(self, view: memoryview) -> int | None:
        if not self._received:
            return 0 if self._closed else None
        n = min(len(view), len(self._received))
        view[:n] = self._received[:n]
        del self._received[:n]
        return n

    def close(self) -> None:
        self._closed = True
        if self._connection is not None:
            self._connection.close()


class VirtualUdp:
    """Non-blocking datagrams to and from one peer (see compat.udp)."""

    def __init__(self, hal: StackHal, host: str, port: int) -> None:
        self._hal = hal
        self._waiting: deque[bytes] = deque()
        self._connection = Connection(hal.network, "UDP")
        hal.network.redial(self._connection, host, port)
        if self._connection.remote is None:
            raise OSError(_ECONNREFUSED)
        hal.network.connections.add(self._connection)
        self._connection.on_data = self._on_data

    def _on_data(self, data: bytes) -> None:
        if len(self._waiting) < _WAITING_MAX:
            self._waiting.append(data)
            self._hal.expect_voice()
            self._hal.wake()

    def ready(self) -> bool:
        return True

    def send(self, view: memoryview | bytes) -> None:
        self._connection.send(bytes(view))

    def recv_into(self, buf: memoryview | bytearray) -> int:
        if not self._waiting:
            return 0
        data = self._waiting.popleft()[: len(buf)]
        buf[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._connection.close()


class VirtualAudio:
    """Sound of a board, with the names of the contract's platforms with sound."""

    def __init__(self, hal: StackHal) -> None:
        self._hal = hal

    def Udp(self, host: str, port: int, inputs: object) -> VirtualUdp:
        return VirtualUdp(self._hal, host, port)

    def Microphone(self, where: object, indicator: Any, inputs: object, log: object) -> "VirtualMicrophone":
        return VirtualMicrophone(self._hal, indicator)

    def Speaker(self, where: object, now_ms: object, log: object) -> "VirtualSpeaker":
        return VirtualSpeaker(self._hal)

    def codecs(self, frame_ms: int) -> dict[int, Any]:
        return {}


class VirtualSensor:
    """Camera or microphone of a board. As the HAL demands, the indicator is on before the sensor, and off after it.

    Args:
        indicator: Pin of the HAL.
    """

    def __init__(self, hal: StackHal, indicator: Any) -> None:
        self._hal, self._indicator = hal, indicator
        self._opening = 0  # counts openings: a tick of an earlier one is ignored

    @property
    def is_open(self) -> bool:
        """Whether it is on."""
        return self in self._hal.sensors

    def open(self) -> bool:
        """Switch it on."""
        self._indicator.set(1)
        self._opening += 1
        self._hal.switch(self, True)
        self._tick(self._opening)
        return True

    def _tick(self, opening: int) -> None:
        """Deliver what the sensor has, as long as it is open, and not opened again."""

    def close(self) -> None:
        """Switch it off."""
        if self.is_open:
            self._hal.switch(self, False)
        self._indicator.set(0)


class VirtualMicrophone(VirtualSensor):
    """A microphone that hears speech while it is open."""

    def __init__(self, hal: StackHal, indicator: Any) -> None:
        super().__init__(hal, indicator)
        self.buf = bytearray(_UNIT_BYTES)
        self._opened_ms = 0.0
        self._units = 0

    def open(self) -> bool:
        self._opened_ms, self._units = self._hal.network.scheduler.now, 0
        return super().open()

    def _tick(self, opening: int) -> None:
        if self.is_open and opening == self._opening:
            self._hal.expect_voice()
            self._hal.wake()
            self._hal.network.scheduler.after(_TICK_MS, lambda: self._tick(opening))

    def read(self) -> int:
        due = int(self._hal.network.scheduler.now - self._opened_ms) // 10
        if not self.is_open or self._units >= due:
            return 0
        self._units += 1
        at = self._units % 32 * 10
        self.buf[:] = _SPEECH[at : at + _UNIT_BYTES]
        return _UNIT_BYTES


class VirtualSpeaker:
    """A speaker that counts what it plays."""

    def __init__(self, hal: StackHal) -> None:
        self._hal = hal

    def write(self, pcm: bytes | bytearray | memoryview) -> None:
        self._hal.played_units += 1
        self._hal.expect_voice()
