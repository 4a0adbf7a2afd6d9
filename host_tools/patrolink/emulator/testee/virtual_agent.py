"""The agent under CPython as a testee on a pipe with a virtual clock: hours of timers take seconds.

Storage is the agent's own, in a folder; it survives as the kit kills this process.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards import agent_loader
from patrolink.emulator.boards.virtual_camera import CameraHal
from patrolink.emulator.boards.virtual_hal import Line, Reset
from patrolink.emulator.network.carrier import Network
from patrolink.emulator.scenarios.environment import HOST
from patrolink.emulator.testee.kit_network import HOST as KIT_HOST
from patrolink.emulator.testee.update_slots import UpdateSlots
from patrolink.emulator.testee.virtual_site import VirtualSite

UPLOAD_PORT = 5080
# The base point of P-256: recordings of this testee are for everybody, as the private key is 1.
EVIDENCE_KEY = bytes.fromhex("036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
_BOOT_MS = 1000


class _CardWriter:
    """Appends to a file. It need not survive more than the end of this process."""

    fault = ""
    behind = 0

    def __init__(self, path: str) -> None:
        self._file = open(path, "ab")  # noqa: SIM115 - closed by `close`

    def write(self, data: bytes | memoryview) -> None:
        """Append data."""
        self._file.write(data)

    def sync(self) -> None:
        """Pass what was written to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Card:
    """Carries out the operations of hal.clip_storage at once (see hal.posix.background.WriteQueue)."""

    def open(self, path: str) -> _CardWriter:
        """Return a writer."""
        return _CardWriter(path)

    def add(self, function: Callable[[str], None], name: str) -> None:
        """Call a function."""
        function(name)

    def flush(self, timeout_ms: int) -> None:
        """Do nothing."""


class FolderBoard(CameraHal):
    """A board on a virtual clock whose storage is a folder.

    Args:
        network: Radio and carrier of the board.
        flash: Flash port of its update area.
    """

    IDLE_MS = 50
    SHORTEST_WAIT_MS = 1

    def __init__(self, network: Network, flash: Any) -> None:
        super().__init__(network, "testee", lambda: None)
        self._update_area = flash
        self.lines["gps"] = Line()
        self._storage = agent_loader.module("hal.common")
        self._clip_storage = agent_loader.module("hal.clip_storage")

    # --- names of the HAL contract ---

    def Store(self, folder: str) -> Any:  # noqa: N802
        """Return the records in a folder."""
        return self._storage.Store(folder)

    def Files(self, folder: str) -> Any:  # noqa: N802
        """Return the files of a folder."""
        return self._storage.Files(folder)

    def open_flash(self) -> Any:
        """Return the flash port of the update area."""
        return self._update_area

    def clip_storage(self, folder: str) -> Any:
        """Return the card."""
        return self._clip_storage.ClipStorage(folder, _Card())


class VirtualAgent(VirtualSite):
    """The testee.

    Args:
        folder: Folder of its state.
        name: Device id.
        key: Its key.
        from_kit, to_kit: File descriptors of the pipe.
    """

    def __init__(self, folder: Path, name: str, key: DeviceKey, from_kit: int, to_kit: int) -> None:
        super().__init__(folder, name, from_kit, to_kit)
        self._program, config = agent_loader.load()
        self._slots = UpdateSlots(folder / "slots")
        self._board = FolderBoard(self.network, self._slots.flash)
        self._config: dict[str, Any] = {
            **config.DEFAULTS,
            "board": "linux",
            "device": name,
            "key": key.secret,
            "key_epoch": key.epoch,
            "broker": {"host": HOST, "port": 1883},
            "gps_uart": "gps",
            "state_dir": str(folder / "state"),
            "audio": {"mic": "mic", "speaker": "speaker", "indicator": "indicator"},
            "ptt": {**config.PTT_DEFAULTS, "site": "testee"},
            "camera": {"source": "camera", "indicator": "indicator", "kind": "vc0706"},
            "clips": _clips(config, folder),
            **self.settings(),
        }

    def press(self, button: str) -> None:
        """See `VirtualSite.press`."""
        self._board.press(button.encode())

    def send_sentences(self, data: bytes) -> None:
        """See `VirtualSite.send_sentences`."""
        self._board.deliver_now("gps", data)

    def power_on(self) -> None:
        """See `VirtualSite.power_on`: the agent runs in the actions of the scheduler."""
        self._board.start(self._run)

    def _run(self) -> None:
        """Run the agent, again after each reset that it asks for, until it switches the board off."""
        with (self.folder / "console.log").open("a", encoding="utf-8", buffering=1) as log:

            def write_line(text: str) -> None:
                print(f"{self.scheduler.now / 1000:10.3f} {text}", file=log)

            while True:
                self._board.boot()
                with contextlib.suppress(Reset):
                    slot = self._slots.select()
                    self._program.Device(self._config, self._board, write_line, slot).run()
                    return
                self._board.pause(_BOOT_MS)


def _clips(defaults: Any, folder: Path) -> dict[str, Any]:
    """Return the configuration of clips: short ones, uploaded to the kit."""
    upload = {**defaults.UPLOAD_DEFAULTS, "host": KIT_HOST, "port": UPLOAD_PORT}
    times = {"pre_s": 5, "post_s": 5, "segment_s": 5}
    paths = {"dir": str(folder / "clips"), "evidence_key": EVIDENCE_KEY, "upload": upload, "sound": "never"}
    return {**defaults.CLIPS_DEFAULTS, **times, **paths}
