"""An emulated Pico: from its stock boot ROM to an agent in a slot, and what its parts refuse."""

import os
import subprocess
import threading
from pathlib import Path

import pytest
from patrolink.core import boards
from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.emulator.boards.pico.__main__ import main as bring_up_main
from patrolink.emulator.boards.pico.board import PicoBoard
from patrolink.emulator.boards.pico.usb_host import BulkEndpoints, bulk_endpoints
from patrolink.flash import uf2
from patrolink.flash.image import build, image_file, release_key

from tests.support.paths import ROOT
from tests.support.release_keys import TRUST, private_key

BOARD = "rpi_pico"
FOLDER = ROOT / "boards" / BOARD
ADDRESS = 0x10000000


@pytest.fixture(scope="module")
def firmware() -> Path:
    """The firmware of the board, which accepts images of the tests' release key."""
    build = Path(os.environ.get("PATROLINK_BUILD", ROOT / "build"))
    done = subprocess.run(
        [str(FOLDER / "build.sh")],
        env={**os.environ, "PATROLINK_RELEASE_TRUST": str(TRUST)},
        capture_output=True,
        text=True,
    )
    if done.returncode == 4:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return build / "images" / BOARD / "firmware.bin"


def save_signed(image: image_file.Image, path: Path) -> Path:
    image_file.save(path, image._replace(header=release_key.sign(image.header, private_key())))
    return path


@pytest.mark.long(240)
@pytest.mark.timeout(1500)
@pytest.mark.unchanged_inputs(
    *("boards", "build/device-lib", "device", "protocol"),
    programs=("arm-none-eabi-gcc", "cmake", "ninja"),
)
def test_from_the_boot_rom_to_an_agent_in_a_slot(firmware, tmp_path, monkeypatch, capsys):
    board = boards.find(BOARD)
    built = build.build_platform(board, firmware.read_bytes(), build.BuildInfo("1.0", 1, 1))
    platform = save_signed(built, tmp_path / "platform.plimg")
    agent = save_signed(build.build_agent(board, build.BuildInfo("2.0", 1, 1)), tmp_path / "agent.plimg")
    monkeypatch.setattr("sys.argv", ["pico", str(platform), str(agent)])
    assert bring_up_main() == 0, capsys.readouterr().err
    output = capsys.readouterr().out
    assert "the boot ROM finds an erased chip" in output
    assert "method uf2 has written" in output and "method serial has written" in output
    console = output[output.index("the agent in the slot is ready") :]
    assert "slot a, on trial" in console and "device: ready" in console and "Traceback" not in output


def test_boot_rom_describes_itself():
    board = PicoBoard()
    assert board.is_drive and "Board-ID: RPI-RP2" in board.info().decode()
    with pytest.raises(DeviceError, match="no console"):
        board.open_link("pico", 0, threading.Event())


def test_boot_rom_programs_flash_but_does_not_start_a_firmware_without_a_checksum():
    """The boot ROM takes blocks in any order, restarts after the last one, and finds no second stage."""
    content = bytes(range(256)) * 8
    blocks = uf2.make(content, ADDRESS, uf2.RP2040)
    board = PicoBoard()
    board.write_uf2(blocks[512:] + blocks[:512])
    assert board.is_drive and board.chip.resets == 1
    flash = board.chip.flash()
    assert flash[: len(content)] == content and flash[4096:].count(0xFF) == len(flash) - 4096


def test_boot_rom_waits_for_missing_blocks():
    blocks = uf2.make(bytes(2048), ADDRESS, uf2.RP2040)
    board = PicoBoard()
    with pytest.raises(DeadlineError, match="no restart within"):
        board.write_uf2(blocks[:-512], limit_ms=100)


def test_other_families_are_ignored():
    board = PicoBoard()
    with pytest.raises(DeadlineError, match="no restart within"):
        board.write_uf2(uf2.make(bytes(512), ADDRESS, 0xE48BFF59), limit_ms=100)
    assert board.chip.flash().count(0xFF) == len(board.chip.flash())


def test_endpoints_of_a_descriptor():
    interface = bytes([9, 4, 0, 0, 2, 8, 6, 80, 0])
    ends = bytes([7, 5, 0x81, 2, 64, 0, 0]) + bytes([7, 5, 0x02, 2, 64, 0, 0])
    assert bulk_endpoints(interface + ends) == {8: BulkEndpoints(1, 2)}
    assert bulk_endpoints(interface + ends[:7] + bytes([0])) == {}


def test_missing_image_and_bad_configuration(tmp_path, monkeypatch, capsys):
    bad = tmp_path / "config.json"
    bad.write_text("{")
    for arguments, code, message in [
        ([], 2, "usage:"),
        (["a.plimg", "b.plimg", str(bad)], 2, "no device configuration"),
        (["a.plimg", "b.plimg"], 2, "a.plimg: No such file"),
    ]:
        monkeypatch.setattr("sys.argv", ["pico", *arguments])
        assert bring_up_main() == code and message in capsys.readouterr().err
