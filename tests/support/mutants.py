"""Mutants: single faults that are put into a file of the repository while a process loads it."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent.parent


def load(path: Path) -> list[dict[str, str]]:
    """Return the mutants of a TOML file: name, file, old text and new text."""
    return tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]


def apply(mutant: dict[str, str]) -> str:
    """Return the source of the mutant's file with the fault in it."""
    source = (ROOT / mutant["file"]).read_text(encoding="utf-8")
    assert source.count(mutant["old"]) == 1, (
        f"{mutant['file']} has {source.count(mutant['old'])} times: {mutant['old']}"
    )
    return source.replace(mutant["old"], mutant["new"])


def activate(mutant: dict[str, str]) -> None:
    """Let this process load the mutant's file with the fault in it; nothing may have imported the file yet."""
    sys.meta_path.insert(0, _Finder((ROOT / mutant["file"]).resolve(), apply(mutant)))


class _Finder(importlib.abc.MetaPathFinder):
    """Loads one file of the repository from another source."""

    def __init__(self, path: Path, source: str) -> None:
        self._path, self._source = path, source

    def find_spec(self, fullname, path, target=None):
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != self._path:
            return None
        return importlib.util.spec_from_loader(fullname, _Loader(fullname, str(self._path), self._source))


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self._source = source

    def get_code(self, fullname):
        return compile(self._source, self.path, "exec")
