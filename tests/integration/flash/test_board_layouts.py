"""Flash layouts of the board definitions: parts do not overlap, fit the chip, and slots have the size in board.toml."""

import csv
import re

import pytest
from patrolink.core import boards

from tests.support.paths import ROOT

SECTOR_KB = 4
BOOT_KB = 2 * SECTOR_KB


def update_kb(name: str) -> int:
    update = boards.find(name).update
    assert update is not None
    return BOOT_KB + 2 * update.slot_kb


def test_partitions_of_the_esp32():
    text = (ROOT / "boards" / "lilygo_t_a7670" / "platform" / "partitions.csv").read_text()
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if not row[0].startswith("#")]
    parts = {row[0]: (int(row[3], 0), int(row[4], 0)) for row in rows}
    assert list(parts) == ["nvs", "phy_init", "factory", "romfs", "vfs"]
    end = 0x9000  # behind boot loader and partition table
    for start, size in parts.values():
        assert start == end and start % 4096 == size % 4096 == 0
        end = start + size
    assert end == 4 << 20 and parts["factory"][0] % 0x10000 == 0
    assert parts["romfs"][1] == update_kb("lilygo_t_a7670") << 10


def test_flash_of_the_pico():
    text = (ROOT / "boards" / "rpi_pico" / "platform" / "mpconfigboard.h").read_text()
    (slot_kb,) = re.findall(r"^#define UPDATE_SLOT_KB \((\d+)\)$", text, re.MULTILINE)
    (files_kb,) = re.findall(r"FLASH_STORAGE_BYTES \((\d+) \* 1024\)", text)
    assert BOOT_KB + 2 * int(slot_kb) == update_kb("rpi_pico")
    readme = (ROOT / "boards" / "rpi_pico" / "README.md").read_text()
    assert f"| firmware | up to {2048 - update_kb('rpi_pico') - int(files_kb)} |" in readme


@pytest.mark.parametrize("name", ["rpi_pico", "lilygo_t_a7670"])
def test_platforms_freeze_the_agent_and_never_format_a_damaged_file_system(name):
    platform = ROOT / "boards" / name / "platform"
    manifest = (platform / "manifest.py").read_text()
    assert 'freeze("$(AGENT)")' in manifest and 'freeze("$(BOARD_DIR)/modules")' in manifest
    assert "file_system import mount" in (platform / "modules" / "_boot.py").read_text()
