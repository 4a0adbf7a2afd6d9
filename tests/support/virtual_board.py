"""Board of a simulated device: network stack or AT modem, headset, camera and card, on a virtual clock."""

from typing import Any

import numpy as np
from patrolink.emulator.boards.virtual_camera import CameraHal, Film
from patrolink.emulator.boards.virtual_hal import Line
from patrolink.emulator.boards.virtual_stack import VirtualAudio
from patrolink.emulator.network.carrier import Network

RATE = 8000
UNIT_MS = 10
_UNIT_BYTES = 160


class Headset:
    """Microphone and speaker.

    Attributes:
        opened_ms: When the microphone was opened last; None while it is closed.
        opened_at_ms: All times at which it was opened.
        played: All samples written to the speaker, as (virtual ms, bytes).
    """

    def __init__(self) -> None:
        self.opened_ms: float | None = None
        self.opened_at_ms: list[float] = []
        self.played: list[tuple[float, bytes]] = []
        self._speech = b""

    def speak(self, speech: np.ndarray, after_ms: int = 0) -> None:
        """Speak when the microphone is opened next, after a delay, with silence before and after."""
        self._speech = bytes(after_ms * RATE // 1000 * 2) + speech.astype("<i2").tobytes()

    def unit(self, number: int) -> bytes:
        """Return the samples of 10 ms that the microphone gives."""
        part = self._speech[number * _UNIT_BYTES : (number + 1) * _UNIT_BYTES]
        return part + bytes(_UNIT_BYTES - len(part))

    def output(self, since_ms: float, until_ms: float) -> np.ndarray:
        """Return the samples that the speaker played in a time, as its converter concatenates them."""
        samples = np.zeros(round((until_ms - since_ms) * RATE / 1000))
        free_ms = 0.0
        for written_ms, data in self.played:
            begin_ms = max(written_ms, free_ms)
            free_ms = begin_ms + 1000 * len(data) / 2 / RATE
            at = round((begin_ms - since_ms) * RATE / 1000)
            if 0 <= at < len(samples):
                unit = np.frombuffer(data, "<i2")[: len(samples) - at]
                samples[at : at + len(unit)] = unit
        return samples


class VirtualBoard(CameraHal):
    """Platform of a board. It sleeps as long as the agent asks for, as boards do.

    Args:
        network: Radio and carrier of the board.
        seed: Seed of its random numbers.
        film: What its camera plays; None: a grey.
    """

    IDLE_MS = 20
    SHORTEST_WAIT_MS = 1

    def __init__(self, network: Network, seed: str, film: Film | None = None) -> None:
        super().__init__(network, seed, lambda: None, film)
        self.headset = Headset()
        self.lines["gps"] = Line()

    def audio(self) -> "_Audio":
        return _Audio(self)


class _Audio(VirtualAudio):
    def __init__(self, board: VirtualBoard) -> None:
        super().__init__(board)
        self._board = board

    def Microphone(self, where: object, indicator: Any, inputs: object, log: object) -> Any:  # noqa: N802 - of the HAL
        return _Microphone(self._board, indicator)

    def Speaker(self, where: object, now_ms: object, log: object) -> Any:  # noqa: N802 - of the HAL
        return _Speaker(self._board)


class _Microphone:
    """A microphone of the HAL: it is open only while its indicator is on."""

    def __init__(self, board: VirtualBoard, indicator: Any) -> None:
        self._board, self._indicator, self.buf = board, indicator, bytearray(_UNIT_BYTES)
        self._units = 0

    def open(self) -> bool:
        headset, now_ms = self._board.headset, self._board.network.scheduler.now
        self._indicator.set(1)
        headset.opened_ms, self._units = now_ms, 0
        headset.opened_at_ms.append(now_ms)
        self._tick(now_ms)
        return True

    def _tick(self, opened_ms: float) -> None:
        if self._board.headset.opened_ms == opened_ms:
            self._board.wake()
            self._board.network.scheduler.after(UNIT_MS, lambda: self._tick(opened_ms))

    def read(self) -> int:
        opened_ms = self._board.headset.opened_ms
        if opened_ms is None or opened_ms + (self._units + 1) * UNIT_MS > self._board.network.scheduler.now:
            return 0
        self.buf[:] = self._board.headset.unit(self._units)
        self._units += 1
        return _UNIT_BYTES

    def close(self) -> None:
        self._board.headset.opened_ms = None
        self._indicator.set(0)


class _Speaker:
    def __init__(self, board: VirtualBoard) -> None:
        self._board = board

    def write(self, pcm: bytes | bytearray | memoryview) -> None:
        self._board.headset.played.append((self._board.network.scheduler.now, bytes(pcm)))
