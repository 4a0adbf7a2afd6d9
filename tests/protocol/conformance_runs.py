"""Runs the device tier of the conformance kit on our agent many times, with one core loaded, and counts false failures.

usage: python tests/protocol/conformance_runs.py [RUNS] [JOBS]     default 20 runs of each testee, 4 at a time

The testees are linux and mps2_an385 on a pipe with a virtual clock, and unix at a broker in real time. A busy loop runs
on one core all the time. Each run has a new device. A run in which a case fails, is inconclusive or skipped, or a claim
is not true is a false failure: the agent is the same in all runs.
Results go to build/bench/conformance_runs.json.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "bench"))

import bench_rows  # noqa: E402
from patrolink.emulator.boards.device import end_with_parent  # noqa: E402

TESTEES = (("linux", "pipe"), ("mps2_an385", "pipe"), ("unix", "broker"))
VERDICTS = ("passed", "failed", "non_strict", "not_applicable", "inconclusive", "skipped")
AGENT = [sys.executable, "-m", "patrolink.emulator.testee"]
LIMIT_S = 900


class Outcome(NamedTuple):
    """What a run has shown.

    Attributes:
        counts: Fields of its summary.
        findings: A line for each case that neither passed nor was not applicable, or for a run that ended otherwise.
        seconds: How long it took.
    """

    counts: dict[str, int]
    findings: list[str]
    seconds: float


@contextlib.contextmanager
def load() -> Iterator[None]:
    """Keep one core busy."""
    core = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    with subprocess.Popen(end_with_parent([sys.executable, "-c", program])) as process:
        try:
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def target(board: str, carriage: str, work: Path) -> Iterator[str]:
    """Yield the target of a new device in a folder."""
    folder = f"build/testee/{board}"
    if carriage == "pipe":
        yield f"exec:{' '.join(AGENT)} pipe {board} {folder}"
        return
    program = end_with_parent([*AGENT, "broker", board, folder])
    with (
        (work / "site.log").open("wb") as log,
        subprocess.Popen(program, cwd=work, stdout=subprocess.PIPE, stderr=log, text=True) as site,
    ):
        try:
            assert site.stdout is not None
            yield site.stdout.readline().strip()
        finally:
            site.terminate()


def run(board: str, carriage: str, device: Path) -> Outcome:
    """Run the device tier once on a copy of a new device, a folder."""
    profile = ROOT / "boards" / board / ("conformance.toml" if carriage == "pipe" else "conformance-broker.toml")
    with tempfile.TemporaryDirectory(prefix="patrolink-runs-") as name, contextlib.ExitStack() as stack:
        work = Path(name)
        shutil.copytree(device, work / "build" / "testee" / board)
        text = stack.enter_context(target(board, carriage, work))
        options = ["--tier", "device", "--profile", str(profile), "--keys", f"build/testee/{board}/keys.toml", "--json"]
        command = [sys.executable, "-m", "patrolink", "validate", text, *options, "--limit", str(LIMIT_S)]
        environment = {**os.environ, "XDG_STATE_HOME": str(work / "state")}
        start = time.monotonic()
        done = subprocess.run(end_with_parent(command), cwd=work, env=environment, capture_output=True, text=True)
        return outcome(done, time.monotonic() - start)


def outcome(done: "subprocess.CompletedProcess[str]", seconds: float) -> Outcome:
    """Return what a run has shown."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    cases = [row for row in rows if row["record"] == "case_result"]
    findings = [
        f"{row['case']} {row['case_verdict']}: {row['title']}: {row['text']}"
        for row in cases
        if row["case_verdict"] not in ("pass", "not applicable")
    ]
    counts = rows[-1] if rows and rows[-1]["record"] == "summary" else {}
    if not counts or (done.returncode and not findings):
        lines = [json.dumps(row) for row in rows if row["record"] == "error"]
        findings.append(f"exit code {done.returncode}: {' '.join([*lines, done.stderr[-500:]])}")
    return Outcome(counts, findings, seconds)


def main(runs: int, jobs: int) -> int:
    findings: Counter[str] = Counter()
    failures = 0
    rows = []
    print(f"{'testee':20} {'runs':>4} " + " ".join(f"{name:>14}" for name in VERDICTS) + f" {'longest s':>10}")
    with tempfile.TemporaryDirectory() as folder, load(), ThreadPoolExecutor(jobs) as pool:
        for board, carriage in TESTEES:
            device = Path(folder) / board
            subprocess.run([*AGENT, "init", board, str(device)], check=True)
            done = list(pool.map(run, *zip(*[(board, carriage, device)] * runs, strict=True)))
            counts = [sum(result.counts.get(f"cases_{name}", 0) for result in done) for name in VERDICTS]
            longest_s = max(result.seconds for result in done)
            print(
                f"{board + ' ' + carriage:20} {runs:4} " + " ".join(f"{n:14}" for n in counts) + f" {longest_s:10.0f}"
            )
            findings.update(f"{board} {carriage}: {text}" for result in done for text in result.findings)
            failures += sum(bool(result.findings) for result in done)
            rows.append(bench_rows.row(f"{board}_{carriage}_failed", counts[1], "count"))
            rows.append(bench_rows.row(f"{board}_{carriage}_longest_s", round(longest_s), "s"))
    for text, count in findings.most_common():
        print(f"{count:3} x {text}", file=sys.stderr)
    print(f"{failures} of {runs * len(TESTEES)} runs with a false failure")
    if runs >= 20:
        bench_rows.save("conformance_runs", rows)
    return 1 if failures else 0


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(numbers + [20, 4][len(numbers) :])))
