"""The device's own program, loaded as a board loads it: by path, with its rooms on sys.path.

The host package imports nothing of device/ otherwise.
"""

import importlib.util
import sys
from types import ModuleType

from patrolink import home


def load() -> ModuleType:
    """Return device/main.py as a module."""
    if "patrolink_device_main" in sys.modules:
        return sys.modules["patrolink_device_main"]
    path = home.root() / "device" / "main.py"
    spec = importlib.util.spec_from_file_location("patrolink_device_main", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
