"""Slots of the emulated board: trial, confirmation, way back, power cuts, safe mode and a damaged file system."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patrolink.core import boards, resources
from patrolink.emulator.boards import qemu
from patrolink.emulator.boards.lockstep import Lockstep
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.peripherals import flash
from patrolink.emulator.scenarios.shift import Shift
from patrolink.emulator.scheduler import Scheduler
from patrolink.flash.image import romfs
from patrolink.flash.image.build import compile_module

from tests.support.slot_board import ARCHITECTURE, SlotBoard

BOARD = "mps2_an385"
SEED = 3
HOURS = 0.02
# Flash operations of the first start: 0 is the attempt mark, 19 the confirmation, 20 the floor, others are of files.
OPERATIONS = (0, 10, 18, 19, 20, 21)
BUG = "def start(*arguments):\n    raise ValueError('bug of the new image')\n"
WITHOUT_CONFIGURATION = "def start(*arguments):\n    return 2\n"


@pytest.fixture(scope="module")
def board():
    board = boards.find(BOARD)
    if board.missing_packages():
        pytest.skip(f"{BOARD}: apt-get install {' '.join(board.missing_packages())}")
    return board


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """The compiled modules of the agent by their paths in a ROMFS."""
    folder = tmp_path_factory.mktemp("image") / "agent"
    subprocess.run([sys.executable, str(resources.root() / "boards" / "firmware_sources.py"), str(folder)], check=True)
    return {
        path.relative_to(folder).with_suffix(".mpy").as_posix(): compile_module(path, folder, ARCHITECTURE)
        for path in sorted(folder.rglob("*.py"))
    }


@pytest.fixture
def content(modules, tmp_path):
    """Return the content of an agent image, optionally with another `app/start.py`."""

    def build(start: str = "") -> bytes:
        if not start:
            return romfs.write(modules)
        source = tmp_path / "start.py"
        source.write_text(start)
        return romfs.write({**modules, "app/start.mpy": compile_module(source, tmp_path, ARCHITECTURE)})

    return build


def shift(board, **named) -> tuple[Shift, SlotBoard]:
    """Return a patrol of some minutes, and the slots of its board."""
    run = Shift(board, PROFILES["city"], SEED, **named)
    flash.provision(run._chip, board.image.flash_kb, "/config.json", b"{}")
    return run, SlotBoard(board, run._chip)


def starts(run: Shift) -> list[str]:
    """Return what the console says about each start."""
    lines = [line.split(None, 1)[1] for line in run.log]
    return [line for line in lines if line.startswith(("slot ", "safe mode", "no slot", "device: ready"))]


def test_new_image_is_confirmed_by_the_first_acknowledgement(board, content):
    run, slots = shift(board)
    assert slots.install(content(), 7) == 0
    assert slots.journal.state.floor == 0
    report = run.run(HOURS)
    assert starts(run) == ["slot a, on trial", "device: ready, boot 1"], "\n".join(run.log)
    assert report.delivered == report.recorded > 60 and report.flash_violations == 0 and report.problems == []
    state = slots.journal.state
    # The planned power-off at the end costs no attempt.
    assert state.slots[0].confirmed and state.slots[0].attempts == 0 and state.floor == 7


@pytest.mark.parametrize("fault", [BUG, WITHOUT_CONFIGURATION], ids=["bug", "refuses the configuration"])
def test_image_that_crashes_three_times_makes_room_for_the_previous_one(board, content, fault):
    run, slots = shift(board)
    slots.install(content(), 1, confirmed=True)
    assert slots.install(content(fault), 2) == 1
    report = run.run(HOURS)
    assert starts(run) == ["slot b, on trial"] * 3 + ["slot a", "device: ready, boot 1"], "\n".join(run.log)
    assert report.resets == ["reset"] * 3 and report.delivered > 30
    state = slots.journal.state
    assert state.slots[1].failed and state.slots[0].confirmed and state.floor == 1


def test_damaged_image_is_not_started(board, content):
    run, slots = shift(board)
    slots.install(content(), 1, confirmed=True)
    slots.install(content(), 2)
    at = slots.area.content_offset(1) + 100_000
    byte = bytearray(1)
    while not byte[0]:  # programming can only clear bits
        at += 1
        slots.flash.read_into(at, byte)
    slots.flash.program(at, bytes(1))
    run.run(HOURS)
    assert starts(run) == ["slot a", "device: ready, boot 1"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_power_cut_at_a_flash_operation_costs_neither_image_nor_confirmation(board, content, operation):
    run, slots = shift(board, cut=operation)
    slots.install(content(), 1, confirmed=True)
    slots.install(content(), 2)
    report = run.run(HOURS)
    assert report.power_cuts == 1 and report.flash_violations == 0 and report.lost == 0
    assert starts(run)[-2] in ("slot b, on trial", "slot b"), "\n".join(run.log)
    state = slots.journal.state
    assert [slot.confirmed for slot in state.slots] == [True, True] and state.floor == 2


def console(board, work: Path, chip=None, **config) -> str:
    """Return what the console says until the board waits at its prompt."""
    rig = Lockstep(board, work, Scheduler())
    path = work / "flash.bin"
    flash.provision(path, board.image.flash_kb, "/config.json", json.dumps(config).encode())
    if chip is not None:
        chip(path)
    output = bytearray()

    def hear(data: bytes) -> None:
        output.extend(data)
        if output.endswith(b">>> "):
            rig.cut_power()

    rig.on_bytes = {qemu.CONSOLE_UART: hear}
    rig.life(qemu.Straps(board.heap_kb, board.image.flash_kb, "x", 1_790_000_000, SEED, lockstep=True))
    return output.decode()


def test_bug_of_the_frozen_agent_leads_to_safe_mode_and_then_to_the_prompt(board, tmp_path):
    key = "00" * 32
    broker = {"host": "broker.example", "port": 1883}
    text = console(
        *(board, tmp_path),
        device="a",
        key=key,
        broker=broker,
        gps_uart=1,
        state_dir="/state",
        modem={"uart": 2, "apn": "internet"},
        watchdog=1,  # machine.WDT refuses it
    )
    assert text.count("ValueError: timeout") == 4 and text.count("safe mode after 3 crashes") == 1, text
    assert text.endswith(">>> ")


def test_damaged_file_system_is_not_formatted(board, tmp_path):
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.write(b"\x55" * 8192)

    text = console(board, tmp_path, damage)
    assert "the file system is damaged and is not formatted" in text, text
    with (tmp_path / "flash.bin").open("rb") as file:
        assert file.read(8192) == b"\x55" * 8192
    shutil.rmtree(tmp_path)


def test_slots_of_the_board_have_the_size_in_its_description(board):
    port = (resources.root() / "boards" / BOARD / "port" / "modboard.c").read_text()
    assert f"#define SLOT_BYTES ({board.update.slot_kb}u * 1024u)" in port
