"""Proves that the district simulation finds faults: single faults are put into hub and agent, one at a time.

python tests/simulation/district_mutants.py [PART OF A NAME]     default: all mutants of district_mutants.toml

Each mutant runs in a process of its own, for seeds until one shows a violation. Exit code 1 if a mutant survives.
"""

import dataclasses
import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent.parent
MUTANTS = Path(__file__).with_suffix(".toml")
SEEDS, DEVICES, MINUTES, INTENSITY = 16, 6, 8, 3
DETECTED, SURVIVED = 0, 1


def load() -> list[dict[str, str]]:
    """Return the mutants: name, file, old text and new text."""
    return tomllib.loads(MUTANTS.read_text(encoding="utf-8"))["mutant"]


def apply(mutant: dict[str, str]) -> str:
    """Return the source of the mutant's file with the fault in it."""
    source = (ROOT / mutant["file"]).read_text(encoding="utf-8")
    assert source.count(mutant["old"]) == 1, (
        f"{mutant['file']} has {source.count(mutant['old'])} times: {mutant['old']}"
    )
    return source.replace(mutant["old"], mutant["new"])


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


def run_seeds(mutant: dict[str, str]) -> int:
    """Run seeds until one shows a violation, print it, and return the exit code. This process has the mutant."""
    sys.meta_path.insert(0, _Finder((ROOT / mutant["file"]).resolve(), apply(mutant)))
    from patrolink.emulator.scenarios.district.faults import DistrictFaults
    from patrolink.emulator.scenarios.district.simulation import District

    faults = DistrictFaults(*(hours / INTENSITY for hours in dataclasses.astuple(DistrictFaults())))
    for seed in range(1, SEEDS + 1):
        district = District(DEVICES, MINUTES / 60, seed, faults)
        try:
            district.run()
        except Exception as e:  # a fault may break the simulation itself
            print(f"{type(e).__name__}: {e} (seed {seed})")
            return DETECTED
        if district.violations:
            print(f"{district.violations[0].rule}: {district.violations[0].text} (seed {seed})")
            return DETECTED
    print(f"survived {SEEDS} seeds")
    return SURVIVED


def _start(number: int) -> tuple[int, str]:
    command = [sys.executable, __file__, "--number", str(number)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines() or result.stderr.splitlines() or ["no output"]
    return result.returncode, lines[-1]


def main(part: str) -> int:
    """Run all mutants whose name has the part; print a line each; return the exit code."""
    mutants = [(number, mutant) for number, mutant in enumerate(load()) if part in mutant["name"]]
    start, survivors = time.perf_counter(), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda entry: _start(entry[0]), mutants)
        for (_, mutant), (code, line) in zip(mutants, results, strict=True):
            survivors += code != DETECTED
            print(f"{'found' if code == DETECTED else 'SURVIVED':<9} {mutant['name']}: {line}", flush=True)
    print(f"{len(mutants)} mutants, {survivors} survived; {time.perf_counter() - start:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--number"]:
        sys.exit(run_seeds(load()[int(sys.argv[2])]))
    sys.exit(main(" ".join(sys.argv[1:])))
