"""Loads the device program into this process, as a board does: by path, with its folders on `sys.path`.

This is the only place where the host package loads code of `device/`.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

from patrolink.core import resources


def load() -> tuple[ModuleType, ModuleType]:
    """Run `device/main.py` as a module, which extends `sys.path`.

    Returns:
        The modules `app.device` and `app.config` of the agent.
    """
    path = resources.root() / "device" / "main.py"
    spec = importlib.util.spec_from_file_location("patrolink_device_main", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if "app.device" not in sys.modules:
        spec.loader.exec_module(module)
    return importlib.import_module("app.device"), importlib.import_module("app.config")


def module(name: str) -> ModuleType:
    """Return a module of the agent, such as `hal.common`."""
    load()
    return importlib.import_module(name)
