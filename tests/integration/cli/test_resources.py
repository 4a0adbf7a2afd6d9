"""Packaged data, and host tools without a checkout."""

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


def test_packaged_track_equals_the_golden_track():
    assert resources.demo_track().read_bytes() == (GOLDEN / "tracks" / "walk-1hz.csv").read_bytes()


def test_every_module_is_imported_without_a_checkout(tmp_path):
    """No module may search the checkout at import time."""
    environment = {**os.environ, "PATROLINK_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", IMPORT_ALL], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_folder_without_a_checkout_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATROLINK_HOME", str(tmp_path))
    with pytest.raises(UserError, match="is not a Patrolink checkout; set PATROLINK_HOME to the folder that holds"):
        resources.root()
