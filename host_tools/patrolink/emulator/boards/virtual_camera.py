"""Camera and card of a simulated board with a network stack. Pictures are small, so that a district can have many."""

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from PIL import Image

from patrolink.emulator.boards.virtual_hal import Flash, VirtualFiles
from patrolink.emulator.boards.virtual_stack import StackHal, VirtualSensor
from patrolink.emulator.network.carrier import Network

_SIZE = 64, 48
_PICTURES = 8


class Film(NamedTuple):
    """What a camera plays in a loop.

    Args:
        pictures: JPEG files.
        size: Width and height.
        fps: Pictures per second.
    """

    pictures: Sequence[bytes]
    size: tuple[int, int]
    fps: int


@functools.cache
def _grey() -> Film:
    """Return a grey that changes once a second."""
    pictures = []
    for i in range(_PICTURES):
        data = io.BytesIO()
        Image.new("RGB", _SIZE, (30 * i, 30 * i, 60)).save(data, "JPEG", quality=40)
        pictures.append(data.getvalue())
    return Film(pictures, _SIZE, 1)


class VirtualCamera(VirtualSensor):
    """A camera of the HAL on a virtual clock."""

    fault = ""
    dropped = damaged = 0

    def __init__(self, hal: "CameraHal", indicator: Any, film: Film) -> None:
        super().__init__(hal, indicator)
        self._pictures = film.pictures
        self.width, self.height = film.size
        self.fps = film.fps
        self._taken_ms = 0.0
        self._count = 0

    def _tick(self, opening: int) -> None:
        if self.is_open and opening == self._opening:
            self._hal.wake()
            self._hal.network.scheduler.after(1000 / self.fps, lambda: self._tick(opening))

    def frame(self) -> tuple[bytes, int, int] | None:
        """Return the next picture; None if it is not due."""
        now_ms = self._hal.network.scheduler.now
        if not self.is_open or now_ms - self._taken_ms < 1000 / self.fps:
            return None
        self._taken_ms = now_ms
        self._count += 1
        return self._pictures[self._count % len(self._pictures)], self._hal.Clock().now_ms(), 0


class _Writer:
    """Appends to a file of a card at once."""

    fault = ""
    behind = 0

    def __init__(self, files: VirtualFiles, name: str) -> None:
        self._files, self._name = files, name
        files.append(name, b"")

    def write(self, data: bytes | memoryview) -> None:
        self._files.append(self._name, data)

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class VirtualCard(VirtualFiles):
    """Clip storage of a board. It survives a power cut as it is."""

    def open(self, name: str) -> _Writer:
        """Return a writer that appends to a file."""
        return _Writer(self, name)

    def drop(self, name: str) -> None:
        """Remove a file, if there is one."""
        if name in self.names():
            self.remove(name)

    def flush(self, timeout_ms: int) -> None:
        """Do nothing."""

    def free_kb(self) -> int | None:
        """Return None: it is not limited."""
        return None


class CameraHal(StackHal):
    """Platform of a board with a camera and a card.

    Args:
        network, seed, on_sensors: See StackHal.
        film: What the camera plays; None: a grey that changes once a second.
    """

    def __init__(self, network: Network, seed: str, on_sensors: Callable[[], None], film: Film | None = None) -> None:
        super().__init__(network, seed, on_sensors)
        self._card, self._film = Flash(), film or _grey()

    # --- names of the HAL contract ---

    def camera(self, settings: Any, indicator: Any, now_ms: object, log: object, inputs: object) -> VirtualCamera:
        """Return the camera."""
        return VirtualCamera(self, indicator, self._film)

    def clip_storage(self, folder: str) -> VirtualCard:
        """Return the card."""
        return VirtualCard(self._card, folder)
