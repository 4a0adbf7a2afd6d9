"""Pytest plugin: skip tests whose inputs are unchanged since their last pass.

The marker `unchanged_inputs(path, ..., programs=(name, ...))` names what the result of a slow test depends on: files
and folders of the checkout, and installed programs. The test's module, its conftest.py, the files of tests/ that these
import, the locked requirements and the Python version always count. When the test passes, the digest of its inputs is
stored in build/unchanged; while the digest stays the same, the test is skipped. With PATROLINK_TEST_ALL in the
environment, as in `.ci/run`, every test runs.
"""

import functools
import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.import_graph import imported_names
from tests.support.paths import ROOT

REASON = "inputs unchanged since the last pass; PATROLINK_TEST_ALL=1 runs it"
VARIABLE = "PATROLINK_TEST_ALL"
ALWAYS = ("requirements", "pyproject.toml", "tests/support/unchanged_inputs.py")
_STAMPS = ROOT / "build" / "unchanged"
_DIGEST = pytest.StashKey[str]()
_PASSED = pytest.StashKey[bool]()


@functools.cache
def digest_of(path: str) -> str:
    """Return the SHA-256 of a file or of all files in a folder, with their names, relative to the checkout.

    Raises:
        FileNotFoundError: There is no such file or folder.
    """
    root = ROOT / path
    if not root.exists():
        raise FileNotFoundError(f"input {path} of a test does not exist")
    total = hashlib.sha256()
    for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
        if file.is_file() and "__pycache__" not in file.parts:
            total.update(f"{file.relative_to(ROOT)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


@functools.cache
def _imported_files(file: Path) -> frozenset[Path]:
    """Return the files of tests/ that a file of tests/ imports, at module level or inside functions."""
    folders = (ROOT, ROOT / "tests" / "unit", file.parent)  # the import paths of tests/conftest.py
    names = [name.replace(".", "/") for name in imported_names(file)]
    candidates = (folder / f"{name}.py" for name in names for folder in folders)
    return frozenset(path for path in candidates if path.is_relative_to(ROOT / "tests") and path.is_file())


def files_of(module: Path) -> list[Path]:
    """Return the files of tests/ that a test depends on: its module, each conftest.py, and what these import."""
    folders = [folder for folder in module.parents if folder.is_relative_to(ROOT)]
    waiting = [path for path in (module, *(folder / "conftest.py" for folder in folders)) if path.exists()]
    files: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in files:
            files.add(file)
            waiting += _imported_files(file)
    scripts = (ROOT / "tests" / "support").glob("*.js")  # read by name, by modules that may be among the files
    return sorted(files.union(scripts))


@functools.cache
def _identity_of(program: str) -> str:
    """Return path, size and time of change of an installed program."""
    path = shutil.which(program)
    if path is None:
        return f"{program} missing"
    status = os.stat(path)
    return f"{os.path.realpath(path)} {status.st_size} {status.st_mtime_ns}"


def digest(module: Path, inputs, programs=()) -> str:
    """Return the digest of the inputs of a test in a module."""
    own = [str(path.relative_to(ROOT)) for path in files_of(module)]
    parts = [f"{path} {digest_of(path)}" for path in (*ALWAYS, *own, *inputs)]
    parts += [_identity_of(program) for program in programs]
    return hashlib.sha256("\n".join([sys.version, *parts]).encode()).hexdigest()


def _stamp(item) -> Path:
    name = f"{item.path.relative_to(ROOT)}::{item.name}"  # pytest-xdist alters the node id
    return _STAMPS / hashlib.sha256(name.encode()).hexdigest()[:24]


def _is_current(stamp: Path, value: str) -> bool:
    return stamp.exists() and stamp.read_text().strip() == value


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    markers = list(item.iter_markers("unchanged_inputs"))
    if not markers:
        return
    inputs = [path for marker in markers for path in marker.args]
    programs = [program for marker in markers for program in marker.kwargs.get("programs", ())]
    item.stash[_DIGEST] = digest(item.path, inputs, programs)
    if not os.environ.get(VARIABLE) and _is_current(_stamp(item), item.stash[_DIGEST]):
        raise pytest.skip.Exception(REASON, _use_item_location=True)  # the summary shows the location of the test


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    value = item.stash.get(_DIGEST, None)
    if value is None:
        return
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    if report.failed:
        item.stash[_PASSED] = False
        _stamp(item).unlink(missing_ok=True)
    if report.when == "teardown" and item.stash.get(_PASSED, False):
        _STAMPS.mkdir(parents=True, exist_ok=True)
        _stamp(item).write_text(f"{value}\n")
