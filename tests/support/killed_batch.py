"""Runs `patrolink flash --provision` on model boards in a process that kills itself at one of its steps.

A step is each change of a file (opened for writing, renamed, linked, removed) and of a board.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patrolink.cli import flash as cli
from patrolink.cli import main
from patrolink.flash.provision import configuration

from tests.support.model_boards import ModelMethod

KILLED = -signal.SIGKILL
_CHANGES = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir")


class _Killer:
    """Kills this process at a step.

    Args:
        folder: Folder whose files count.
        number: Number of the step.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._left = str(folder), number
        sys.addaudithook(self._audit)

    def step(self) -> None:
        """Count a step."""
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        changes = event in _CHANGES or (event == "open" and bool((args[2] or 0) & (os.O_WRONLY | os.O_RDWR)))
        if changes and str(args[0]).startswith(self._folder) and not str(args[0]).endswith(".tmp"):
            self.step()


@contextlib.contextmanager
def model_method(folder: Path, step: Callable[[], None]):
    """Let `patrolink flash` reach model boards, and not check configurations with the agent, while this is open."""

    @contextlib.contextmanager
    def factory(name, image, board, patient):
        yield lambda port, cancel: ModelMethod(port, cancel, image, folder, step)

    original, check = cli.method_factory, configuration.check
    cli.method_factory, configuration.check = factory, lambda paths: [""] * len(paths)
    try:
        yield
    finally:
        cli.method_factory, configuration.check = original, check


def run(folder: Path, words: list[str], number: int) -> None:
    """Run a command, and kill this process at a step; else end it with the exit code."""
    with (folder.parent / "output").open("a") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    with model_method(folder, _Killer(folder, number).step):
        code = main(words)
    os._exit(code)
