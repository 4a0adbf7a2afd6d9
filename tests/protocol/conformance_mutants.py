"""Proves that the conformance kit finds faults: single faults are put into codecs and devices, one at a time.

python tests/protocol/conformance_mutants.py [PART OF A NAME] [--jobs N] [--write]
                                  default: all mutants of conformance_mutants.toml, a job for each core

Each mutant of a codec runs as a testee of the codec tier. One with `testee = "agent"` is a fault of the agent of board
linux, one with `testee = "device"` of the example device in C; they run as testees of the device tier. A mutant is
caught if a case that names its requirement fails, or is non-strict; of agent and device, the case with the title
`case`. Prints a line for each mutant and exits with code 1 if one survives. `--write` writes
docs/internals/conformance-mutants.md, and the list of mutants by case in
host_tools/patrolink/conformance/mutants.toml.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
MUTANTS = Path(__file__).with_suffix(".toml")
PAGE = ROOT / "docs" / "internals" / "conformance-mutants.md"
KILLS = ROOT / "host_tools" / "patrolink" / "conformance" / "mutants.toml"
PROTOCOL = ROOT / "protocol"
ADAPTER = PROTOCOL / "adapters" / "python" / "codec.py"
LIMIT_MS = 600_000
TIMEOUT_S = 5.0
LANGUAGES = {".c": "C", ".py": "Python"}
AGENT, EXAMPLE = "Agent", "Device"
_BOARD, _FOLDER = "linux", "build/testee/linux"  # its profile names buttons in this folder

sys.path[:0] = [str(ROOT)]

from patrolink.conformance import profile, suite  # noqa: E402
from patrolink.conformance.case import CODEC, DEVICE, Case, DeviceUnderTest, Verdict  # noqa: E402
from patrolink.conformance.runner import Runner  # noqa: E402
from patrolink.conformance.testee.codec_pipe import CodecPipe  # noqa: E402
from patrolink.conformance.testee.device_pipe import DevicePipe  # noqa: E402
from patrolink.core import clock, keys  # noqa: E402

from tests.support import mutants as single_faults  # noqa: E402


def build_c(mutant: dict[str, str] | None, folder: Path) -> list[str]:
    """Compile the C codec, with a fault if there is a mutant; return the command of the testee."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("no C compiler; apt-get install gcc")
    generated = folder / "generated"
    generated.mkdir()
    shutil.copytree(PROTOCOL / "vectors", folder / "vectors")
    for name in ("patrolink.c", "patrolink.h"):
        shutil.copy(PROTOCOL / "generated" / name, generated)
    if mutant is not None:
        (generated / Path(mutant["file"]).name).write_text(single_faults.apply(mutant), encoding="utf-8")
    command = [compiler, "-std=c99", "-O1", "-w", "-o", str(folder / "check"), str(folder / "vectors" / "check.c")]
    subprocess.run(command, check=True)
    return [str(folder / "check")]


def python_command(number: int | None) -> list[str]:
    """Return the command of the Python codec, with the mutant of this number."""
    return [sys.executable, __file__, "--serve", "-1" if number is None else str(number)]


def serve(number: int) -> None:
    """Run the adapter of the Python codec in this process, with a fault in one of its modules."""
    import runpy

    sys.path[:0] = [str(PROTOCOL), str(PROTOCOL / "generated"), str(ADAPTER.parent)]
    if number >= 0:
        for name in [name for name in sys.modules if name.startswith("patrolink_protocol")]:
            del sys.modules[name]
        single_faults.activate(single_faults.load(MUTANTS)[number])
    runpy.run_path(str(ADAPTER), run_name="__main__")


def language(mutant: dict[str, str]) -> str:
    """Return what a mutant is a fault of, as the page names it."""
    of_testee = {"agent": AGENT, "device": EXAMPLE}.get(mutant.get("testee", ""))
    return of_testee or LANGUAGES[Path(mutant["file"]).suffix]


def serve_agent(number: int, folder: str) -> None:
    """Run the agent as a testee in this process, with a fault in one of its modules."""
    for name in [name for name in sys.modules if name.startswith("patrolink_protocol")]:
        del sys.modules[name]
    if number >= 0:
        single_faults.activate(single_faults.load(MUTANTS)[number])
    from patrolink.emulator.testee.__main__ import main as run_testee

    sys.exit(run_testee(["pipe", _BOARD, folder]))


def _word(word: str, folder: str) -> str:
    """Return a word of a command of the profile, for a testee in a folder."""
    return sys.executable if word == "python" else word.replace(_FOLDER, folder)


def failing_device_cases(number: int | None, cases: list[Case], first: bool = True) -> list[Case]:
    """Return the cases that the agent fails with the mutant of this number; only the first one unless asked for all."""
    from patrolink.emulator.testee.__main__ import main as run_testee

    described = profile.load(ROOT / "boards" / _BOARD / "conformance.toml", DEVICE)
    with tempfile.TemporaryDirectory() as folder:
        run_testee(["init", _BOARD, folder])
        ((name, key),) = keys.load(Path(folder) / "keys.toml").items()
        stimuli = {n: [_word(word, folder) for word in words] for n, words in described.stimuli.items()}
        command = [sys.executable, __file__, "--serve-agent", "-1" if number is None else str(number), folder]
        testee = DevicePipe(command, clock.monotonic_ms, stimuli, True, True)
        device = DeviceUnderTest(name, key.secret, key.epoch, 1000)
        return _failing(testee, described.claims, device, cases, first)


def failing_example_cases(mutant: dict[str, str] | None, cases: list[Case], first: bool = True) -> list[Case]:
    """Return the cases that the example device in C fails with a mutant; only the first one unless asked for all."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("no C compiler; apt-get install gcc")
    described = profile.load(PROTOCOL / "example_device" / "conformance.toml", DEVICE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("example_device", "generated", "vectors"):
            shutil.copytree(
                PROTOCOL / part, folder / part, ignore=shutil.ignore_patterns("*.py", "*.json", "__pycache__")
            )
        if mutant is not None:
            path = folder / Path(mutant["file"]).relative_to("protocol")
            path.write_text(single_faults.apply(mutant), encoding="utf-8")
        sources = [*sorted((folder / "example_device").glob("*.c")), folder / "generated" / "patrolink.c"]
        includes = [f"-I{folder / part}" for part in ("generated", "vectors")]
        subprocess.run([compiler, "-std=c99", "-O1", "-w", *includes, "-o", folder / "device", *sources], check=True)
        secret = bytes(range(100, 132))
        (folder / "key").write_text(secret.hex(), encoding="ascii")
        words = [str(folder / "device"), "vest-c", str(folder / "key"), str(folder / "counters"), "--virtual"]
        words += ["--button", str(folder / "button"), "--lose-clock", str(folder / "clockless")]
        stimuli = {n: ["touch", str(folder / file)] for n, (_, file) in described.stimuli.items()}
        testee = DevicePipe(words, clock.monotonic_ms, stimuli, True, True)
        return _failing(testee, described.claims, DeviceUnderTest("vest-c", secret, 0, 1000), cases, first)


def _failing(
    testee: DevicePipe, claims: Mapping[str, str], device: DeviceUnderTest, cases: list[Case], first: bool
) -> list[Case]:
    failing = []
    for result in Runner(testee, 1, clock.monotonic_ms, LIMIT_MS, claims, device).run(cases):
        if result.judgement.verdict is Verdict.SKIPPED:
            raise RuntimeError(f"{result.case.id} was skipped: {result.judgement.reason}")
        if result.judgement.verdict in (Verdict.FAIL, Verdict.NON_STRICT):
            failing.append(result.case)
            if first:
                break
    return failing


def failing_cases(command: list[str], cases: list[Case], first: bool = True) -> list[Case]:
    """Return the cases that a testee fails; only the first one unless asked for all."""
    failing = []
    testee = CodecPipe(command, clock.monotonic_ms, TIMEOUT_S)
    for result in Runner(testee, 1, clock.monotonic_ms, LIMIT_MS, profile.complete(CODEC).claims).run(cases):
        if result.judgement.verdict in (Verdict.FAIL, Verdict.NON_STRICT):
            failing.append(result.case)
            if first:
                break
    return failing


def codec_cases() -> list[Case]:
    """Return the cases of the codec tier; those that come from no vector first, as they name what they test."""
    return sorted((case for case in suite.load() if case.tier == CODEC), key=lambda case: (bool(case.vector), case.id))


def device_cases() -> list[Case]:
    """Return the cases of the device tier."""
    return [case for case in suite.load() if case.tier == DEVICE]


def failing_without_fault() -> dict[str, list[str]]:
    """Return the ids of the cases that each codec fails without a mutant."""
    with tempfile.TemporaryDirectory() as folder:
        commands = {"C": build_c(None, Path(folder)), "Python": python_command(None)}
        failing = {name: failing_cases(command, codec_cases(), first=False) for name, command in commands.items()}
    failing[AGENT] = failing_device_cases(None, device_cases(), first=False)
    failing[EXAMPLE] = failing_example_cases(None, device_cases(), first=False)
    return {name: [case.id for case in cases] for name, cases in failing.items()}


def _run_codec_mutant(number: int, mutant: dict[str, str]) -> tuple[list[Case], list[Case]]:
    """Return the first case of its requirement that a mutant of a codec fails; without one, the first of all cases."""
    with tempfile.TemporaryDirectory() as folder:
        command = build_c(mutant, Path(folder)) if language(mutant) == "C" else python_command(number)
        own = [case for case in codec_cases() if case.requirement == mutant["requirement"]]
        caught = failing_cases(command, own)
        return caught, [] if caught else failing_cases(command, codec_cases())


def run_mutant(number: int) -> dict[str, Any]:
    """Run the cases of a mutant's requirement; return the mutant with `case`, `title` and `elsewhere`."""
    mutant = single_faults.load(MUTANTS)[number]
    named = [case for case in device_cases() if case.title == mutant.get("case")]
    others: list[Case] = []
    if language(mutant) == AGENT:
        caught = failing_device_cases(number, named)
    elif language(mutant) == EXAMPLE:
        caught = failing_example_cases(mutant, named)
    else:
        caught, others = _run_codec_mutant(number, mutant)
    return {
        **mutant,
        "language": language(mutant),
        "case": caught[0].id if caught else "",
        "title": caught[0].title if caught else "",
        "elsewhere": others[0].id if others else "",
    }


def run_all(part: str, jobs: int) -> list[dict[str, Any]]:
    """Run all mutants whose name has the part; print a line each."""
    numbers = [n for n, mutant in enumerate(single_faults.load(MUTANTS)) if part in mutant["name"]]
    rows = []
    with ThreadPoolExecutor(jobs) as pool:
        for row in pool.map(run_mutant, numbers):
            rows.append(row)
            verdict = row["case"] or f"SURVIVED{', but fails ' + row['elsewhere'] if row['elsewhere'] else ''}"
            print(f"{row['language']:6} | {row['requirement']:10} | {row['name']} | {verdict}", flush=True)
    return rows


def render(rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    languages = sorted({row["language"] for row in rows})
    counts = ", ".join(f"{sum(row['language'] == name for row in rows)} in {name}" for name in languages)
    caught = sum(bool(row["case"]) for row in rows)
    lines = [
        "# Mutants that the conformance kit finds",
        "",
        "A mutant is an implementation of the protocol with one fault: a codec in C or in Python, or a whole device,",
        "the agent of board `linux` under CPython or the example device in C. Each one below was run as a testee of",
        "[`patrolink validate`](../guide/validate.md); it is caught if a case that names the requirement fails.",
        "`python tests/protocol/conformance_mutants.py --write` runs them all and writes this page.",
        "",
        f"{len(rows)} mutants ({counts}); {caught} caught.",
        "",
        "| requirement | fault | of | caught by | case |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda row: (row["requirement"], row["language"], row["name"])):
        shown = row["title"].replace("|", "\\|")
        lines.append(
            f"| {row['requirement']} | {row['name']} | {row['language']} | {row['case'] or 'none'} | {shown} |"
        )
    return "\n".join(lines) + "\n"


def render_kills(rows: list[dict[str, Any]]) -> str:
    """Return the list of mutants by case, for the reports of the kit."""
    by_case: dict[str, list[str]] = {}
    for row in rows:
        if row["case"]:
            by_case.setdefault(row["case"], []).append(f"{row['language']}: {row['name']}")
    head = "# Mutants that a case has caught; written by tests/protocol/conformance_mutants.py --write.\n\n[mutants]\n"
    return head + "".join(
        f"{case} = [\n" + "".join(f'    "{name}",\n' for name in sorted(names)) + "]\n"
        for case, names in sorted(by_case.items())
    )


def main(part: str, jobs: int, write: bool) -> int:
    """Run the mutants and return the exit code."""
    start = time.perf_counter()
    for case in (case for cases in failing_without_fault().values() for case in cases):
        print(f"error: {case} fails without a fault; correct the codec or the case first", file=sys.stderr)
        return 1
    rows = run_all(part, jobs)
    caught = sum(bool(row["case"]) for row in rows)
    print(f"caught {caught} of {len(rows)} mutants; {time.perf_counter() - start:.0f} s")
    if write and not part:
        PAGE.write_text(render(rows), encoding="utf-8")
        KILLS.write_text(render_kills(rows), encoding="utf-8")
    return 0 if caught == len(rows) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("part", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve-agent", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
    elif options.serve_agent is not None:
        serve_agent(options.serve_agent, options.part[0])
    else:
        sys.exit(main(" ".join(options.part), options.jobs, options.write))
