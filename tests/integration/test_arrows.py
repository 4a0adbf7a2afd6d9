"""The house's arrows: host_tools -> protocol <- device. An import against them fails here."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DEVICE = {"agent", "hal", "compat", "main", "assembly", "config"}
HOST = {"patrolink"}
PROTOCOL = {"patrolink_protocol", "patrolink_messages"}
PLATFORM = {"machine", "network", "serial", "threading", "_thread", "termios", "select", "socket", "os"}


def imports(path: Path) -> set[str]:
    """Top-level names that a module imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def offenders(room: str, forbidden: set[str]) -> list[str]:
    """Files of a room that import something forbidden, with what it is."""
    found = []
    for path in sorted((ROOT / room).rglob("*.py")):
        bad = imports(path) & forbidden
        if bad:
            found.append(f"{path.relative_to(ROOT)} imports {', '.join(sorted(bad))}")
    return found


def test_protocol_depends_on_nothing():
    assert offenders("protocol/patrolink_protocol", DEVICE | HOST) == []
    assert offenders("protocol/generated", DEVICE | HOST) == []


def test_device_depends_on_protocol_only():
    assert offenders("device", HOST) == []


def test_host_never_imports_the_device():
    assert offenders("host_tools", DEVICE) == []


def test_agent_touches_no_platform():
    assert offenders("device/agent", PLATFORM) == []


def test_nothing_but_tests_imports_tests():
    for room in ("device", "protocol", "host_tools"):
        assert offenders(room, {"tests", "conftest"}) == []


def test_an_arrow_against_the_house_is_seen(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from agent.gps import fix\n    import patrolink.cli\n", encoding="utf-8")
    assert imports(wrong) == {"agent", "patrolink"}
