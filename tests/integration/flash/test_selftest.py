"""`patrolink selftest` on an emulated board with receiver, modem and indicator; each part fails in turn."""

import contextlib
import os
import threading
import tty

import pytest
from patrolink.cli import main
from patrolink.cli import selftest as cli
from patrolink.core import boards
from patrolink.emulator.boards import qemu
from patrolink.emulator.peripherals import flash
from patrolink.flash import ledger

from tests.support.json_lines import records
from tests.support.polling import wait_until
from tests.support.provision_site import ProvisionedSite, key_of
from tests.support.repl_boards import ReplBoard
from tests.unit.test_self_test import ANSWERS, GGA, NO_FIX, checked

BOARD = boards.find("mps2_an385")
FLASH_KB = 256
UARTS = 5
GOOD = checked(GGA)
pytestmark = pytest.mark.skipif(
    bool(BOARD.missing_packages()), reason="the packages of board mps2_an385 are not installed"
)


class Peripherals:
    """Receiver and modem of a board, on its PTYs.

    Args:
        paths: PTYs of the UARTs by number.
        sentence: What the receiver sends five times a second; empty: nothing.
        answers: Answers of the modem by command.
    """

    def __init__(self, paths: list[str], sentence: bytes, answers: dict[bytes, bytes]) -> None:
        self._sentence, self._answers = sentence, answers
        self._stop = threading.Event()
        self._files = [os.open(path, os.O_RDWR | os.O_NOCTTY) for path in paths]
        for handle in self._files:
            tty.setraw(handle)
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._send_sentences, self._answer_commands)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for handle in self._files:
            os.close(handle)

    def _send_sentences(self) -> None:
        while not self._stop.wait(0.2):
            if self._sentence:
                os.write(self._files[qemu.GPS_UART - 1], self._sentence)

    def _answer_commands(self) -> None:
        handle, received = self._files[qemu.MODEM_UART - 1], b""
        os.set_blocking(handle, False)
        while not self._stop.wait(0.02):
            with contextlib.suppress(BlockingIOError):
                received += os.read(handle, 200)
            while b"\r" in received:
                command, _, received = received.partition(b"\r")
                if command in self._answers:
                    os.write(handle, b"\r\n" + self._answers[command] + b"\r\n")


@pytest.fixture
def site(tmp_path):
    """A provisioned site with one board."""
    wiring = f"[provision.board.{BOARD.name}]\ngps_uart = 1\nmodem = {{ uart = 2, apn = 'internet' }}\n"
    wiring += f"camera = {{ source = {qemu.CAMERA_UART}, indicator = {qemu.PINS['indicator']} }}\n"
    harness = ProvisionedSite(tmp_path, wiring)
    harness.write_table(f"SN-1,radio-1,Harbour circle,{BOARD.name},,\n")
    assert harness.run() == 0
    return harness


@pytest.fixture
def powered(tmp_path, site):
    """Return a function that switches the board and its peripherals on, and waits for the end of its start."""
    with contextlib.ExitStack() as stack:

        def power_on(sentence=GOOD, answers=ANSWERS, files=None) -> ReplBoard:
            folder = tmp_path / "board"
            folder.mkdir()
            written = {"/config.json": (site.out / "radio-1" / "config.json").read_bytes(), **(files or {})}
            for name, content in written.items():
                flash.provision(folder / "flash.bin", FLASH_KB, name, content)
            board = ReplBoard(folder, "dev-1", flash_kb=FLASH_KB, heap_kb=BOARD.heap_kb, uarts=UARTS)
            stack.callback(board.close)
            peripherals = Peripherals(board.paths[1:], sentence, dict(answers))
            stack.callback(peripherals.close)
            text = b"device: ready" if files is None else b"after "
            wait_until(lambda: text in board.log.read_bytes(), lambda: board.log.read_text(errors="replace"))
            return board

        yield power_on


def run(board: ReplBoard, site, *options: str) -> int:
    place = ["--site", str(site.folder / "site.toml"), "--ledger", str(site.folder / "ledger.jsonl")]
    return main(["selftest", board.path, "--limit", "4", *place, *options])


def last_event(site) -> ledger.Event:
    return site.history().events[-1]


def test_a_good_device_passes_and_the_ledger_has_it(powered, site, capsys):
    board = powered()
    assert run(board, site, "--yes", "--batch", "monday") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("radio-1, unit ") and lines[-1] == "PASS"
    assert [line.split()[:2] for line in lines[1:-1]] == [
        *(["PASS", part] for part in ("key", "gps", "modem", "indicator")), ["--", "microphone"], ["PASS", "storage"]
    ]  # fmt: skip
    assert "as in the keys file of the hub" in lines[1] and "on and off" in lines[4]
    event = last_event(site)
    assert (event.device, event.step, event.result, event.serial) == ("radio-1", "selftest", "ok", "SN-1")
    assert (event.batch, len(event.unique_id)) == ("monday", 24)
    assert key_of("radio-1").secret.hex() not in board.log.read_text(errors="replace")
    # The agent starts again, and the board can be tested again.
    wait_until(
        lambda: board.log.read_bytes().count(b"device: ready") == 2, lambda: board.log.read_text(errors="replace")
    )
    assert run(board, site, "--yes", "--json") == 0
    rows = records(capsys.readouterr().out)
    assert rows[-1]["all_passed"] is True and rows[1] == {**rows[1], "part": "gps", "passed": True}


def failed_parts(capsys) -> tuple[str, str]:
    """Return the last line of the card, and the lines of the parts that failed."""
    lines = capsys.readouterr().out.splitlines()
    return lines[-1], "\n".join(line for line in lines if line.startswith("FAIL  "))


@pytest.mark.parametrize(
    ("faults", "part", "text"),
    [
        ({"sentence": b""}, "gps", "sends nothing"),
        ({"sentence": b"\x81\x00garbage\r\n"}, "gps", "no valid sentence"),
        ({"sentence": checked(NO_FIX)}, "gps", "but no fix within 4 s"),
        ({"answers": {}}, "modem", "does not answer"),
        ({"answers": {**ANSWERS, b"AT+CPIN?": b"+CME ERROR: 10"}}, "modem", "the SIM is not ready"),
        ({"answers": {**ANSWERS, b"AT+CEREG?": b"+CEREG: 1,2\r\nOK"}}, "modem", "not registered (status 2)"),
        ({"files": {"/filler": bytes(((FLASH_KB - 8) << 10) - 6144)}}, "storage", "cannot be written"),
    ],
)
def test_each_part_fails_in_turn(powered, site, capsys, faults, part, text):
    board = powered(**faults)
    assert run(board, site, "--yes") == 1
    card, failures = failed_parts(capsys)
    assert card == f"FAIL: {part}" and text in failures
    assert (last_event(site).result, last_event(site).reason.split(":")[0]) == ("failed", part)


def test_indicator_that_the_operator_does_not_see(powered, site, capsys, monkeypatch):
    monkeypatch.setattr(cli.sys, "stdin", _Terminal("n\n"))
    assert run(powered(), site) == 1
    card, failures = failed_parts(capsys)
    assert card == "FAIL: indicator" and "the operator does not see it" in failures


def test_key_that_is_not_that_of_the_hub(powered, site, capsys):
    board = powered()
    assert site.run("--rotate", "radio-1") == 0
    assert run(board, site, "--yes") == 1
    card, failures = failed_parts(capsys)
    assert card == "FAIL: key" and "is not that of the hub; provision the device again" in failures


def test_configuration_that_cannot_be_used_fails_every_part(powered, site, capsys):
    board = powered(files={"/config.json": b'{"device": "radio-1"}'})
    assert main(["selftest", board.path, "--yes"]) == 1
    card, failures = failed_parts(capsys)
    assert card.startswith("FAIL: key, gps, modem") and "'key' is missing" in failures


def test_device_that_is_not_there(tmp_path, capsys):
    assert main(["selftest", str(tmp_path / "gone"), "--yes"]) == 3
    assert main(["selftest", str(tmp_path / "gone")]) == 2
    assert "use --yes" in capsys.readouterr().err


class _Terminal:
    """Standard input of an operator who types one line."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line
