"""Tests on boards: each runs on every board of hardware.toml, or on those that are emulated. See boards/README.md."""

import contextlib
import datetime
import os
import re
import shutil
from pathlib import Path
from typing import get_args

import pytest
from patrolink.core.boards import Feature
from patrolink.core.errors import UserError
from pytest_embedded.plugin import parametrize_fixtures  # noqa: F401  tests/conftest.py keeps it from all other tests

from tests.conftest import ROOT
from tests.hil import flaky, hardware, health
from tests.hil.bench import Bench
from tests.hil.console import Console
from tests.hil.lock import Lock

HERE = Path(__file__).resolve().parent
_BOARDS = pytest.StashKey[list[hardware.Entry]]()
_CONSOLE = pytest.StashKey[Console]()
_FAILED = pytest.StashKey[bool]()
_LISTED = pytest.StashKey[dict[str, flaky.Flaky]]()


def pytest_addoption(parser):
    parser.addoption("--hardware", metavar="FILE", help="boards to test on (environment: PATROLINK_HARDWARE)")
    parser.addoption("--artefacts", metavar="DIR", help="where logs are left (default: build/hil)")
    parser.addoption("--flaky", metavar="FILE", help="tests known to be flaky (default: tests/hil/flaky.toml)")


def pytest_configure(config):
    hardware_toml = config.getoption("--hardware", None) or os.environ.get("PATROLINK_HARDWARE")
    listed = config.getoption("--flaky", None) or HERE / "flaky.toml"
    try:
        config.stash[_BOARDS] = hardware.load(Path(hardware_toml)) if hardware_toml else hardware.EMULATED
        config.stash[_LISTED] = flaky.load(Path(listed), ROOT, datetime.date.today())
    except UserError as e:
        raise pytest.UsageError(str(e)) from None


def pytest_generate_tests(metafunc):
    if "board" in metafunc.fixturenames:
        entries = metafunc.config.stash[_BOARDS]
        metafunc.parametrize("board", entries, ids=[entry.label for entry in entries], indirect=True)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.nodeid.partition("[")[0] in config.stash[_LISTED]:
            item.add_marker(pytest.mark.flaky(reruns=flaky.RERUNS))


# --- fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _locks():
    held: dict[str, Lock] = {}
    yield held
    for lock in held.values():
        lock.close()


@pytest.fixture
def board(request, _locks) -> hardware.Entry:
    """The board of this test, ours alone while the run lasts; skips where it lacks what the test needs."""
    entry = request.param
    for mark in request.node.iter_markers("needs"):
        for feature in mark.args:
            assert feature in get_args(Feature), f"needs({feature!r}): one of {', '.join(get_args(Feature))}"
            if why := entry.lacks(feature):
                pytest.skip(f"{entry.label}: {why}")
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
    """The board's console. It outlives the board's power."""
    port = hardware.resolve(board.console, f"{board.label}: console") if board.console else None
    it = request.node.stash[_CONSOLE] = Console(artefacts, port)
    yield it
    it.wire.close()


@pytest.fixture
def rig(request, tmp_path, broker, board, console, artefacts):
    """Return a factory of benches; its settings are those of DeviceRig. The board is checked after the test."""
    began = broker.log.stat().st_size
    made = []
    with contextlib.ExitStack() as stack:

        def make(epochs, speed: float, **config) -> Bench:
            it = Bench(board, console, artefacts, tmp_path, broker, epochs, speed, **config)
            stack.callback(it.stack.close)
            made.append(it)
            return it

        yield make
        failed = request.node.stash.get(_FAILED, False)  # then it need not be asked what else is wrong
        wrong = [line for it in made if not failed for line in it.power_off()]
        wrong += [line for it in made for line in it.problems()]
    with broker.log.open("rb") as f:
        f.seek(began)
        (artefacts / "broker.log").write_bytes(f.read())
    wrong += health.left_behind(tmp_path)
    if wrong:
        pytest.fail(f"{board.label} is not well after the test: " + "; ".join(wrong), pytrace=False)


# pytest-embedded's `dut` on that console.


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
    dut.pexpect_proc.delayafterread = 0.02  # it polls a file: as often as it can, if it is not told otherwise
    return dut


# --- reports --------------------------------------------------------------------------------------------------------


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    item.stash[_FAILED] = report.failed
    console = item.stash.get(_CONSOLE, None)
    if report.failed and console is not None:
        report.sections.append((f"console ({console.log})", console.shown()))


def pytest_terminal_summary(terminalreporter, config):
    seen = {}
    for category, reports in terminalreporter.stats.items():
        for report in reports:
            if category in ("passed", "failed", "error", "rerun") and hasattr(report, "user_properties"):
                for name, value in report.user_properties:
                    seen.setdefault(name, {})[value] = report.nodeid
    for trace, test in seen.get("trace", {}).items():
        terminalreporter.write_line(f"trace {trace} ({test})")
    if folders := seen.get("artefacts"):
        terminalreporter.write_line(f"logs of {len(folders)} tests are in {Path(next(iter(folders))).parent}")
    reruns = [report.nodeid for report in terminalreporter.stats.get("rerun", [])]
    for test, entry in config.stash.get(_LISTED, {}).items():
        again = sum(nodeid.partition("[")[0] == test for nodeid in reruns)
        terminalreporter.write_line(f"flaky since {entry.since}: {test}, {again} runs of it failed ({entry.reason})")
