"""`patrolink flash` into the slots of an emulated board: from the image file to an agent that is ready."""

import contextlib
import json
import shutil
import threading
from pathlib import Path

import pytest
from agent.update.boot_records import CONFIRMED
from patrolink.cli import main
from patrolink.core import boards
from patrolink.core.errors import DeviceError
from patrolink.emulator.boards import qemu
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.scenarios.shift import Shift
from patrolink.flash import flash_image
from patrolink.flash.image import build, image_file, romfs
from patrolink.flash.methods import serial_console
from patrolink.flash.methods.serial_console import SerialMethod
from patrolink.flash.records import RefusedError
from patrolink.flash.serial_link import SerialLink

from tests.support.flash_images import write_signed_image
from tests.support.polling import wait_until
from tests.support.release_keys import TRUST, private_key
from tests.support.repl_boards import ReplBoard
from tests.support.slot_board import SlotBoard

BOARD = boards.find("mps2_an385")
SEED = 3
HOURS = 0.02
CONTENT = bytes(i * 7 & 0xFF for i in range(60_000))
CONFIG = qemu.wired_config(
    BOARD,
    {
        "device": "a",
        "key": "00" * 32,
        "broker": {"host": "broker.example", "port": 1883},
        "modem": {"apn": "internet"},
    },
)
pytestmark = pytest.mark.skipif(
    bool(BOARD.missing_packages()), reason="the packages of board mps2_an385 are not installed"
)


@pytest.fixture(scope="module")
def agent() -> bytes:
    """The content of the agent image."""
    return build.build_agent(BOARD, build.BuildInfo("1.0", 1, 1)).payload


@pytest.fixture
def power_on(tmp_path):
    """Return a function that powers the board on, after it was switched off."""
    with contextlib.ExitStack() as stack:

        def on(**settings) -> ReplBoard:
            stack.close()
            board = ReplBoard(tmp_path / "board", "dev-1", heap_kb=BOARD.heap_kb, **settings)
            stack.callback(board.close)
            return board

        yield on


def newer(content: bytes) -> bytes:
    """Return the content of the agent with one more file."""
    return romfs.write({**romfs.read(content), "notes.txt": b"version 2"})


def slots(board: ReplBoard) -> SlotBoard:
    return SlotBoard(BOARD, board.chip)


def update_area(board: ReplBoard) -> bytes:
    return board.chip.read_bytes()[BOARD.image.flash_kb << 10 :]


def lines(board: ReplBoard) -> list[str]:
    """Return what the console has said about starts of the agent."""
    text = board.log.read_bytes().decode(errors="replace").splitlines()
    return [line for line in text if line.startswith(("slot ", "device: ready", "no slot"))]


def flash(image: Path, board: ReplBoard, *options: str) -> int:
    names = ["--method", "serial", "--board", BOARD.name, "--trust", str(TRUST), "--retries", "0"]
    return main(["flash", str(image), board.path, *names, *options])


def method(board: ReplBoard, image: Path) -> SerialMethod:
    return SerialMethod(board.path, threading.Event(), flash_image.load(image))


def test_board_starts_what_was_flashed_and_the_broker_confirms_it(power_on, agent, tmp_path, capsys):
    board = power_on(config=CONFIG)
    first = write_signed_image(tmp_path / "first.plimg", agent, rollback=1)
    second = write_signed_image(tmp_path / "second.plimg", newer(agent), rollback=2, version="2.0")
    started = ["slot a, on trial", "device: ready, boot "]
    assert flash(first, board) == 0
    wait_until(lambda: len(lines(board)) >= 2 and "slot a" in lines(board)[-2], lambda: board.log.read_text())
    assert [line.startswith(text) for line, text in zip(lines(board)[-2:], started, strict=True)] == [True, True]
    # Sessions over the console cost no attempt: with three the trial would end.
    for _ in range(4):
        starts = len(lines(board))
        assert flash(second, board, "--dry-run") == 0
        wait_until(lambda before=starts: len(lines(board)) >= before + 2, lambda: board.log.read_text())
    assert slots(board).journal.state.slots[0].attempts == 1
    link = SerialLink(board.path, serial_console.BAUD, threading.Event())
    link.write(b"\x03")
    link.read_until(b"stopped by the console\r\n", 15)
    link.read_until(b">>> ", 15)
    link.close()
    assert slots(board).journal.state.slots[0].attempts == 0, "nor does Ctrl-C"
    capsys.readouterr()
    assert flash(first, board, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["flash_state"] == "unchanged"
    assert flash(second, board) == 0
    wait_until(lambda: "slot b, on trial" in lines(board)[-2:-1], lambda: board.log.read_text())
    board.close()
    run = Shift(BOARD, PROFILES["city"], SEED)
    shutil.copyfile(board.chip, run._chip)
    chip = SlotBoard(BOARD, run._chip)  # its file is removed after the run
    report = run.run(HOURS)
    state = chip.journal.state
    assert report.delivered > 30 and report.problems == [] and report.flash_violations == 0
    assert state.slots[1].confirmed and state.floor == 2 and not state.slots[0].confirmed


def test_platform_without_a_receiver_is_named(power_on, agent, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(serial_console, "_PROGRAM", "import app.receiver_of_a_later_platform\n")
    assert flash(write_signed_image(tmp_path / "agent.plimg", agent), power_on()) == 1
    assert "its platform has no receiver of agent images; flash the platform image" in capsys.readouterr().out


def altered(path: Path) -> Path:
    """Change the version in the header of a signed image."""
    image = image_file.load(path)
    image_file.save(path, image._replace(header=image.header._replace(version="9.9")))
    return path


@pytest.fixture
def confirmed(power_on, tmp_path) -> ReplBoard:
    """A board whose slot a holds a confirmed image with rollback number 5."""
    board = power_on()
    assert flash(write_signed_image(tmp_path / "first.plimg", CONTENT, rollback=5), board) == 0
    board.close()
    journal = slots(board).journal
    journal.append(journal.state.slot_record(CONFIRMED, 0))
    journal.append(journal.state.floor_record(5))
    return power_on()


def test_images_that_must_not_run_are_refused_by_tool_and_board(confirmed, tmp_path, capsys):
    """The board refuses also if the host does not look, and nothing in its flash changes."""
    board, content = confirmed, CONTENT[::-1]
    for key, fields, change, by_tool, by_board in (
        ("another", {}, None, "signature: unknown key", "a release key that this platform does not have"),
        (BOARD.name, {}, altered, "signature: invalid", "the signature of the image is not valid"),
        (BOARD.name, {"rollback": 4}, None, "below the floor of the device, 5", "rollback number 4 is below 5"),
        (BOARD.name, {"minimum_platform": 2}, None, "needs platform 2, but", "needs platform 2, this device has 1"),
        (BOARD.name, {"board": "rpi_pico"}, None, "for board rpi_pico", "image for board rpi_pico, this is mps2_an385"),
    ):
        image = write_signed_image(tmp_path / "new.plimg", content, private_key(key), **{"rollback": 6, **fields})
        if change is not None:
            change(image)
        assert flash(image, board) in (1, 2)
        printed = capsys.readouterr()
        assert by_tool in printed.out + printed.err
        session = method(board, image)
        with contextlib.closing(session):
            session.identify()
            before = update_area(board)
            with pytest.raises(RefusedError, match=by_board):
                session.write(None, lambda done, total: None)
            assert update_area(board) == before
    image = write_signed_image(tmp_path / "new.plimg", content, rollback=6)
    assert flash(image, board) == 0
    state = slots(board).journal.state
    assert state.slots[0].confirmed and state.slots[1].rollback == 6 and state.slots[1].install == 2


def test_image_of_a_key_that_the_platform_lacks_is_refused_before_it_is_sent(confirmed, tmp_path):
    """If the operator trusts this key: the tool knows those of the platform from the board."""
    session = method(confirmed, write_signed_image(tmp_path / "new.plimg", CONTENT, private_key("another"), rollback=6))
    with contextlib.closing(session):
        identity = session.identify()
        assert (identity.version, identity.rollback, identity.rollback_floor, identity.platform) == ("1.0", 5, 5, 1)
        assert (identity.board, identity.architecture, len(identity.release_keys)) == (BOARD.name, "armv7m", 1)
        with pytest.raises(RefusedError, match="but the platform of the board accepts"):
            session.plan(identity)


def test_cut_in_the_middle_leaves_the_previous_image_and_the_next_run_goes_on(confirmed, power_on, tmp_path):
    board = confirmed
    image = write_signed_image(tmp_path / "new.plimg", CONTENT[::-1], rollback=6)

    def cut(done, total) -> None:
        if done > 30_000:
            board.close()
            raise DeviceError("cut")

    session = method(board, image)
    with contextlib.closing(session):
        plan = session.plan(session.identify())
        with pytest.raises(DeviceError):
            session.write(plan, cut)
        session._link.close()
        session._session = None
    state = slots(board).journal.state
    assert state.slots[0].confirmed and state.slots[1].install == 0
    assert slots(board).area.header(0).rollback == 5 and slots(board).area.header(1) is None
    board = power_on()
    resumed = method(board, image)
    with contextlib.closing(resumed):
        plan, blocks = resumed.plan(resumed.identify()), []
        write_block = resumed._session.write_block
        resumed._session.write_block = lambda number, *rest: (blocks.append(number), write_block(number, *rest))
        resumed.write(plan, lambda done, total: None)
        resumed.verify(plan)
    assert 0 < len(blocks) <= 8 and blocks[0] >= 7
    assert slots(board).journal.state.slots[1].rollback == 6


def test_watchdog_restarts_a_board_whose_cable_broke(power_on, tmp_path):
    """Bytes of the host feed it; without them the board does not wait in the receiver for ever."""
    board = power_on(config={"watchdog": 2000})  # not a whole configuration: no agent starts the watchdog before
    session = method(board, write_signed_image(tmp_path / "new.plimg", CONTENT))
    session.identify()
    session._link.close()
    wait_until(lambda: b"after watchdog" in board.log.read_bytes(), lambda: board.log.read_text(errors="replace"))
