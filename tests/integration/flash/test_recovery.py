"""`patrolink flash --recover`: boards without a good slot, or whose start fails, keep configuration and counters."""

import contextlib
import random

import pytest
from patrolink.cli import main
from patrolink.core import boards
from patrolink.emulator.peripherals import flash

from tests.support.batch_site import small_agent
from tests.support.flash_images import write_signed_image
from tests.support.littlefs_files import read_files
from tests.support.polling import wait_until
from tests.support.release_keys import TRUST
from tests.support.repl_boards import ReplBoard
from tests.support.slot_board import SlotBoard

BOARD = boards.find("mps2_an385")
FILES = {
    "/config.json": b'{"device": "radio-7", "key": "' + b"5a" * 32 + b'", "watchdog": 60000}',
    "/counter0": bytes(range(16)),
    "/counter1": bytes(range(16, 32)),
}
FLASH_KB = 2048
pytestmark = pytest.mark.skipif(
    bool(BOARD.missing_packages()), reason="the packages of board mps2_an385 are not installed"
)


class RecoveredBoard:
    """A board with configuration and counters, and a confirmed image in slot a.

    Args:
        folder: Folder of its files.
        stack: Switches it off.
    """

    def __init__(self, folder, stack) -> None:
        self._folder, self._stack = folder, stack
        self.chip = folder / "board" / "flash.bin"
        self.chip.parent.mkdir()
        self.put(FILES)
        self.slots = SlotBoard(BOARD, self.chip)
        self.slots.install(small_agent(b"first"), 5, confirmed=True)
        self.slots.install(small_agent(b"second"), 6, confirmed=True)
        self.image = write_signed_image(folder / "new.plimg", small_agent(b"new"), rollback=7, version="7.0")

    def put(self, files: dict[str, bytes]) -> None:
        """Write files on the board, which is switched off."""
        for name, content in files.items():
            flash.provision(self.chip, FLASH_KB, name, content)

    def power_on(self, text: str) -> ReplBoard:
        """Power the board on, and wait for a text on its console."""
        board = ReplBoard(self._folder / "board", "dev-1", heap_kb=BOARD.heap_kb)
        self._stack.callback(board.close)
        wait_until(lambda: text.encode() in board.log.read_bytes(), lambda: board.log.read_text(errors="replace"))
        return board

    def damage(self, areas: list[tuple[int, int]]) -> None:
        """Overwrite areas of the update area with random bytes."""
        r = random.Random(1)
        with self.chip.open("r+b") as f:
            for start, end in areas:
                f.seek((FLASH_KB << 10) + start)
                f.write(r.randbytes(end - start))

    def recover(self, board: ReplBoard) -> int:
        """Run `patrolink flash --recover`; return its exit code."""
        options = ["--recover", board.path, str(self.image), "--trust", str(TRUST), "--retries", "0"]
        return main(["flash", *options])


@pytest.fixture
def damaged(tmp_path):
    with contextlib.ExitStack() as stack:
        yield RecoveredBoard(tmp_path, stack)


def runs(board: ReplBoard) -> None:
    wait_until(
        lambda: b"agent of radio-7 runs" in board.log.read_bytes(), lambda: board.log.read_text(errors="replace")
    )


def slot_areas(slots: SlotBoard) -> list[tuple[int, int]]:
    """Return begin and end of both slots within the update area: header sector and content."""
    area = slots.area
    return [(area.header_offset(slot), area.content_offset(slot) + 8192) for slot in (0, 1)]


def test_destroyed_slots_are_written_from_the_recovery_of_the_platform(damaged):
    damaged.damage(slot_areas(damaged.slots))
    board = damaged.power_on("recovery: waiting for")
    assert b"no slot holds an image that may be started" in board.log.read_bytes()
    assert damaged.recover(board) == 0
    runs(board)
    board.close()
    assert read_files(damaged.chip, FLASH_KB, FILES) == FILES
    state = damaged.slots.journal.state
    assert state.floor == 0 and [slot.rollback for slot in state.slots].count(7) == 1


def test_destroyed_boot_records_and_slots(damaged):
    """Nothing tells that the board had images: its frozen agent starts, and is interrupted."""
    damaged.damage([(0, 8192), *slot_areas(damaged.slots)])
    board = damaged.power_on("after ")
    assert damaged.recover(board) == 0
    runs(board)
    board.close()
    assert read_files(damaged.chip, FLASH_KB, FILES) == FILES


def test_board_whose_start_fails_waits_for_recovery(damaged):
    """A file on the board stands in for a module of its platform: its REPL could not start the receiver either."""
    damaged.put({"/agent.py": b"raise ValueError('broken')"})
    board = damaged.power_on("recovery: waiting for")
    assert b"broken" in board.log.read_bytes()
    assert damaged.recover(board) == 0
    board.close()
    assert read_files(damaged.chip, FLASH_KB, FILES) == FILES
    assert [slot.rollback for slot in damaged.slots.journal.state.slots].count(7) == 1


def test_board_that_is_switched_on_later(damaged, monkeypatch):
    """The first words of the tool are lost; it goes on until the board answers."""
    from patrolink.flash import raw_repl

    damaged.damage(slot_areas(damaged.slots))
    board = damaged.power_on("after ")
    board.suspend()
    enter, attempts = raw_repl.enter, []

    def enter_and_wake(link, limit_s) -> None:
        attempts.append(1)
        if len(attempts) == 2:
            board.wake()
        enter(link, limit_s)

    monkeypatch.setattr(raw_repl, "enter", enter_and_wake)
    assert damaged.recover(board) == 0 and len(attempts) >= 2
    runs(board)


def test_frozen_agent_starts_if_nobody_recovers_the_board(damaged):
    damaged.damage(slot_areas(damaged.slots))
    board = damaged.power_on("recovery: waiting for")
    wait_until(lambda: b"error: /config.json" in board.log.read_bytes(), lambda: board.log.read_text(errors="replace"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--all"], "name the ports of the devices, or use --all"),
        (["--provision", "radios.csv", "--batch", "b"], "keeps its configuration; leave out"),
        (["--method", "uf2"], "--recover takes agent images"),
    ],
)
def test_options_that_do_not_fit(tmp_path, capsys, options, text):
    image = write_signed_image(tmp_path / "new.plimg", small_agent())
    assert main(["flash", "--recover", "/dev/null", str(image), "--trust", str(TRUST), *options]) == 2
    assert text in capsys.readouterr().err
