"""A batch that is killed at every step, and resumed: no device has two identities, no row two devices."""

import json
import multiprocessing
import random
from pathlib import Path

import pytest
from patrolink.core import keys
from patrolink.flash import ledger

from tests.support import killed_batch
from tests.support.batch_site import BatchSite
from tests.support.killed_batch import KILLED
from tests.support.model_boards import ModelBoard

TORN = b'{"n": 999, "time": "2026-11-30T12:00:00.000Z", "dev'
_NEVER = 1 << 30
_RUNS_MAX = 12


class Bench:
    """A site, model boards, and processes that flash them.

    Args:
        folder: Folder of all files.
        boards: Number of boards.
        rows: Number of rows.
        unique_ids: Unique ids by row.
    """

    def __init__(self, folder: Path, boards: int, rows: int, unique_ids: dict[int, str] | None = None) -> None:
        (folder / "site").mkdir(parents=True)
        self.site = BatchSite(folder / "site", rows, unique_ids=unique_ids)
        self.site.labels_path = self.site.folder / "labels.zpl"
        self.boards = [ModelBoard(folder / "site" / f"b-{i}.board") for i in range(boards)]
        self._context = multiprocessing.get_context("forkserver")  # fork(2) in a process with threads may hang
        self._context.set_forkserver_preload(["tests.support.killed_batch", "patrolink.flash.batch"])

    def flash(self, kill_at: int = _NEVER, jobs: int = 1) -> int:
        """Flash the batch in a process; return its exit code, or KILLED."""
        batches = {event.batch for event in self.site.history().events}
        words = self.site.words([str(board.path) for board in self.boards], "--jobs", str(jobs))
        words += ["--resume"] if "monday" in batches else []
        process = self._context.Process(target=killed_batch.run, args=(self.site.folder, words, kill_at))
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    def tear(self) -> None:
        """Leave what a power cut in the middle of an append leaves in the ledger."""
        if (self.site.folder / "ledger.jsonl.head").exists():  # else nothing was appended yet
            with (self.site.folder / "ledger.jsonl").open("ab") as f:
                f.write(TORN)

    def check(self) -> None:
        """Compare boards, keys, ledger and labels."""
        site, content = self.site, self.site.history()
        assert not content.damage
        assert not (site.folder / "violations").exists(), (site.folder / "violations").read_text()
        known, rows = keys.load(site.folder / "keys.toml"), ledger.units(content.events)
        pairs = {(e.device, e.unique_id) for e in content.events if e.step in ("assign", "provision") and e.unique_id}
        assert len(pairs) == len({device for device, _ in pairs}) == len({unit for _, unit in pairs}), pairs
        labels = site.labels_path.read_text()
        for board in self.boards:
            config = board.config
            assert rows[config["device"]] == board.unique_id
            assert known[config["device"]].secret == bytes.fromhex(config["key"])
            assert board.state["writes"] == 1
            assert f":{board.unique_id}^FS" in labels and labels.count(f"PL1:{config['device']}:") == 1
        left = [name for name in site.files() if name.endswith((".new", ".old")) or ".provision-check" in name]
        left = [name for name in left if name != "ledger.jsonl.head.new"]  # has no secrets; the next event replaces it
        assert left == []
        assert all(mode & 0o077 == 0 for name, (mode, _) in site.files().items() if name.endswith("keys.toml"))

    def finish(self, repeat: bool = True) -> None:
        """Resume the batch until it is complete; `repeat`: and check that a further run changes nothing."""
        assert self.flash() == 0, (self.site.folder.parent / "output").read_text()
        self.check()
        if repeat:
            before = self.site.files()
            assert self.flash() == 0 and self.site.files() == before


def test_a_kill_at_every_step_loses_nothing(tmp_path):
    number, code = 0, KILLED
    while code == KILLED:
        bench = Bench(tmp_path / str(number), 2, 4, {3: "b1000000"})
        code = bench.flash(number)
        if number % 3 == 0:
            bench.tear()
        assert code in (KILLED, 0)
        bench.finish(repeat=not number % 8)
        # The second board is named by its row.
        assert [board.config["device"] for board in bench.boards] == ["radio-1", "radio-3"]
        number += 1
    assert number > 60, number


@pytest.mark.parametrize("seed", range(12))
def test_kills_and_failures_in_random_order_lose_nothing(tmp_path, seed):
    r = random.Random(seed)
    count = r.randint(2, 5)
    named = {r.randint(1, count): "b1000000"} if r.randrange(2) else None
    bench = Bench(tmp_path, count, count + r.randrange(2), named)
    for _ in range(r.randint(1, _RUNS_MAX)):
        for board in bench.boards:
            for fault in (".dead", ".full"):
                board.path.with_suffix(fault).unlink(missing_ok=True)
                if not r.randrange(4):
                    board.path.with_suffix(fault).touch()
        if bench.flash(r.choice((r.randrange(30), r.randrange(120))), r.randint(1, 4)) == KILLED and not r.randrange(3):
            bench.tear()
    for board in bench.boards:
        for fault in (".dead", ".full"):
            board.path.with_suffix(fault).unlink(missing_ok=True)
    bench.finish()


def test_keys_are_in_no_output(tmp_path):
    bench = Bench(tmp_path, 2, 2)
    bench.boards[1].path.with_suffix(".full").touch()
    assert bench.flash() == 1
    output = (tmp_path / "output").read_text()
    secrets = [json.loads(board.state["files"].get("config.json", "{}")).get("key") for board in bench.boards]
    assert secrets[0] and secrets[0] not in output and "flash error 28" in output
    assert secrets[0] not in (bench.site.folder / "ledger.jsonl").read_text()
