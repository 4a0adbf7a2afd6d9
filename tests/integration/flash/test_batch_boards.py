"""Sixteen emulated boards flashed and provisioned at once, with two that fail, a kill, and a resumption."""

import contextlib
import json
import signal
import subprocess
import sys

import pytest
from patrolink.core import boards, keys

from tests.support.batch_rack import BOARDS, FULL, SILENT, Rack
from tests.support.batch_site import BOARD, BatchSite
from tests.support.label_sheets import read_codes
from tests.support.polling import TIMEOUT_S, wait_until

pytestmark = pytest.mark.skipif(
    bool(boards.find(BOARD).missing_packages()), reason="the packages of board mps2_an385 are not installed"
)


@pytest.fixture
def rack(tmp_path):
    with contextlib.ExitStack() as stack:
        boards_on = Rack(tmp_path, stack)
        boards_on.start()
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

    rack.repair()
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
