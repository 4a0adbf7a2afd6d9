"""Runs the vectors through another copy of the Python codec, and returns those at which it fails."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from tests.support.paths import ROOT

_PACKAGE = "patrolink_protocol"


@contextmanager
def _codec_in(folder: Path) -> Iterator[ModuleType]:
    """Import tests/unit/test_vectors.py with the codec of a folder in place of the usual one."""
    usual = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == _PACKAGE}
    for name in usual:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        path = ROOT / "tests" / "unit" / "test_vectors.py"
        spec = importlib.util.spec_from_file_location("vectors_with_another_codec", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
            del sys.modules[name]
        sys.modules.update(usual)


def faults(folder: Path) -> list[str]:
    """Return the ids of the vectors at which the codec of a folder fails."""
    with _codec_in(folder) as codec:
        failed = [
            vector["id"]
            for name in ("frames.json", "messages.json", "batches.json")
            for vector in codec.vectors(name)
            if not _is_right(codec, vector)
        ]
        known = (vector for vector in codec.vectors("sequences.json") if vector["key"] is not None)
        failed += [vector["id"] for vector in known if not _is_right(codec, vector)]
    return failed


def _is_right(codec: ModuleType, vector: dict) -> bool:
    try:
        if "steps" in vector:
            return codec.first_fault(vector) is None
        codec.check_vector(vector)
    except Exception:  # a mutant may fail in any way
        return False
    return True
