"""Packaged data, and tools without a checkout."""

import os
import subprocess
import sys

import pytest
from patrolink.core import resources
from patrolink.core.errors import UserError

from tests.support.paths import GOLDEN

IMPORT_ALL = """
import importlib, pkgutil, patrolink
for module in pkgutil.walk_packages(patrolink.__path__, "patrolink."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_the_packaged_track_is_the_golden_one():
    assert resources.demo_track().read_bytes() == (GOLDEN / "tracks" / "walk-1hz.csv").read_bytes()


def test_every_module_is_imported_without_a_checkout(tmp_path):
    """No module looks for the checkout at import time."""
    environment = {**os.environ, "PATROLINK_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_folder_that_is_no_checkout_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATROLINK_HOME", str(tmp_path))
    with pytest.raises(UserError, match="is not a Patrolink checkout; set PATROLINK_HOME to the folder that holds"):
        resources.root()
