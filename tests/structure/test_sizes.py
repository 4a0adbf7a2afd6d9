"""Modules and functions do not exceed their maximum length."""

import ast
from pathlib import Path

from tests.support.import_graph import ROOT, source_files

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
_VIPER = "viper code on MicroPython: a function call takes longer than one iteration of the loop"
# path -> reason for the length
LONG_MODULES: dict[str, str] = {}
# path: function -> reason for the length
LONG_FUNCTIONS = {
    "device/agent/gps/scan.py: frame": _VIPER,
    "device/agent/gps/scan.py: fields": _VIPER,
    "protocol/patrolink_protocol/track_kernels.py: put": _VIPER,
    "tests/integration/hub/test_clips_page.py: test_clips_on_the_page": "one scenario in one browser session",
}


def functions_of(path: Path) -> list[tuple[str, int]]:
    """Return the name and the number of lines of every function in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (node.name, node.end_lineno - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def checked_files() -> list[Path]:
    tests = (path for path in (ROOT / "tests").rglob("*.py"))
    generated = ROOT / "protocol" / "generated"
    return [path for path in [*source_files(), *tests] if not path.is_relative_to(generated)]


def test_no_module_is_too_long():
    lines = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in checked_files()}
    long = {name for name, n in lines.items() if n > MODULE_LINES_MAX}
    assert long == LONG_MODULES.keys()


def test_no_function_is_too_long():
    long = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in checked_files()
        for name, lines in functions_of(path)
        if lines > FUNCTION_LINES_MAX
    }
    assert long == LONG_FUNCTIONS.keys()
