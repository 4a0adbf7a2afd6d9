"""Cuts the power of our agent under QEMU at every storage write of a short patrol, and checks what it remembers.

usage: python tests/protocol/testee_cuts.py [EVERY]     default 1: every flash operation; 9: every ninth one

The firmware of mps2_an385 is a testee on the pipe of the conformance kit, with a virtual clock. A patrol of 100 s has
hello and positions, a command, 25 s without a link with positions and an SOS, the SOS resolved, the command's frame
again, and power off. In run k the power is cut in the middle of flash operation k, and comes back after a second. Until
then all runs are the same, to the byte: what survives a cut must survive each later one.

counters_reused: two different frames with one counter. frames_lost: frames of the first boot that arrived with an
earlier cut, or without a later one of the same boot. sos_lost: an SOS that was stored and is not sent again after the
cut, until it is resolved. commands_repeated: a command that was carried out twice. not_started: no hello with a higher
boot number after the cut. flash_violations: programmed without an erase.
Results go to build/bench/testee_cuts.json.
"""

import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("", "tests/bench", "protocol", "protocol/generated"):
    sys.path.insert(0, str(ROOT / folder))

import bench_rows  # noqa: E402
import patrolink_messages as m  # noqa: E402
from patrolink.conformance import reference  # noqa: E402
from patrolink.conformance.evidence import CUT, RESTORE, Answer, link, send, stimulus, wait  # noqa: E402
from patrolink.conformance.testee.device_pipe import DevicePipe  # noqa: E402
from patrolink.core import clock, keys  # noqa: E402
from patrolink.core.keys import DeviceKey  # noqa: E402
from patrolink.emulator.testee import __main__ as testee  # noqa: E402
from patrolink.emulator.testee.virtual_firmware import CUT_LINE  # noqa: E402
from patrolink.hub.infra.downlink import Downlink  # noqa: E402
from patrolink_protocol.frame import UPLINK, Channel  # noqa: E402

BOARD = "mps2_an385"
SECRET = bytes(range(7, 39))
SETTINGS = {"batch_fixes": 5, "batch_s": 5, "status_s": 20}
NEVER = -1
COMMAND_MS, LINK_OFF_MS, SOS_MS, LINK_ON_MS, RESOLVED_MS, REPEAT_MS, OFF_MS, END_MS = (
    *(20_000, 25_000, 30_000, 50_000, 70_000, 80_000, 90_000),
    105_000,
)
PHASES = ((0, "start, positions"), (COMMAND_MS, "command"), (LINK_OFF_MS, "no link, SOS"), (LINK_ON_MS, "backlog"))
PHASES += ((RESOLVED_MS, "SOS resolved"), (REPEAT_MS, "command again"), (OFF_MS, "power off"))
PROBLEMS = ("counters_reused", "frames_lost", "sos_lost", "commands_repeated", "not_started", "flash_violations")
STATUS, RESOLVED = 13, 5
STARTING_MS = 3000  # a button that is pressed while the board starts is not noticed


@dataclass
class Run:
    """What a run has shown.

    Attributes:
        cut: Number of the flash operation in which the power was cut; NEVER.
        cut_ms: When that was; None: the patrol has no such operation.
        frames: Frames as (time, counter, decoded message), in order of arrival.
        texts: The same frames in hexadecimal digits.
        summary: What the board printed when it was switched off.
    """

    cut: int
    cut_ms: int | None
    frames: list[tuple[int, int, dict[str, Any]]]
    texts: list[str]
    summary: dict[str, Any]

    def of(self, name: str) -> list[tuple[int, int, dict[str, Any]]]:
        """Return the frames with messages of a name."""
        return [entry for entry in self.frames if entry[2]["message"] == name]

    @property
    def second_boot(self) -> int | None:
        """Counter of the hello after the cut; frames of the first boot have lower ones. None: there is none."""
        if self.cut_ms is None:
            return None
        boots = {message["boot"]: (at_ms, counter) for at_ms, counter, message in self.of("hello")}
        known = [message["boot"] for at_ms, _, message in self.of("hello") if at_ms <= self.cut_ms]
        newest = max(boots, default=0)
        return boots[newest][1] if newest > max(known, default=0) else None

    def first_boot(self) -> dict[int, int]:
        """Return counter → type of what arrived of the first boot."""
        end = self.second_boot
        return {
            counter: int(text[:2], 16) & 31
            for (_, counter, _), text in zip(self.frames, self.texts, strict=True)
            if end is None or counter < end
        }


def prepare(folder: Path) -> None:
    """Create the folder of a new device."""
    assert testee.main(["init", BOARD, str(folder)]) == 0
    keys.write(folder / "keys.toml", {testee.DEVICE: SECRET})
    (folder / "settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")


def patrol(cut: int, work: Path) -> Run:
    """Run the patrol with the power cut in a flash operation."""
    words = ["sos", "off"]
    stimuli = {word: ["sh", "-c", f"echo {word} >{work}/buttons"] for word in words}
    command = [sys.executable, "-m", "patrolink.emulator.testee", "pipe", BOARD, str(work), str(cut)]
    device = DevicePipe(command, clock.monotonic_ms, stimuli, virtual=True, linked=True)
    answers: list[Answer] = []
    device.start()
    try:
        device.begin()
        for step in _steps(answers):
            answers += device.perform(step)
    finally:
        ending = device.stop()
    channel = Channel(SECRET, testee.DEVICE.encode(), UPLINK)
    frames = []
    for answer in answers:
        reading = reference.read(bytes.fromhex(answer.text), channel)
        assert "reject" not in reading, f"cut {cut}: {reading}: {answer.text}"
        frames.append((answer.at_ms, reading["counter"], reading["message"]))
    log = (work / "console.log").read_text(errors="replace")
    assert "Traceback" not in log and "FAULT" not in log, f"cut {cut}: {log[-2000:]}\n{ending.stderr}"
    cut_line = re.search(CUT_LINE + r" (\d+) ms", log)
    summaries = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return Run(
        cut,
        int(cut_line[1]) if cut_line else None,
        frames,
        [answer.text for answer in answers],
        summaries[-1] if summaries else {},
    )


def _steps(answers: list[Answer]) -> Iterator[Any]:
    """Yield the steps of the patrol; `answers` has what arrived before."""
    downlink = Downlink({testee.DEVICE: DeviceKey(SECRET)})
    request = {"command_id": 1, "action": STATUS, "expires_ms": 4_000_000_000_000, "operator": b"cuts"}
    command = downlink.seal(testee.DEVICE, m.COMMAND, {**request, "number": None, "name": b"", "value": b""})
    actions = (
        (COMMAND_MS, lambda: send(command)),
        (LINK_OFF_MS, lambda: link(CUT)),
        (SOS_MS, lambda: stimulus("sos")),
        (LINK_ON_MS, lambda: link(RESTORE)),
        (RESOLVED_MS, lambda: send(_resolve(answers, downlink))),
        (REPEAT_MS, lambda: send(command)),
        (OFF_MS, lambda: stimulus("off")),
    )
    now_ms = 0
    for at_ms, action in actions:
        yield wait(at_ms - now_ms)
        yield action()
        now_ms = at_ms
    yield wait(END_MS - now_ms)


def _resolve(answers: list[Answer], downlink: Downlink) -> bytes:
    """Return the frame that resolves the newest SOS that has arrived."""
    channel = Channel(SECRET, testee.DEVICE.encode(), UPLINK)
    messages = [reference.read(bytes.fromhex(answer.text), channel)["message"] for answer in answers]
    event_id = max((message["event_id"] for message in messages if message["message"] == "event"), default=0)
    values = {"event_id": event_id, "state": RESOLVED, "time_ms": 1_900_000_000_000, "eta_s": None, "who": b"station"}
    frame: bytes = downlink.seal(testee.DEVICE, m.EVENT_STATE, values)
    return frame


@dataclass
class Table:
    """Counts of cuts and problems by phase of the patrol."""

    cuts: Counter[str] = field(default_factory=Counter)
    problems: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    known: dict[int, int] = field(default_factory=dict)  # counter → first cut that it survived
    sos_from: int | None = None  # first cut that the SOS of the first boot survived

    def add(self, run: Run) -> None:
        """Count what a run with a cut has shown; runs come in the order of their cuts."""
        assert run.cut_ms is not None
        phase = [name for at_ms, name in PHASES if at_ms <= run.cut_ms][-1]
        self.cuts[phase] += 1
        for problem, text in self._problems(run):
            self.problems[phase, problem] += 1
            self.examples.append(f"cut {run.cut} at {run.cut_ms} ms: {problem}: {text}")

    def _problems(self, run: Run) -> Iterator[tuple[str, str]]:
        assert run.cut_ms is not None
        texts: dict[int, str] = {}
        for (_, counter, _), text in zip(run.frames, run.texts, strict=True):
            if texts.setdefault(counter, text) != text:
                yield "counters_reused", f"counter {counter}: {texts[counter]} and {text}"
        if run.second_boot is None:
            yield "not_started", "no hello with a higher boot number after the cut"
            return
        first = run.first_boot()
        missing = sorted(set(self.known) - set(first))
        gaps = sorted(set(range(max(first, default=0))) - set(first))
        if missing or gaps:
            yield "frames_lost", f"counters {missing or gaps}"
        self.known.update({counter: run.cut for counter in first if counter not in self.known})
        if self._sos_is_lost(run, first):
            yield "sos_lost", "it is not sent after the cut"
        answers = {text for text in run.texts if int(text[:2], 16) & 31 == m.ANSWER}
        if len(answers) > 1:
            yield "commands_repeated", f"{len(answers)} answers"
        if run.summary.get("board", {}).get("violations", 0):
            yield "flash_violations", str(run.summary["board"])

    def _sos_is_lost(self, run: Run, first: dict[int, int]) -> bool:
        assert run.cut_ms is not None
        stored = m.EVENT in first.values()
        if stored and self.sos_from is None:
            self.sos_from = run.cut
        if run.cut_ms >= RESOLVED_MS:
            return False
        if self.sos_from is not None:
            return not any(at_ms > run.cut_ms for at_ms, _, _ in run.of("event"))
        return run.cut_ms + STARTING_MS < SOS_MS and not run.of("event")  # pressed in the second boot

    def print(self) -> None:
        """Print the table."""
        print(f"{'phase of the cut':18} {'cuts':>5} " + " ".join(f"{name:>17}" for name in PROBLEMS))
        for name in [name for _, name in PHASES] + ["all"]:
            cuts = self.cuts[name] if name != "all" else self.cuts.total()
            counts = [self._count(name, problem) for problem in PROBLEMS]
            print(f"{name:18} {cuts:5} " + " ".join(f"{count:17}" for count in counts))

    def _count(self, phase: str, problem: str) -> int:
        return sum(n for (where, what), n in self.problems.items() if what == problem and phase in (where, "all"))


def run(every: int, first: int = 0) -> Table:
    """Run the patrol with a cut in every n-th flash operation, until it has no further one."""
    table = Table()
    with tempfile.TemporaryDirectory(prefix="patrolink-cuts-") as name:
        folder = Path(name)
        prepare(folder / "new")
        cut = first
        while True:
            result = patrol(cut, Path(shutil.copytree(folder / "new", folder / str(cut))))
            shutil.rmtree(folder / str(cut))
            if result.cut_ms is None:
                return table
            table.add(result)
            cut += every


def main(every: int) -> int:
    start = time.monotonic()
    table = run(every)
    table.print()
    for example in table.examples[:10]:
        print(example, file=sys.stderr)
    print(f"{time.monotonic() - start:.0f} s")
    if every == 1:
        counts = [table._count("all", problem) for problem in PROBLEMS]
        rows = zip(("cuts", *PROBLEMS), (table.cuts.total(), *counts), strict=True)
        bench_rows.save("testee_cuts", [bench_rows.row(name, count, "count") for name, count in rows])
    return 1 if table.problems else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
