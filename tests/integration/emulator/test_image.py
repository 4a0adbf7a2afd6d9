"""The firmware of the emulated board: errors that name missing packages, documented limits, and its buttons."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from patrolink.cli import main
from patrolink.core import boards, resources
from patrolink.emulator.boards import qemu
from patrolink.emulator.boards.lockstep import Lockstep
from patrolink.emulator.scheduler import Scheduler

BOARD = "mps2_an385"


def path_without(folder: Path, *tools: str) -> str:
    """Return a PATH with all commands of this machine except the given ones."""
    folder.mkdir()
    for place in os.environ["PATH"].split(":"):
        for command in Path(place).iterdir() if Path(place).is_dir() else ():
            if command.name not in tools and not (folder / command.name).exists():
                (folder / command.name).symlink_to(command)
    return str(folder)


@pytest.fixture
def board():
    board = boards.find(BOARD)
    if board.missing_packages():
        pytest.skip(f"{BOARD}: apt-get install {' '.join(board.missing_packages())}")
    return board


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("qemu-system-arm", "apt-get install qemu-system-arm\n"),
        ("arm-none-eabi-gcc", "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi\n"),
    ],
)
@pytest.mark.parametrize("options", [["--fixes", "5"], ["--count", "2"], ["--hours", "0.1"]])
def test_missing_tool_is_named_with_its_package(tmp_path, monkeypatch, capfd, tool, message, options):
    folder = path_without(tmp_path / "bin", tool)
    for other in {"qemu-system-arm", "arm-none-eabi-gcc"} - {tool}:  # present, also on a machine without the package
        stub = tmp_path / "bin" / other
        if not stub.exists():
            stub.touch(0o755)
    monkeypatch.setenv("PATH", folder)
    assert main(["emulate", "--board", BOARD, *options]) == 2
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err.endswith(message) and captured.err.count("\n") == 1


@pytest.mark.parametrize(("tool", "package"), [("make", "make"), ("xz", "xz-utils"), ("gcc", "gcc")])
def test_missing_tool_of_the_recipe_is_named_with_its_package(board, tmp_path, tool, package):
    recipe = resources.root() / "boards" / BOARD / "build.sh"
    env = {**os.environ, "PATH": path_without(tmp_path / "bin", tool)}
    done = subprocess.run([str(recipe)], env=env, capture_output=True, text=True)
    assert done.returncode == 4 and done.stderr == f"error: {tool} is missing; apt-get install {package}\n"


RANDOM = (b"import os; os.urandom(16).hex()\r", b"import ssl\r")


def ask_repl(board, work: Path, seed: int, questions, panel=b"") -> str:
    """Return the answers of the firmware's REPL; the panel sends `panel` before the last question."""
    work.mkdir()
    rig = Lockstep(board, work, Scheduler())
    output = bytearray()
    questions = [*questions, b""]

    def hear(data: bytes) -> None:
        output.extend(data)
        if output.endswith(b">>> "):
            question = questions.pop(0)
            if len(questions) == 1 and panel:
                rig.deliver(qemu.PANEL_UART, panel)
            rig.deliver(qemu.CONSOLE_UART, question) if question else rig.cut_power()

    rig.on_bytes = {qemu.CONSOLE_UART: hear}
    rig.life(qemu.Straps(board.heap_kb, board.image.flash_kb, "x", 1_790_000_000, seed, lockstep=True))
    assert questions == [], output
    return output.decode()


def test_firmware_has_no_tls_and_no_entropy_as_documented(board, tmp_path):
    page = (resources.root() / "boards" / BOARD / "README.md").read_text(encoding="utf-8")
    assert "There is no TLS on this board yet" in page and "`os.urandom` is a seeded generator" in page
    first, repeated, other = (ask_repl(board, tmp_path / str(i), seed, RANDOM) for i, seed in enumerate((5, 5, 6)))
    assert re.search(r"'[0-9a-f]{32}'", first) and first == repeated != other
    assert "ImportError: no module named 'ssl'" in first


def test_button_pins_are_read_by_name(board, tmp_path):
    pins = b"{'off': 1, 'sos': 0, 'record': 4, 'man_down': 5}"
    begin = b"from hal.baremetal import platform as h; b = h.Buttons(None, " + pins + b")\r"
    read = b"import time; time.sleep_ms(50); [b.read() for _ in range(4)]\r"
    pressed = b"".join(bytes((pin | 0x80, pin, pin | 0x80)) for pin in (4, 5))
    assert "[None, None, None, None]" in ask_repl(board, tmp_path / "none", 1, (begin, read))
    assert "[b'man-down', b'record', None, None]" in ask_repl(board, tmp_path / "two", 1, (begin, read), pressed)
