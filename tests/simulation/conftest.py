"""A simulation with a fixed seed repeats a run to the byte: it runs again only when the simulated code has changed."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
INPUTS = ("build/device-lib", "device", "protocol", "tests/golden", "tests/simulation")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.unchanged_inputs(*INPUTS))
