"""Method `esptool`: the unmodified esptool against models of the ESP32's loader, some of them broken."""

import contextlib
import os
import random
import threading

import pytest
from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.emulator.peripherals.esp_rom import ESP32_S2_MAGIC, Faults
from patrolink.flash import child_process
from patrolink.flash.device_flow import State
from patrolink.flash.fleet import Fleet, Options
from patrolink.flash.methods import esptool
from patrolink.flash.methods.esptool import EsptoolMethod
from patrolink.flash.records import CancelledError, Port, RefusedError

from tests.support.esp_boards import EspBoard

ADDRESS = 0x1000
CONTENT = random.Random(19).randbytes(96 << 10)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "platform.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def boards():
    """Return a function that powers a board on."""
    with contextlib.ExitStack() as stack:

        def power_on(number: int, **settings) -> EspBoard:
            board = EspBoard(number, **settings)
            stack.callback(board.close)
            return board

        yield power_on


def method(board: EspBoard, image, cancel=None) -> EsptoolMethod:
    return EsptoolMethod(board.path, cancel or threading.Event(), "ESP32", image, ADDRESS, "platform 1.0")


def content(board: EspBoard) -> bytes:
    return bytes(board.rom.flash[ADDRESS : ADDRESS + len(CONTENT)])


def run_fleet(boards, image, retries: int = 0) -> Fleet:
    def make(path, cancel):
        return EsptoolMethod(path, cancel, "ESP32", image, ADDRESS, "platform 1.0")

    fleet = Fleet([Port(b.path) for b in boards], make, list, Options(jobs=16, retries=retries), lambda device: None)
    fleet.run()
    return fleet


def test_sixteen_boards_at_once_of_which_two_fail(boards, image):
    faults = {3: Faults(silent=True), 9: Faults(cut_after=2)}
    fleet_boards = [boards(i, faults=faults.get(i)) for i in range(16)]
    fleet = run_fleet(fleet_boards, image)
    assert [device.state for device in fleet.devices] == [
        State.FAILED if i in faults else State.FLASHED for i in range(16)
    ]
    assert all(content(board) == CONTENT for i, board in enumerate(fleet_boards) if i not in faults)
    assert all(device.attempts == 1 for device in fleet.devices)
    ids = [device.identity.unique_id for i, device in enumerate(fleet.devices) if i != 3]
    assert ids == [fleet_boards[i].mac.hex() for i in range(16) if i != 3]
    assert "No serial data received; check cable" in fleet.devices[3].reason


def test_unchanged_board_is_not_written(boards, image):
    board = boards(1)
    board.rom.flash[ADDRESS : ADDRESS + len(CONTENT)] = CONTENT
    fleet = run_fleet([board], image)
    assert fleet.devices[0].state is State.UNCHANGED
    assert {0x03, 0x11} & board.rom.commands.keys() == set() and content(board) == CONTENT


def test_wrong_chip_is_refused_before_anything_is_erased(boards, image):
    board = boards(1, magic=ESP32_S2_MAGIC)
    board.rom.flash[:] = bytes(len(board.rom.flash))
    fleet = run_fleet([board], image, retries=3)
    (device,) = fleet.devices
    assert device.state is State.REFUSED and "for ESP32, but this is ESP32-S2" in device.reason
    assert board.rom.flash == bytes(len(board.rom.flash)) and device.attempts == 1


def test_board_that_changed_since_the_plan_is_not_written(boards, image):
    board, other = boards(1), boards(2)
    writer = method(board, image)
    plan = writer.plan(writer.identify())
    os.unlink(board.path)
    os.symlink(other.path, board.path)  # the system has renumbered its ports
    with pytest.raises(RefusedError, match="MAC 24:0a:c4:00:00:02 answers, not 24:0a:c4:00:00:01"):
        writer.write(plan, lambda done, total: None)
    assert content(other) == b"\xff" * len(CONTENT)


def test_flash_chip_that_does_not_hold_data_fails(boards, image):
    at = next(i for i, byte in enumerate(CONTENT) if not byte & 1)
    board = boards(1, faults=Faults(stuck_bit_at=ADDRESS + at))
    fleet = run_fleet([board], image)
    assert fleet.devices[0].state is State.FAILED and "does not match data in flash" in fleet.devices[0].reason


def test_flipped_bit_in_an_answer_is_survived(boards, image):
    board = boards(1, faults=Faults(corrupt_answer=60))
    fleet = run_fleet([board], image, retries=1)
    assert fleet.devices[0].state is State.FLASHED and content(board) == CONTENT


def test_progress_reaches_the_size(boards, image):
    writer, reports = method(boards(1), image), []
    writer.write(writer.plan(writer.identify()), lambda done, total: reports.append((done, total)))
    assert reports == sorted(reports) and reports[-1] == (len(CONTENT), len(CONTENT)) and len(reports) > 2


def test_cancellation_ends_esptool(boards, image):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        method(boards(1), image, cancel).identify()


def test_child_process_keeps_the_last_lines_of_its_output():
    code, lines = child_process.run(["sh", "-c", "seq 5000; exit 3"], 60, threading.Event(), lambda line: None)
    assert (code, len(lines), lines[-1]) == (3, 2000, "5000")


def test_program_that_hangs_is_stopped():
    with pytest.raises(DeadlineError, match="did not end within 0 s"):
        child_process.run(["sh", "-c", "sleep 600"], 0.2, threading.Event(), print)


def test_port_that_does_not_exist(tmp_path, image):
    with pytest.raises(DeviceError, match="esptool: "):
        EsptoolMethod(str(tmp_path / "gone"), threading.Event(), "ESP32", image, 0, "x").identify()


def test_missing_esptool_names_its_extra(monkeypatch):
    monkeypatch.setattr(esptool.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Exception, match=r"pip install 'patrolink\[flash\]'"):
        esptool.require_esptool()
