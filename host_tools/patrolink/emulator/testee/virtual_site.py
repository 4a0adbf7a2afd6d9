"""Surroundings of a testee on a virtual clock: receiver, carrier and broker without faults, and the pipe to the kit."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from patrolink.emulator.network.carrier import Connection, Network, Profile, Remote
from patrolink.emulator.network.virtual_broker import VirtualBroker
from patrolink.emulator.scenarios.environment import HOST, walk
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.testee.buttons import Buttons
from patrolink.emulator.testee.kit_network import HOST as KIT_HOST
from patrolink.emulator.testee.kit_network import KitNetwork
from patrolink.emulator.testee.kit_pipe import CUT, HOLD, RELEASE, RESTORE, KitPipe
from patrolink.emulator.testee.wall_clock import WallClock

_PROFILE = Profile(rtt_ms=40, jitter_ms=0, loss=0.0, up_kbps=10_000, down_kbps=10_000)
_FIX_MS = 1000
CLOCKLESS = "clockless"  # file in the folder: the next start has no time


class VirtualSite(ABC):
    """Base class of testees on a virtual clock.

    Args:
        folder: Folder of the testee's state.
        name: Device id.
        from_kit, to_kit: File descriptors of the pipe.

    Attributes:
        folder: The folder.
        scheduler: Virtual clock; it begins at 0.
        clock: Time of day.
        network: Radio and carrier of the device.
    """

    def __init__(self, folder: Path, name: str, from_kit: int, to_kit: int) -> None:
        self.folder, self._name = folder, name
        self.scheduler = Scheduler()
        self.clock = WallClock(folder / "clock", self.scheduler)
        self._broker = VirtualBroker(self.scheduler, self._on_publish)
        self.network = Network(self.scheduler, _PROFILE, 1, self._dial)
        buttons = Buttons(folder / "buttons", self.press)
        self._kit = KitNetwork(lambda traffic: self._pipe.send_traffic(traffic))
        self._pipe = KitPipe(
            *(self.scheduler, from_kit, to_kit, buttons),
            *(self._on_frame, self._kit.arrive, self._on_link, self.clock.save),
        )
        self._fixes = 0

    def settings(self) -> dict[str, Any]:
        """Return further settings of the device: settings.json in the folder, if it is there."""
        path = self.folder / "settings.json"
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return settings

    @abstractmethod
    def press(self, button: str) -> None:
        """Press a button of the device."""

    @abstractmethod
    def send_sentences(self, data: bytes) -> None:
        """Deliver sentences of the receiver to the device."""

    @abstractmethod
    def power_on(self) -> None:
        """Run the device, or return when it runs in the actions of the scheduler."""

    def run(self) -> None:
        """Run until the kit closes the pipe. The receiver is silent if there is the file `clockless`, which is removed.

        Raises:
            KitGoneError: It has.
        """
        self._pipe.wait()
        clockless = self.folder / CLOCKLESS
        if clockless.exists():
            clockless.unlink()
        else:
            self.scheduler.after(_FIX_MS, self._send_fix)
        self.power_on()
        while True:
            self.scheduler.step()

    def _on_link(self, action: int) -> None:
        if action == CUT:
            self._broker.stop()
        elif action == HOLD:
            self._broker.mute = True
        elif action in (RESTORE, RELEASE):
            self._broker.up = True
            self._broker.release()

    def _dial(self, kind: str, host: str, port: int, connection: Connection) -> Remote | None:
        if host == KIT_HOST:
            return self._kit.dial(kind, port, connection)
        return self._broker.dial(kind, host, port, connection) if host == HOST else None

    def _on_publish(self, device: str, payload: bytes) -> None:
        self._pipe.send(payload)

    def _on_frame(self, frame: bytes) -> None:
        self._broker.send(self._name, frame)

    def _send_fix(self) -> None:
        epochs = walk()
        self.send_sentences(epochs[self._fixes % len(epochs)].at(self.clock.unix_ms() // 1000 * 1000))
        self._fixes += 1
        self.scheduler.after(_FIX_MS, self._send_fix)
