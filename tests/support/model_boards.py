"""Boards that are files, for tests of batches: they keep their state when the process that flashes them is killed."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

from patrolink.core import keys
from patrolink.core.errors import DeviceError
from patrolink.flash import ledger
from patrolink.flash.flash_image import FlashImage
from patrolink.flash.method import Method
from patrolink.flash.records import Assignment, Identity, Plan


class ModelBoard:
    """A board in a file, whose path is its port.

    Args:
        path: The file; it is created if necessary.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_text(json.dumps({"content": "", "files": {}, "writes": 0}))

    @property
    def unique_id(self) -> str:
        """Unique id of the board."""
        return self.path.stem.replace("-", "").ljust(8, "0")

    @property
    def state(self) -> dict:
        """What the board holds: hash of its content, files, and how often its image was written."""
        return json.loads(self.path.read_text())

    def change(self, **fields) -> None:
        """Change what the board holds, atomically."""
        new = self.path.with_suffix(".tmp")
        new.write_text(json.dumps({**self.state, **fields}))
        os.replace(new, self.path)

    @property
    def config(self) -> dict:
        """The configuration; empty if there is none."""
        text = self.state["files"].get("config.json")
        return json.loads(text) if text else {}


class ModelMethod(Method):
    """Writes to a ModelBoard, and notes what must not happen in the file `violations`.

    Args:
        port: Path of the board's file.
        cancel: See Method.
        image: The image.
        folder: Folder of the site: keys and ledger are read from it when the board is written.
        step: Called before and after each change of the board.
    """

    def __init__(
        self, port: str, cancel: threading.Event, image: FlashImage, folder: Path, step: Callable[[], None]
    ) -> None:
        super().__init__(port, cancel)
        self._board, self._image, self._folder, self._step = ModelBoard(Path(port)), image, folder, step

    def identify(self) -> Identity:
        """See Method."""
        if self._board.path.with_suffix(".dead").exists():
            raise DeviceError(f"{self.port}: no answer")
        config = self._board.config
        return Identity(
            unique_id=self._board.unique_id,
            board=self._image.header.board,
            content_sha256=bytes.fromhex(self._board.state["content"]),
            configured=bool(config),
            device=config.get("device", ""),
        )

    def plan(self, identity: Identity) -> Plan:
        """See Method."""
        return Plan(self._image.label, 1, identity.content_sha256 == self._image.header.sha256)

    def write(self, plan: Plan, report) -> None:
        """See Method."""
        self._expect(bool(self._units().get(self._board.unique_id)), "written before the ledger had its row")
        self._expect(not plan.unchanged, "written although it held the image")
        self._step()
        state = self._board.state
        self._board.change(content=self._image.header.sha256.hex(), writes=state["writes"] + 1)
        self._step()

    def verify(self, plan: Plan) -> None:
        """See Method."""

    def provision(self, assignment: Assignment) -> bool:
        """See Method."""
        if self._board.path.with_suffix(".full").exists():
            raise DeviceError(f"{self.port}: flash error 28")
        files = {name: content.decode() for name, content in assignment.files.items()}
        if files == self._board.state["files"]:
            return False
        key = bytes.fromhex(json.loads(files["config.json"])["key"])
        known = keys.load(self._folder / "keys.toml").get(assignment.device)
        self._expect(known is not None and known.secret == key, "got a key that the hub did not have")
        owner = self._units().get(self._board.unique_id)
        self._expect(owner == assignment.device, f"is {owner}, but was made {assignment.device}")
        self._step()
        self._board.change(files=files)
        self._step()
        return True

    def release(self) -> None:
        """See Method."""
        self._step()

    def close(self) -> None:
        """See Method."""

    def _units(self) -> dict[str, str]:
        events = ledger.read(self._folder / "ledger.jsonl").events
        return {unit: device for device, unit in ledger.units(events).items()}

    def _expect(self, condition: bool, text: str) -> None:
        if not condition:
            with (self._folder / "violations").open("a") as f:
                f.write(f"{self.port} {text}\n")
