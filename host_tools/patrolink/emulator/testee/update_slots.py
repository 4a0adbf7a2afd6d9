"""Slots of the agent as a testee: an update area in a folder, and images for it.

An image holds a few kilobytes of any content: whichever slot is started, the agent of this checkout runs. Everything
else of an update is real: download, verification, installation, records, selection and trial.
"""

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from patrolink_protocol import image_header

from patrolink.emulator.boards import agent_loader
from patrolink.flash.image import build, release_key
from patrolink.flash.image.image_file import Image

BOARD, OTHER_BOARD, ARCHITECTURE, PLATFORM = "linux", "unix", "cpython", 1
_ROLLBACK = 2
_CONTENT_BYTES = 3000


def _private_key() -> ec.EllipticCurvePrivateKey:
    """Return the release key of testees; everybody knows it."""
    seed = hashlib.sha256(b"patrolink release key of testees, for tests only").digest()
    return ec.derive_private_key(int.from_bytes(seed, "big"), ec.SECP256R1())


def _image(number: int, board: str) -> Image:
    """Return a signed agent image; each number has another content."""
    content = hashlib.shake_256(f"testee {number}".encode()).digest(_CONTENT_BYTES)
    digest = hashlib.sha256(content).digest()
    header = image_header.ImageHeader(
        *(image_header.AGENT, _ROLLBACK, PLATFORM, len(content), digest, image_header.NO_BASE, len(content), digest),
        *(board, ARCHITECTURE, f"0.{number}", image_header.NO_KEY, image_header.UNSIGNED),
    )
    return Image(release_key.sign(header, _private_key()), content)


def _packed_image(number: int, board: str) -> bytes:
    """Return the same image packed for the air."""
    delta = build.build_delta(None, _image(number, board))
    return delta._replace(header=release_key.sign(delta.header, _private_key())).pack()


def next_image(folder: Path, board: str) -> bytes:
    """Return an image with a content that no image of this folder had before."""
    counter = folder / "images"
    number = int(counter.read_text(encoding="ascii")) + 1 if counter.exists() else 1
    counter.write_text(str(number), encoding="ascii")
    return _packed_image(number, board)


class UpdateSlots:
    """Update area of a testee. With the first start, slot a gets a confirmed image.

    Args:
        folder: Folder of the area; it is created.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        platform = ModuleType("platform_build")
        self._keys = (release_key.point(_private_key().public_key()),)
        vars(platform).update(BOARD=BOARD, ARCHITECTURE=ARCHITECTURE, PLATFORM=PLATFORM, RELEASE_KEYS=self._keys)
        sys.modules["platform_build"] = platform
        files = agent_loader.module("hal.posix.update_area")
        self.flash: Any = files.FileFlash(files.Folder(str(folder)))
        self._is_power_on = True

    def select(self) -> int:
        """Return the slot that is started now, after its records were written."""
        slots, journals = (agent_loader.module(f"agent.update.{name}") for name in ("slots", "boot_journal"))
        area, journal = slots.UpdateArea(self.flash, self.flash.slot_bytes), journals.BootJournal(self.flash)
        if not journal.generation:
            self._install(area, journal)
        sequence = agent_loader.module("agent.update.boot_sequence").BootSequence(area, journal, PLATFORM)
        slot: int = sequence.select(self._is_power_on).slot
        self._is_power_on = False
        return slot

    def _install(self, area: Any, journal: Any) -> None:
        """Install a first image, and confirm it."""
        module, (header, content) = agent_loader.module("agent.update.installer"), _image(0, BOARD)
        verify = agent_loader.module("agent.update.release_keys").ReleaseKeys(self._keys).verify
        complete = agent_loader.module("compat.steps").run_to_completion
        installer = module.Installer(area, journal, verify, module.Target(BOARD, ARCHITECTURE, PLATFORM))
        complete(installer.begin(image_header.pack(header)))
        for index in range(installer.blocks):
            at = index * module.BLOCK_BYTES
            installer.write_block(index, memoryview(content)[at : at + installer.block_size(index)])
        complete(installer.finish())
        confirmed = agent_loader.module("agent.update.boot_records").CONFIRMED
        journal.append(journal.state.slot_record(confirmed, installer.slot))
