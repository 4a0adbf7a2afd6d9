"""Run commands of the tool in one process of its own, which file permissions apply to, also if root runs the tests."""

import contextlib
import ctypes
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


class Result(NamedTuple):
    """Result of a command: exit code, standard output and error, and the traceback of an exception that escaped."""

    code: int | str | None
    output: str
    errors: str
    traceback: str


def drop_capabilities() -> None:
    """Give up root's right to open everything; it takes effect with the program that is started next."""
    prctl = ctypes.CDLL(None).prctl
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def run_commands(
    commands: list[list[str]], folder: Path, python: str = sys.executable, environment: Mapping[str, str] = os.environ
) -> list[Result]:
    """Run commands of the tool that a Python has, one after the other, in a folder; return their results."""
    done = subprocess.run(
        [python, __file__],
        cwd=folder,
        env={**environment, "PATROLINK_HUB_TOKEN": "x"},
        input=json.dumps(commands),
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,  # of all commands together, on a busy machine
        check=True,
        preexec_fn=None if os.geteuid() else drop_capabilities,
    )
    return [Result(*result) for result in json.loads(done.stdout)]


def _run(command: list[str]) -> Result:
    from patrolink.cli import main

    output, errors, code, trace = io.StringIO(), io.StringIO(), None, ""
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            code = main(command)
        except SystemExit as e:
            code = e.code
        except BaseException:
            trace = traceback.format_exc()
    return Result(code, output.getvalue(), errors.getvalue(), trace)


if __name__ == "__main__":
    json.dump([_run(command) for command in json.load(sys.stdin)], sys.stdout)
