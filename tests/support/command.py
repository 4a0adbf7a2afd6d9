"""Run a command of the tool in this process, where a process of its own proves nothing."""

import contextlib
import io
import os
import subprocess
from unittest import mock

from patrolink.cli import main


def run_command(*arguments, **environment: str) -> subprocess.CompletedProcess:
    """Run `patrolink` with these arguments and additional environment variables.

    Returns:
        Exit code, standard output and standard error, as of a process.
    """
    words = [str(argument) for argument in arguments]
    out, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        try:
            code = main(words)
        except SystemExit as e:
            code = e.code
    return subprocess.CompletedProcess(words, code, out.getvalue(), errors.getvalue())
