"""Calls of the device's P-256 on MicroPython."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest
from patrolink.core import resources
from patrolink.core.errors import DeviceError

from tests.conftest import ROOT


def call_on_micropython(requests: Sequence[Sequence[tuple[Any, ...]]]) -> list[list[Any]]:
    """Return the results of requests, each a list of calls; skips the test without MicroPython.

    Args:
        requests: Calls are (name of a function of compat.p256, arguments as bytes).
    """
    try:
        micropython = resources.interpreter("micropython")
    except DeviceError as e:
        pytest.skip(str(e))
    lines = "".join(
        json.dumps([[name, *(value.hex() for value in arguments)] for name, *arguments in calls]) + "\n"
        for calls in requests
    )
    command = [*micropython, str(ROOT / "tests/integration/clips/p256_pipe.py")]
    result = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, timeout=200)
    return [json.loads(line) for line in result.stdout.splitlines()]
