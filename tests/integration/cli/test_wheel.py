"""The wheel in virtual environments outside the checkout: the light core, and every verb with all libraries."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from patrolink.cli._verbs import VERBS

from tests.support import unprivileged
from tests.support.json_lines import records, summary
from tests.support.paths import GOLDEN, ROOT

pytestmark = pytest.mark.unchanged_inputs(
    *("README.md", "boards", "build/device-lib", "device", "host_tools", "package_resources.py", "protocol"),
    "tests/golden",
    programs=("python3.10", "python3.11", "python3.12", "python3.13"),
)
CORE_MB_MAX = 40  # without bytecode; a quarter is the library that decrypts frames
# Command -> the extra with the libraries that it needs
NEED_EXTRAS = {
    "decode walk.plcap --format parquet --output x": "report",
    "listen": "hub",
    "clip show .": "video",
    "image diff a b --out c": "flash",
    "emulate --fixes 10": "emulator",
    "incident": "emulator",
}
TRACK = GOLDEN / "tracks" / "walk-1hz.csv"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


class Installed:
    """A virtual environment with the wheel, used from an empty folder by a user with an empty home."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        subprocess.run([python, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        self.bin = folder / "venv" / "bin"
        self.site_packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
        self.folder = folder / "巡逻 ä"
        self.folder.mkdir()
        (folder / "home").mkdir()
        dropped = ("PATROLINK", "PYTHON", "VIRTUAL_ENV", "XDG")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        self.environment.update(HOME=str(folder / "home"), PATH=f"{self.bin}:{os.environ['PATH']}")

    def install(self, *arguments: str) -> None:
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python")]
        command = [*pip, "install", "-q", "--no-compile", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and "NewConnectionError" in done.stderr:
            pytest.skip("the package index cannot be reached")
        assert done.returncode == 0, done.stderr

    def run(self, command: str, code: int = 0) -> str:
        """Run `patrolink` and return its output; for an expected error, its message."""
        done = subprocess.run(
            [str(self.bin / "patrolink"), *command.split()],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    def run_all(self, commands: list[list[str]]) -> list[unprivileged.Result]:
        """Run commands in one process, where the start of each proves nothing more."""
        results = unprivileged.run_commands(commands, self.folder, str(self.bin / "python"), self.environment)
        assert not any(result.traceback for result in results), results
        return results

    def megabytes(self) -> float:
        """Return the size of the installed packages without bytecode."""
        files = (file for file in self.site_packages.rglob("*") if file.is_file() and file.suffix != ".pyc")
        return sum(file.stat().st_size for file in files) / 1e6


def interpreter(version: str) -> str | None:
    """Return the command of a Python version that is installed here and runs, or None."""
    candidates = [
        shutil.which(f"python{version}"),
        *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
    ]
    for command in filter(None, candidates):
        done = subprocess.run([command, "--version"], capture_output=True, text=True)
        if done.stdout.startswith(f"Python {version}."):
            return command
    return None


@pytest.fixture(scope="module", params=["3.10", "3.11", "3.12", "3.13"])
def core(request, wheel, tmp_path_factory) -> Installed:
    """The wheel and what it depends on, without extras, for each Python."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"Python {request.param} is not installed")
    installed = Installed(tmp_path_factory.mktemp("core"), python)
    installed.install(str(wheel))
    shutil.copy(TRACK, installed.folder / "walk.csv")
    assert "3424 fixes" in installed.run("pack walk.csv walk.plcap")
    return installed


@pytest.fixture(scope="module")
def complete(wheel, tmp_path_factory) -> Installed:
    """The wheel with the libraries of this environment, but without its development install."""
    installed = Installed(tmp_path_factory.mktemp("complete"))
    installed.install("--no-deps", str(wheel))
    # A path in a .pth file comes after the environment's own packages, and its .pth files do not count.
    (installed.site_packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    micropython = Path(sys.executable).parent / "micropython"
    if micropython.exists():
        (installed.bin / "micropython").symlink_to(micropython)
    return installed


@pytest.mark.long(30)
def test_core_is_light_and_works(core):
    print(f"core: {core.megabytes():.1f} MB")
    assert core.megabytes() <= CORE_MB_MAX
    commands = ["decode walk.plcap", "decode walk.plcap --format csv", "monitor walk.plcap --json"]
    results = core.run_all([command.split() for command in (*commands, "devices --json", "boards", "doctor --json")])
    assert [result.code for result in results] == [0] * 6, results
    rows, csv, monitor, devices, boards, doctor = (result.output for result in results)
    positions = records(rows, "position")
    assert len(positions) == 3424 and positions[0]["lat_deg"] == 38.753358
    assert csv.count("\n") == 3425
    assert summary(monitor)["fixes"] == 3424
    assert "ports" in summary(devices)
    assert "mps2_an385" in boards
    assert summary(doctor)["problems"] == 0


def test_missing_libraries_are_named_with_their_extra(core):
    for command, result in zip(NEED_EXTRAS, core.run_all([command.split() for command in NEED_EXTRAS]), strict=True):
        assert result.code == 2 and len(result.errors.splitlines()) == 1, (command, result)
        assert f"pip install 'patrolink[{NEED_EXTRAS[command]}]'" in result.errors


def test_package_has_all_resources(complete):
    """The package does not find the checkout, and its sources of devices run."""
    where = subprocess.run(
        [str(complete.bin / "python"), "-c", "from patrolink.core import resources; print(resources.root())"],
        cwd=complete.folder,
        env=complete.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert where.strip() == str(complete.site_packages / "patrolink" / "_resources")
    shutil.copy(GOLDEN / "nmea" / "bu353-glonass.log", complete.folder / "log.nmea")
    assert len(records(complete.run("fix log.nmea"), "fix")) == 19


@pytest.mark.parametrize("board", ["linux", "unix"])
def test_board_is_emulated_from_the_package(complete, board):
    if board == "unix" and not (complete.bin / "micropython").exists() and shutil.which("micropython") is None:
        pytest.skip("no MicroPython for this platform")
    out = complete.run(f"emulate --board {board} --fixes 60 --batch 20 --speed 60 --out {board} --json")
    assert summary(out)["fixes_decoded"] == 60 and summary(out)["fixes_lost"] == 0


def test_embedded_broker_starts_where_libraries_have_no_scripts(complete):
    """The libraries may be in another folder than the interpreter, as here, without their commands beside it."""
    script = "from patrolink.emulator.network.broker import Broker; b = Broker(embedded=True); print(b.name); b.stop()"
    done = subprocess.run(
        [str(complete.bin / "python"), "-c", script],
        env=complete.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("amqtt "), done.stderr


def test_every_verb_starts(complete):
    for name, result in zip(VERBS, complete.run_all([[name, "--help"] for name in VERBS]), strict=True):
        assert result.code == 0 and f"usage: patrolink {name}" in result.output, (name, result)
    assert "[[hub]]" in complete.run("hub --example")
    assert "evidence" in complete.run("hub --new-evidence-key evidence.pem --json")


def test_metadata(wheel, complete):
    script = (
        "import importlib.metadata as m; "
        "print(m.version('patrolink'), *m.metadata('patrolink').get_all('Provides-Extra'))"
    )
    done = subprocess.run([str(complete.bin / "python"), "-c", script], capture_output=True, text=True, check=True)
    version, *extras = done.stdout.split()
    assert complete.run("--version").split()[1] == version == wheel.name.split("-")[1]
    assert {"report", "hub", "video", "emulator", "sound", "all", "hil"} <= set(extras)
    assert {entry.extra for entry in VERBS.values()} - {""} <= set(extras)
    assert (complete.site_packages / "patrolink" / "py.typed").is_file()
