"""docs/internals/testing.md lists the test modules that wait in real time, with reasons."""

import ast
import re
from pathlib import Path

from tests.support.import_graph import ROOT, imported_names

PAGE = ROOT / "docs" / "internals" / "testing.md"
HEADING = "## Tests in real time\n"
# Fixtures that start a broker, a browser, a hub or a device
FIXTURES = {"broker", "browser", "devices", "rig", "separate_broker", "site"}
# Modules that start processes or threads which run on the clock of the machine
REAL_TIME_MODULES = {
    *(f"tests.support.{name}" for name in ("console_site", "device_rig", "hub_process", "live_camera", "polling")),
    *(f"tests.support.{name}" for name in ("tcp_proxy", "tusd_site")),
    *(f"patrolink.emulator.scenarios.{name}" for name in ("call", "fleet", "incident", "patrol")),
    "patrolink.emulator.peripherals.headset",
}
# Modules whose event loop runs on virtual time
SIMULATIONS = {f"tests.support.simulated_{name}" for name in ("clips", "command", "network", "site")}
# Last parts of the names of functions that wait or start what waits
ATTRIBUTES = {"sleep", "Popen", "Thread"}
# Their children wait: `patrolink call` runs two devices, a hub and a broker.
CHILDREN = {"integration/ptt/test_call.py": ["patrolink call"]}


def _is_fixture(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("fixture" in ast.unparse(decorator) for decorator in function.decorator_list)


def reasons(path: Path) -> list[str]:
    """Return why the tests of a module wait in real time; empty if they do not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    users = [function for function in functions if function.name.startswith("test_") or _is_fixture(function)]
    fixtures = {argument.arg for function in users for argument in function.args.args} & FIXTURES
    assigned = {ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)}
    defined = {function.name for function in functions} | assigned
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES]
    attributes = {ast.unparse(node) for node in called}
    imported = set(imported_names(path))
    calls = attributes & {"time.sleep", "subprocess.Popen", "threading.Thread"}
    if not imported & SIMULATIONS:
        calls |= attributes & {"asyncio.sleep"}
    return sorted([*(fixtures - defined), *calls, *(imported & REAL_TIME_MODULES)])


def listed() -> set[str]:
    """Return the modules that the page lists, relative to tests/."""
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index(HEADING) + len(HEADING) :].split("\n## ", 1)[0]
    modules = set()
    for row in re.findall(r"^\| `([\w/]+/)` \| ([^|]+) \|", section, re.M):
        modules |= {f"{row[0]}{name}.py" for name in re.findall(r"`(\w+)`", row[1])}
    return modules


def test_page_lists_the_modules_that_wait_in_real_time():
    tests = ROOT / "tests"
    waiting = {
        str(path.relative_to(tests)): why for path in sorted(tests.rglob("test_*.py")) if (why := reasons(path))
    } | CHILDREN
    assert {name: waiting[name] for name in waiting.keys() - listed()} == {}, "add these modules to the page"
    assert listed() - waiting.keys() == set(), "remove these modules from the page: they do not wait in real time"
