"""Runs all vectors through a program, in any language, that implements the line protocol of README.md.

python3 protocol/vectors/run.py PROGRAM [ARGUMENT ...]

Prints each vector that fails with the actual and the expected result, then the counts. The vectors of the serial line
are not run with a program that has none, and the last line says so. Exit code 0 if all pass, 1 if any fails, 2 if the
program cannot be run. Needs only Python's standard library.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


class Program:
    """The program under test, on a pipe."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, line: str) -> None:
        """Send a request that has no answer. `ask` detects that the program has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def ask(self, line: str) -> dict[str, Any]:
        """Send a request and return its answer; {} if the program has ended or does not answer in JSON."""
        assert self._process.stdout is not None
        self.send(line)
        try:
            answer = json.loads(self._process.stdout.readline() or "{}")
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    def close(self) -> int:
        """Close the input of the program and return its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(10)


def load(name: str) -> list[dict[str, Any]]:
    """Return the vectors of a file."""
    vectors: list[dict[str, Any]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))["vectors"]
    return vectors


def check(program: Program) -> Iterator[tuple[str, str]]:
    """Yield (vector id, fault or "") for each vector."""
    for name in ("frames.json", "messages.json", "batches.json"):
        for vector in load(name):
            at = f"{vector['key']} {vector['device']} {vector['direction']} {vector['epoch']}"
            got = program.ask(f"F {at} {vector['frame'] or '-'}")
            got.pop("again", None)  # optional: the decoded message encoded by the program
            keys = ("reject",) if "reject" in vector else ("type", "counter", "extensions", "message")
            expected = {key: vector[key] for key in keys}
            reasons = vector.get("reject")
            right = (
                got.keys() == {"reject"} and got["reject"] in reasons if isinstance(reasons, list) else got == expected
            )
            yield vector["id"], "" if right else f"got {got}, expected {expected}"
    for vector in load("sequences.json"):
        program.send(f"R {vector['key'] or '-'} {vector['device']} {vector['direction']} {vector['epoch']}")
        results = [program.ask(f"S {step['frame'] or '-'}").get("step") for step in vector["steps"]]
        expected_steps = [step["expect"] for step in vector["steps"]]
        yield vector["id"], "" if results == expected_steps else f"got {results}, expected {expected_steps}"


def check_serial(program: Program) -> Iterator[tuple[str, str]]:
    """Yield (vector id, fault or "") for each vector of the serial line; nothing if the program has no serial line."""
    for vector in load("serial.json"):
        if "frame" in vector:
            packet = program.ask(f"P {vector['frame']}")
            if "error" in packet:
                return
            if packet != {"packet": vector["bytes"]}:
                yield vector["id"], f"got {packet}, expected the packet {vector['bytes']}"
                continue
        got = program.ask(f"U {vector['bytes']}")
        expected = {"frames": vector["frames"], "invalid": vector["invalid"]}
        yield vector["id"], "" if got == expected else f"got {got}, expected {expected}"


def main(command: list[str]) -> int:
    """Run the vectors through a program; return the exit code."""
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        program = Program(command)
    except OSError as e:
        print(
            f"error: {command[0]}: {e.strerror}; name a program that implements the line protocol of check.c",
            file=sys.stderr,
        )
        return 2
    passed = failed = 0
    results = [*check(program), *(serial := list(check_serial(program)))]
    for name, fault in results:
        if fault:
            failed += 1
            print(f"{name}: {fault}")
        else:
            passed += 1
    try:
        program.close()
    except (BrokenPipeError, subprocess.TimeoutExpired):
        failed += 1
        print("the program did not exit at the end of its input")
    print(f"{passed} passed, {failed} failed" + ("" if serial else "; no serial line: its vectors were not run"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
