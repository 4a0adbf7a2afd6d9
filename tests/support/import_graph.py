"""The import graph of the source tree, read from the syntax trees of its files.

Every import counts: those under `TYPE_CHECKING` and those inside functions as well as those at module level.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("device", "protocol", "host_tools")
# Folders that are import roots: what lies in them is imported by the path below them.
IMPORT_ROOTS = (
    "host_tools",
    "protocol/generated",
    "protocol/vectors",
    "protocol",
    "device",
)


def source_files(root: Path = ROOT) -> list[Path]:
    """Returns all Python files of `device/`, `protocol/` and `host_tools/`, sorted by path."""
    return sorted(path for package in PACKAGES for path in (root / package).rglob("*.py") if "build" not in path.parts)


def module_name(path: Path, root: Path = ROOT) -> str:
    """Returns the dotted name under which a file is imported."""
    for import_root in IMPORT_ROOTS:
        base = root / import_root
        if path.is_relative_to(base):
            parts = path.relative_to(base).with_suffix("").parts
            return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    raise ValueError(f"{path} is in no import root")


def imported_names(path: Path, module: str = "") -> Iterator[str]:
    """Yields the dotted names that a file imports, anywhere in it; `from a import b` yields both `a.b` and `a`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                kept = package[: len(package) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            for alias in node.names:
                yield f"{base}.{alias.name}"
            yield base


def import_graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Returns module -> the modules of the tree that it imports."""
    names = {module_name(path, root): path for path in source_files(root)}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = set(imported_names(path, name)) & names.keys()
        # `from package import module` names the package too, but depends on the module alone.
        found -= {target for target in found if any(other.startswith(target + ".") for other in found)}
        graph[name] = found - {name}
    return graph


def import_cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Returns the strongly connected components of two or more modules (Tarjan), each sorted."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in graph[name]:
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                components.append(sorted(component))

    for name in graph:
        if name not in order:
            visit(name)
    return sorted(components)
