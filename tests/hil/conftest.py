"""Fixtures of the tests on boards. Each test runs on every board of hardware.toml, by default on the emulated boards.

See boards/README.md.
"""

import contextlib
import datetime
import os
import re
import shutil
from pathlib import Path
from typing import get_args

import pytest
from patrolink.core.board_lock import Lock
from patrolink.core.boards import Feature
from patrolink.core.errors import UserError
from pytest_embedded.plugin import _mp_manager, parametrize_fixtures  # noqa: F401  tests/conftest.py disables them

from tests.conftest import ROOT
from tests.hil import flaky, hardware, health
from tests.hil.bench import Bench
from tests.hil.console import Console

FOLDER = Path(__file__).resolve().parent
_BOARDS = pytest.StashKey[list[hardware.Entry]]()
_CONSOLE = pytest.StashKey[Console]()
_FAILED = pytest.StashKey[bool]()
_FLAKY = pytest.StashKey[dict[str, flaky.Flaky]]()


def pytest_addoption(parser):
    parser.addoption("--hardware", metavar="FILE", help="list of boards to test on (environment: PATROLINK_HARDWARE)")
    parser.addoption("--artefacts", metavar="DIR", help="folder for logs (default: build/hil)")
    parser.addoption("--flaky", metavar="FILE", help="list of tests known to be flaky (default: tests/hil/flaky.toml)")


def pytest_configure(config):
    hardware_toml = config.getoption("--hardware", None) or os.environ.get("PATROLINK_HARDWARE")
    flaky_toml = config.getoption("--flaky", None) or FOLDER / "flaky.toml"
    try:
        config.stash[_BOARDS] = hardware.load(Path(hardware_toml)) if hardware_toml else hardware.EMULATED
        config.stash[_FLAKY] = flaky.load(Path(flaky_toml), ROOT, datetime.date.today())
    except UserError as e:
        raise pytest.UsageError(str(e)) from None


def pytest_generate_tests(metafunc):
    if "board" in metafunc.fixturenames:
        entries = metafunc.config.stash[_BOARDS]
        metafunc.parametrize("board", entries, ids=[entry.label for entry in entries], indirect=True)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.nodeid.partition("[")[0] in config.stash[_FLAKY]:
            item.add_marker(pytest.mark.flaky(reruns=flaky.RERUNS))


# --- fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """A folder of this user: that of pytest-embedded is shared by all users, where files of another one stop it."""
    return str(tmp_path_factory.mktemp("pytest-embedded-cache"))


@pytest.fixture(scope="session")
def _locks():
    locks: dict[str, Lock] = {}
    yield locks
    for lock in locks.values():
        lock.close()


@pytest.fixture
def board(request, _locks) -> hardware.Entry:
    """The board of this test, locked until the end of the run. Skips the test if the board lacks a needed feature."""
    entry = request.param
    for mark in request.node.iter_markers("needs"):
        for feature in mark.args:
            assert feature in get_args(Feature), f"needs({feature!r}): one of {', '.join(get_args(Feature))}"
            if reason := entry.skip_reason(feature):
                pytest.skip(f"{entry.label}: {reason}")
    if entry.console:
        port = os.path.realpath(hardware.resolve(entry.console, f"{entry.label}: console"))
        _locks[port] = _locks.get(port) or Lock(port)
    elif missing := entry.spec.missing_packages():
        pytest.skip(f"{entry.label}: apt-get install {' '.join(missing)}")
    return entry


@pytest.fixture
def artefacts(request) -> Path:
    """The folder of this test's logs."""
    root = Path(request.config.getoption("--artefacts", None) or ROOT / "build" / "hil")
    folder = root / re.sub(r"[^\w.-]+", "_", f"{request.path.stem}-{request.node.name}").strip("_")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    request.node.user_properties.append(("artefacts", str(folder)))
    return folder


@pytest.fixture
def console(request, board, artefacts):
    """The board's console. It stays open while the board is off."""
    port = hardware.resolve(board.console, f"{board.label}: console") if board.console else None
    board_console = request.node.stash[_CONSOLE] = Console(artefacts, port)
    yield board_console
    board_console.wire.close()


@pytest.fixture
def rig(request, tmp_path, broker, board, console, artefacts):
    """Return a factory of `Bench`; its settings are those of DeviceRig. Checks the board after the test."""
    broker_log_offset = broker.log.stat().st_size
    benches = []
    with contextlib.ExitStack() as stack:

        def make(epochs, speed: float, **config) -> Bench:
            bench = Bench(board, console, artefacts, tmp_path, broker, epochs, speed, **config)
            stack.callback(bench.stack.close)
            benches.append(bench)
            return bench

        yield make
        failed = request.node.stash.get(_FAILED, False)  # after a failure the board may not react to its power button
        problems = [line for bench in benches if not failed for line in bench.power_off()]
        problems += [line for bench in benches for line in bench.problems()]
    with broker.log.open("rb") as f:
        f.seek(broker_log_offset)
        (artefacts / "broker.log").write_bytes(f.read())
    problems += health.leftover_processes(tmp_path)
    if problems:
        pytest.fail(f"{board.label} has problems after the test: " + "; ".join(problems), pytrace=False)


# pytest-embedded's `dut` on the console of the board.


@pytest.fixture
def embedded_services():
    return "serial"


@pytest.fixture
def port(request):
    return request.getfixturevalue("console").path if "dut" in request.fixturenames else None


@pytest.fixture(scope="session")
def session_root_logdir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("dut"))


@pytest.fixture
def dut(dut):
    dut.pexpect_proc.delayafterread = 0.02  # pexpect polls a file, without a delay by default
    return dut


# --- reports --------------------------------------------------------------------------------------------------------


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    item.stash[_FAILED] = report.failed
    console = item.stash.get(_CONSOLE, None)
    if report.failed and console is not None:
        report.sections.append((f"console ({console.log})", console.excerpt()))


def pytest_terminal_summary(terminalreporter, config):
    properties = {}
    for category, reports in terminalreporter.stats.items():
        for report in reports:
            if category in ("passed", "failed", "error", "rerun") and hasattr(report, "user_properties"):
                for name, value in report.user_properties:
                    properties.setdefault(name, {})[value] = report.nodeid
    for trace, test in properties.get("trace", {}).items():
        terminalreporter.write_line(f"trace {trace} ({test})")
    if folders := properties.get("artefacts"):
        terminalreporter.write_line(f"logs of {len(folders)} tests are in {Path(next(iter(folders))).parent}")
    reruns = [report.nodeid for report in terminalreporter.stats.get("rerun", [])]
    for test, entry in config.stash.get(_FLAKY, {}).items():
        failures = sum(nodeid.partition("[")[0] == test for nodeid in reruns)
        terminalreporter.write_line(f"flaky since {entry.since}: {test}, {failures} failed attempts ({entry.reason})")
