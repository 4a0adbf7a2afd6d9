"""The import graph of the source tree, read from the syntax trees of its files.

Every import counts: at module level, inside functions, and under `TYPE_CHECKING`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("device", "protocol", "host_tools")
# Modules are imported by their path relative to these folders.
IMPORT_ROOTS = (
    "host_tools",
    "protocol/generated",
    "protocol/vectors",
    "protocol",
    "device",
)


def source_files(root: Path = ROOT) -> list[Path]:
    """Return all Python files of `device/`, `protocol/` and `host_tools/`, sorted by path."""
    return sorted(path for package in PACKAGES for path in (root / package).rglob("*.py") if "build" not in path.parts)


def module_name(path: Path, root: Path = ROOT) -> str:
    """Return the dotted name under which a file is imported."""
    for import_root in IMPORT_ROOTS:
        base = root / import_root
        if path.is_relative_to(base):
            parts = path.relative_to(base).with_suffix("").parts
            return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    raise ValueError(f"{path} is in no import root")


def imported_names(path: Path, module: str = "") -> Iterator[str]:
    """Yield the dotted names that a file imports. `from a import b` yields both `a.b` and `a`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                parent = package[: len(package) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            for alias in node.names:
                yield f"{base}.{alias.name}"
            yield base


def import_graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Return a dictionary: module -> modules of the tree that it imports."""
    names = {module_name(path, root): path for path in source_files(root)}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        imported = set(imported_names(path, name)) & names.keys()
        # `from package import module` also yields the package, but depends only on the module.
        imported -= {target for target in imported if any(other.startswith(target + ".") for other in imported)}
        graph[name] = imported - {name}
    return graph


def import_cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of two or more modules (Tarjan), each sorted."""
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
