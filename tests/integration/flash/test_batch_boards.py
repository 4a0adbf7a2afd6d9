"""Sixteen emulated boards flashed and provisioned at once, with two that fail, a kill, and a resumption."""

import contextlib
import json
import signal
import subprocess
import sys

import pytest
from patrolink.core import boards, keys
from patrolink.emulator.peripherals import flash

from tests.support.batch_site import BOARD, BatchSite
from tests.support.label_sheets import read_codes
from tests.support.littlefs_files import read_files
from tests.support.polling import TIMEOUT_S, wait_until
from tests.support.repl_boards import ReplBoard

FLASH_KB = 256
BOARDS, SILENT, FULL = 16, 4, 11
pytestmark = pytest.mark.skipif(
    bool(boards.find(BOARD).missing_packages()), reason="the packages of board mps2_an385 are not installed"
)


class Rack:
    """Emulated boards.

    Args:
        folder: Folder of their chips.
        stack: Switches them off.
    """

    def __init__(self, folder, stack) -> None:
        self._folder, self._stack = folder, stack
        self.boards = {}

    def power_on(self, i: int) -> None:
        """Power a board on, or cut its power and power it on again."""
        if i in self.boards:
            self.boards[i].close()
        self.boards[i] = ReplBoard(self._folder / f"b{i}", f"unit-{i}", flash_kb=FLASH_KB, heap_kb=128)
        self._stack.callback(self.boards[i].close)

    def fill(self, i: int) -> None:
        """Fill the file system of a board that was never switched on."""
        chip = self._folder / f"b{i}" / "flash.bin"
        chip.parent.mkdir()
        flash.provision(chip, FLASH_KB, "/filler", bytes(((FLASH_KB - 8) << 10) - 2048))

    def config(self, i: int) -> dict:
        """Return the configuration of a board."""
        chip = self._folder / f"b{i}" / "flash.bin"
        return json.loads(read_files(chip, FLASH_KB, ["/config.json"])["/config.json"])

    def empty(self, i: int) -> None:
        """Remove the file that fills a board, which is switched off meanwhile."""
        self.boards[i].close()
        flash.provision(self._folder / f"b{i}" / "flash.bin", FLASH_KB, "/filler", b"")

    @property
    def ports(self) -> list[str]:
        return [self.boards[i].path for i in sorted(self.boards)]


@pytest.fixture
def rack(tmp_path):
    with contextlib.ExitStack() as stack:
        boards_on = Rack(tmp_path, stack)
        boards_on.fill(FULL)
        for i in range(BOARDS):
            boards_on.power_on(i)
        boards_on.boards[SILENT].suspend()
        yield boards_on


def command(site: BatchSite, ports: list[str], *options: str) -> list[str]:
    return [sys.executable, "-m", "patrolink", *site.words(ports, *options)]


def steps(site: BatchSite) -> list[tuple[str, str, str]]:
    return [(event.step, event.device, event.result) for event in site.history().events]


def test_sixteen_boards_two_failures_a_kill_and_a_resumption(rack, tmp_path):
    (tmp_path / "site").mkdir()
    site = BatchSite(tmp_path / "site", BOARDS)
    killed = subprocess.Popen(command(site, rack.ports, "--quiet"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: [step for step, _, _ in steps(site)].count("provision") >= 5, lambda: str(steps(site)))
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=TIMEOUT_S)
    done_before = {device for step, device, result in steps(site) if (step, result) == ("flash", "ok")}
    assert done_before and not site.labels_path.exists()

    resumed = subprocess.run(command(site, rack.ports, "--resume", "--json"), stdout=subprocess.PIPE, text=True)
    rows = [json.loads(line) for line in resumed.stdout.splitlines()]
    by_port = {row["port"]: row for row in rows if row["record"] == "flashed_device"}
    bad = {i for i in range(BOARDS) if by_port[rack.boards[i].path]["flash_state"] in ("failed", "refused")}
    assert resumed.returncode == 1 and bad == {SILENT, FULL}, resumed.stdout
    assert "flash error 28" in by_port[rack.boards[FULL].path]["why"]
    assert len(read_codes(site.labels_path.read_bytes())) == BOARDS - 2

    rack.power_on(SILENT)  # on other ports
    rack.empty(FULL)
    rack.power_on(FULL)
    last = subprocess.run(command(site, rack.ports, "--resume", "--retries", "3"), capture_output=True, text=True)
    assert last.returncode == 0, last.stdout + last.stderr
    assert site.check() == 1  # only a key without a row: that of the site
    events, known, units = site.history().events, keys.load(site.folder / "keys.toml"), site.units()
    assert len(units) == len(set(units.values())) == BOARDS
    flashed = [event.unique_id for event in events if (event.step, event.result) == ("flash", "ok")]
    assert len(flashed) == len(set(flashed)) and site.history().damage == []
    for i in range(BOARDS):
        config = rack.config(i)
        assert known[config["device"]].secret == bytes.fromhex(config["key"])
        wait_until(
            lambda i=i, name=config["device"]: f"agent of {name} runs".encode() in rack.boards[i].log.read_bytes()
        )
    assert read_codes(site.labels_path.read_bytes()) == [
        f"PL1:radio-{i}:SN-{i:04d}:{units[f'radio-{i}']}" for i in range(1, BOARDS + 1)
    ]
