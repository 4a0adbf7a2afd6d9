"""Imports follow the layers host_tools -> protocol <- device and have no cycles."""

from pathlib import Path

import pytest

from tests.support.import_graph import ROOT, import_cycles, import_graph, imported_names, source_files

DEVICE = {"agent", "app", "boot", "compat", "hal", "main"}
HOST = {"patrolink"}
TESTS = {"conftest", "tests"}
PLATFORM = {"machine", "network", "serial", "threading", "_thread", "termios", "select", "socket", "os"}
# folder -> top-level names that its modules must not import
FORBIDDEN = {
    "protocol": DEVICE | HOST | TESTS,
    "device": HOST | TESTS,
    "host_tools": DEVICE | TESTS,
    "device/agent": {"app", "hal"} | PLATFORM,
    "device/compat": {"app", "hal"},
    "device/hal": {"app"},
}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return import_graph()


@pytest.fixture(scope="module")
def imports() -> dict[Path, set[str]]:
    """File -> names that it imports."""
    return {path: set(imported_names(path)) for path in source_files()}


def test_no_import_cycles(graph):
    cycles = import_cycles(graph)
    assert cycles == [], "import cycles:\n" + "\n".join(", ".join(cycle) for cycle in cycles)


@pytest.mark.parametrize("folder", sorted(FORBIDDEN))
def test_imports_follow_the_layers(imports, folder: str):
    violations = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, names in imports.items()
        if path.is_relative_to(ROOT / folder)
        for name in names
        if name.split(".")[0] in FORBIDDEN[folder]
    ]
    assert violations == []


def test_every_source_file_is_in_the_graph(graph):
    assert len(graph) == len(source_files()) > 200


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "from patrolink.b import x\n",
        "from patrolink import b\n",
        "from . import b\n",
        "def f():\n    import patrolink.b\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from patrolink.b import x\n",
    ],
)
def test_cycle_is_detected_for_every_form_of_import(tmp_path: Path, text: str):
    write(tmp_path, "host_tools/patrolink/__init__.py", "")
    write(tmp_path, "host_tools/patrolink/a.py", text)
    write(tmp_path, "host_tools/patrolink/b.py", "import patrolink.c\n")
    write(tmp_path, "host_tools/patrolink/c.py", "from patrolink.a import f\n")
    cycle = ["patrolink.a", "patrolink.b", "patrolink.c"]
    assert import_cycles(import_graph(tmp_path)) == [cycle]
