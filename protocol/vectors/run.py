"""Run every vector through a program that speaks check.c's line protocol, whatever it is written in.

python3 protocol/vectors/run.py PROGRAM [ARGUMENT ...]

Prints each vector that goes wrong with what was said and what should have been, then the count. Exit code 0 when all
pass, 1 when some do not, 2 when the program cannot be run. Needs nothing but Python.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Program:
    """The program under test, behind a pipe."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line: str) -> None:
        """Send a request that has no answer; a program that has ended shows when it is asked."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def ask(self, line: str) -> dict[str, Any]:
        """Send a request and return its answer; {} when the program has ended or says no JSON."""
        assert self._process.stdout is not None
        self.tell(line)
        try:
            answer = json.loads(self._process.stdout.readline() or "{}")
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    def close(self) -> int:
        """End the program; return its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(10)


def load(name: str) -> list[dict[str, Any]]:
    """Return the vectors of one file."""
    vectors: list[dict[str, Any]] = json.loads((HERE / name).read_text(encoding="utf-8"))["vectors"]
    return vectors


def check(program: Program) -> Iterator[tuple[str, str]]:
    """Yield (vector id, what is wrong or "") for every vector."""
    for name in ("frames.json", "messages.json", "batches.json"):
        for vector in load(name):
            at = f"{vector['key']} {vector['device']} {vector['direction']} {vector['epoch']}"
            got = program.ask(f"F {at} {vector['frame'] or '-'}")
            got.pop("again", None)  # optional: how this program would encode what it decoded
            keys = ("reject",) if "reject" in vector else ("type", "counter", "extensions", "message")
            expected = {key: vector[key] for key in keys}
            yield vector["id"], "" if got == expected else f"said {got}, not {expected}"
    for vector in load("sequences.json"):
        program.tell(f"R {vector['key'] or '-'} {vector['device']} {vector['direction']} {vector['epoch']}")
        said = [program.ask(f"S {step['frame']}").get("step") for step in vector["steps"]]
        expected_steps = [step["expect"] for step in vector["steps"]]
        yield vector["id"], "" if said == expected_steps else f"said {said}, not {expected_steps}"


def main(command: list[str]) -> int:
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        program = Program(command)
    except OSError as e:
        print(f"error: {command[0]}: {e.strerror}; name a program that speaks check.c's protocol", file=sys.stderr)
        return 2
    passed = failed = 0
    for name, wrong in check(program):
        if wrong:
            failed += 1
            print(f"{name}: {wrong}")
        else:
            passed += 1
    try:
        program.close()
    except (BrokenPipeError, subprocess.TimeoutExpired):
        failed += 1
        print("the program did not end when its input did")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
