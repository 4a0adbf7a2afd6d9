"""The extension module of the C codec, compiled for tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from patrolink_protocol import VERSION

EXTENSION = Path(__file__).resolve().parent.parent.parent / "protocol" / "extension"


def build(folder: Path) -> Path:
    """Compile the module into a folder and return its path."""
    spec = importlib.util.spec_from_file_location("compile_codec", EXTENSION / "compile_codec.py")
    compile_codec = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compile_codec)
    return compile_codec.compile_module(folder, VERSION)


def load(path: Path) -> ModuleType:
    """Import the compiled module, without making it importable for others."""
    spec = importlib.util.spec_from_file_location("patrolink_codec", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "patrolink_codec" not in sys.modules
    return module
