"""Pytest plugin: skip tests whose inputs are unchanged since their last pass.

The marker `unchanged_inputs(path, ..., programs=(name, ...))` names what the result of a slow test depends on: files
and folders of the checkout, and installed programs. The test's module, its conftest.py, the files of tests/ that these
import, the locked requirements and the Python version always count. So do the modules of host_tools/ that the module
and its helpers import, directly or not, with all files of host_tools/ that are no Python; a test that runs commands of
the tool, or starts it through a fixture, names `host_tools`. When the test passes, the digest of its inputs is stored
in build/unchanged; while the digest stays the same, the test is skipped. With PATROLINK_TEST_ALL in the environment,
as in `.ci/run`, every test runs.
"""

import ast
import functools
import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.import_graph import imported_names
from tests.support.paths import ROOT

REASON = "inputs unchanged since the last pass; PATROLINK_TEST_ALL=1 runs it"
VARIABLE = "PATROLINK_TEST_ALL"
ALWAYS = ("requirements", "pyproject.toml", "tests/support/unchanged_inputs.py")
TOOL = "host_tools"
_MODULE_NAME = re.compile(r"patrolink(\.\w+)+")
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
def _tool_modules(file: Path) -> frozenset[Path]:
    """Return the modules of the tool that a file imports, or names in a string, as for `python -m`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = [*imported_names(file), *filter(_MODULE_NAME.fullmatch, strings)]
    places = {ROOT / TOOL / name.replace(".", "/") for name in names if name.startswith("patrolink.")}
    packages = {folder / "__init__.py" for place in places for folder in (place, *place.parents)}
    candidates = {place.with_suffix(".py") for place in places} | {path for path in packages if TOOL in path.parts}
    if is_command_line(file):
        candidates.update(file.parent.glob("*.py"))  # verbs are imported by names that are computed
    return frozenset(filter(Path.is_file, candidates))


def is_command_line(file: Path) -> bool:
    """Return True for the module that finds the verbs of the tool."""
    return file == ROOT / TOOL / "patrolink" / "cli" / "_parser.py"


@functools.cache
def tool_files(module: Path) -> frozenset[Path]:
    """Return the files of host_tools/ that a module of tests/ depends on, through its helpers too."""
    waiting, files = [module], set()
    while waiting:
        file = waiting.pop()
        if file not in files:
            files.add(file)
            waiting += _imported_files(file) | _tool_modules(file)
    modules = {path for path in files if path.is_relative_to(ROOT / TOOL)}
    return frozenset(modules | _data_files()) if modules else frozenset()


@functools.cache
def _data_files() -> frozenset[Path]:
    files = (path for path in (ROOT / TOOL).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return frozenset(path for path in files if path.suffix != ".py")


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
    files = files_of(module) if TOOL in inputs else [*files_of(module), *sorted(tool_files(module))]
    own = [str(path.relative_to(ROOT)) for path in files]
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
