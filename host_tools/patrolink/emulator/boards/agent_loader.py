"""The device's own program, loaded as a board loads it: by path, with its rooms on sys.path.

The host package imports nothing of device/ otherwise.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

from patrolink.core import resources


def load() -> tuple[ModuleType, ModuleType]:
    """Run device/main.py as a module, which puts its rooms on sys.path; return the device's assembly and config."""
    path = resources.root() / "device" / "main.py"
    spec = importlib.util.spec_from_file_location("patrolink_device_main", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if "app.device" not in sys.modules:
        spec.loader.exec_module(module)
    return importlib.import_module("app.device"), importlib.import_module("app.config")
