"""Tests are skipped only while their inputs are unchanged, and name the code that they import as inputs."""

import ast
from pathlib import Path

import pytest

from tests.support import unchanged_inputs
from tests.support.import_graph import ROOT, imported_names

pytest_plugins = ["pytester"]
TEST = """
import pytest

@pytest.mark.unchanged_inputs("input")
def test_input():
    assert open("input/file").read() != "bad"
"""
# Package -> the folder that its modules are in
FOLDERS = {
    "agent": "device",
    "app": "device",
    "compat": "device",
    "hal": "device",
    "patrolink_messages": "protocol",
    "patrolink_protocol": "protocol",
}


@pytest.fixture
def run(pytester, monkeypatch):
    """Return a function (text of the input, environment) that runs TEST and returns (passed, skipped, failed)."""
    monkeypatch.setattr(unchanged_inputs, "ROOT", pytester.path)
    monkeypatch.setattr(unchanged_inputs, "_STAMPS", pytester.path / "build" / "unchanged")
    monkeypatch.setattr(unchanged_inputs, "ALWAYS", ())
    monkeypatch.delenv(unchanged_inputs.VARIABLE, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the other plugins only take time to load
    (pytester.path / "input").mkdir()
    pytester.makepyfile(TEST)
    pytester.makeini("[pytest]\nmarkers = unchanged_inputs: inputs\n")

    def run(text: str, **environment: str):
        (pytester.path / "input" / "file").write_text(text)
        unchanged_inputs.digest_of.cache_clear()
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            outcomes = pytester.runpytest_inprocess("-p", "tests.support.unchanged_inputs").parseoutcomes()
        return tuple(outcomes.get(outcome, 0) for outcome in ("passed", "skipped", "failed"))

    yield run
    unchanged_inputs.digest_of.cache_clear()


def test_a_test_runs_when_an_input_has_changed(run):
    assert run("a") == (1, 0, 0)
    assert run("a") == (0, 1, 0)
    assert run("b") == (1, 0, 0)
    assert run("a") == (1, 0, 0)


def test_a_test_runs_if_all_are_requested(run):
    assert run("a") == (1, 0, 0)
    assert run("a", **{unchanged_inputs.VARIABLE: "1"}) == (1, 0, 0)


def test_a_failed_test_runs_until_it_passes(run):
    assert run("bad") == (0, 0, 1)
    assert run("bad") == (0, 0, 1)
    assert run("good") == (1, 0, 0)
    assert run("good") == (0, 1, 0)


def test_an_imported_file_of_the_tests_is_an_input_and_another_is_not():
    """A package of the tests is named by module: a change of one helper runs only the tests that import it."""
    files = [
        str(path.relative_to(ROOT / "tests"))
        for path in unchanged_inputs.files_of(ROOT / "tests" / "simulation" / "test_update_cuts.py")
    ]
    assert {"conftest.py", "simulation/conftest.py", "simulation/update_cuts.py", "unit/nor_flash.py"} <= set(files)
    assert "support/flasher_picture.py" not in files


def test_modules_of_the_tool_that_a_test_imports_are_inputs_and_others_are_not():
    files = {str(path.relative_to(ROOT / "host_tools" / "patrolink")) for path in tool_files("hil/test_figures.py")}
    assert {"core/boards.py", "emulator/boards/qemu.py", "core/__init__.py", "hub/dispatch/page/console.js"} <= files
    assert "hub/uplink.py" not in files
    assert tool_files("simulation/test_update_cuts.py") == frozenset()


def test_modules_that_are_named_in_strings_are_inputs():
    """The supervisor of a hub starts its halves by the name of their module, the tool its verbs."""
    helper = "support/hub_process.py"
    assert ROOT / "host_tools" / "patrolink" / "emulator" / "scenarios" / "control_room.py" in tool_files(helper)
    half = ROOT / "host_tools" / "patrolink" / "hub" / "half_process.py"
    assert half in unchanged_inputs.tool_files(ROOT / "host_tools" / "patrolink" / "hub" / "supervisor.py")
    verbs = set((ROOT / "host_tools" / "patrolink" / "cli").glob("*.py"))
    assert verbs <= tool_files("integration/cli/test_command_line.py")


def tool_files(module: str) -> frozenset[Path]:
    return unchanged_inputs.tool_files(ROOT / "tests" / module)


def inputs_of(tree: ast.AST) -> list[str]:
    """Return the inputs that a module names as constants in its markers; the first folder of each."""
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "unchanged_inputs"
    ]
    constants = [
        node.value for call in calls for part in call.args for node in ast.walk(part) if isinstance(node, ast.Constant)
    ]
    return [str(constant) for constant in constants]


def marked_modules():
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.unchanged_inputs" in text and path.name != "test_unchanged_inputs.py":
            yield path, ast.parse(text)


def test_inputs_exist_and_cover_the_imports():
    wrong = []
    for path, tree in marked_modules():
        inputs = inputs_of(tree)
        wrong += [f"{path.name}: no input {name}" for name in inputs if not (ROOT / name.rstrip("/")).exists()]
        folders = {
            FOLDERS[name.partition(".")[0]] for name in imported_names(path) if name.partition(".")[0] in FOLDERS
        }
        wrong += [f"{path.name}: imports {folder}, which is no input" for folder in folders - set(inputs)]
    assert wrong == []
