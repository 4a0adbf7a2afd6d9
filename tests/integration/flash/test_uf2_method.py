"""Method `uf2` on a model of the RP2040's drive: it programs blocks, and disappears after the last one."""

import random
import struct
import threading

import pytest
from patrolink.cli import main
from patrolink.core.errors import DeadlineError
from patrolink.flash import uf2
from patrolink.flash.flash_image import load
from patrolink.flash.methods import uf2 as uf2_method
from patrolink.flash.methods.uf2 import Uf2Method
from patrolink_protocol import image_header

from tests.support.flash_images import write_image

CONTENT = random.Random(3).randbytes(70_001)
INFO = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: {}\r\n"
ADDRESS = 0x10000000


class PicoDrive:
    """The drive of a board. Its thread programs the file when it is complete, then removes the drive."""

    def __init__(self, folder, board_id: str = "RPI-RP2", deaf: bool = False) -> None:
        folder.mkdir()
        self.path, self.flash = folder, {}
        (folder / "INFO_UF2.TXT").write_text(INFO.format(board_id))
        self._stop, self._deaf = threading.Event(), deaf
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        file = self.path / "PATROLNK.UF2"
        while not self._stop.wait(0.01):
            data = file.read_bytes() if file.exists() else b""
            if len(data) < 512 or self._deaf:
                continue
            (count,) = struct.unpack_from("<I", data, 24)
            if len(data) < count * 512:
                continue
            for at in range(0, len(data), 512):
                address, size, _, _, family = struct.unpack_from("<5I", data, at + 12)
                assert family == uf2.RP2040
                self.flash[address] = data[at + 32 : at + 32 + size]
            (self.path / "INFO_UF2.TXT").unlink()
            return

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def content(self, size: int) -> bytes:
        return b"".join(self.flash[ADDRESS + at] for at in range(0, size, 256))[:size]


@pytest.fixture
def image(tmp_path):
    """Return the path of a platform image for the Pico."""
    fields = {"kind": image_header.PLATFORM, "board": "rpi_pico", "architecture": "armv6m"}
    return lambda content=CONTENT: write_image(tmp_path / "platform.plimg", content, **fields)


@pytest.fixture
def drives(tmp_path):
    """Return a function that plugs a board in."""
    plugged = []

    def plug(name: str = "drive", **settings) -> PicoDrive:
        plugged.append(PicoDrive(tmp_path / name, **settings))
        return plugged[-1]

    yield plug
    for drive in plugged:
        drive.close()


@pytest.mark.parametrize("content", [CONTENT, uf2.make(CONTENT, ADDRESS, uf2.RP2040)], ids=["binary", "uf2"])
def test_boards_are_programmed_and_restart(image, drives, content, capsys):
    first, second = drives("one"), drives("two")
    assert main(["flash", str(image(content)), str(first.path), str(second.path), "--unverified"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 devices: 2 flashed"
    assert first.content(len(CONTENT)) == second.content(len(CONTENT)) == CONTENT


def test_drive_of_another_board_is_not_written(image, drives, capsys):
    drive = drives(board_id="RP2350")
    assert main(["flash", str(image()), str(drive.path), "--unverified"]) == 1
    assert "this drive is of RP2350" in capsys.readouterr().out
    assert [path.name for path in drive.path.iterdir()] == ["INFO_UF2.TXT"]


@pytest.mark.parametrize(
    "content",
    [
        uf2.make(CONTENT, ADDRESS, 0xE48BFF59),
        uf2.make(CONTENT, ADDRESS, uf2.RP2040)[:-1],
        uf2.make(CONTENT[:256], ADDRESS, uf2.RP2040) + uf2.make(CONTENT[:256], ADDRESS, 1),
    ],
    ids=["other family", "cut", "mixed"],
)
def test_uf2_file_for_another_chip_or_damaged_is_refused(image, drives, content, capsys):
    drive = drives()
    assert main(["flash", str(image(content)), str(drive.path), "--unverified"]) == 1
    assert "damaged or for another chip" in capsys.readouterr().out
    assert [path.name for path in drive.path.iterdir()] == ["INFO_UF2.TXT"]


def test_board_that_does_not_restart_has_failed(image, drives, monkeypatch):
    monkeypatch.setattr(uf2_method, "_RESTART_S", 0.2)
    method = Uf2Method(str(drives(deaf=True).path), threading.Event(), load(image()))
    plan = method.plan(method.identify())
    method.write(plan, lambda done, total: None)
    with pytest.raises(DeadlineError, match="did not restart within 0.2 s"):
        method.verify(plan)


def test_folder_that_is_no_drive_and_all(image, tmp_path, capsys):
    assert main(["flash", str(image()), str(tmp_path), "--unverified", "--retries", "0"]) == 1
    assert "no drive of a boot loader" in capsys.readouterr().out
    assert main(["flash", str(image()), "--all", "--unverified"]) == 2
    assert "name the folders" in capsys.readouterr().err
