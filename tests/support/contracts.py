"""Names in the source that others depend on. A rename must not change them by accident.

`python -m tests.support.contracts` adds new names to tests/golden/contracts.json. A removed name has to be deleted from
that file by hand, after a check of its users.
"""

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "contracts.json"
SOURCES = ("device", "protocol/patrolink_protocol", "host_tools")
# Files whose content is a contract.
FROZEN_FILES = (
    "protocol/vectors/*.json",
    "protocol/generated/patrolink.schema.json",
    "tests/golden/tracks/*",
    "tests/golden/nmea/*",
)
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_{}%./:*+=?&-]{0,79}|/[A-Za-z0-9_{}%./:*-]*|--[a-z-]+")


def _literal(node: ast.AST) -> str | None:
    """Return a string, bytes or f-string constant as text, with `{}` for each field; None for other nodes."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return node.value
        if isinstance(node.value, bytes) and node.value.isascii():
            return node.value.decode()
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def literals(path: Path) -> set[str]:
    """Return the literals of a file that look like names: topics, paths, keys, message types, options.

    Prose (any literal with a space), docstrings and arguments of `import_module`, `getattr` and `hasattr` are ignored.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ignored: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            ignored.add(id(node.value))
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if annotation is not None:
                ignored.update(id(part) for part in ast.walk(annotation))
        if isinstance(node, ast.JoinedStr):
            ignored.update(id(part) for part in ast.walk(node) if part is not node)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("import_module", "getattr", "hasattr"):
            ignored.update(id(argument) for argument in node.args)
    texts = (_literal(node) for node in ast.walk(tree) if id(node) not in ignored)
    return {
        text
        for text in texts
        if text and not text.endswith(".py") and not text.startswith("patrolink.") and _WORD.fullmatch(text)
    }


def _model_keys(schema: Any) -> set[str]:
    """Return all property names of a JSON Schema."""
    if isinstance(schema, list):
        return {key for item in schema for key in _model_keys(item)}
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", {})) | {key for item in schema.values() for key in _model_keys(item)}


def contracts() -> dict[str, Any]:
    """Return the current contracts: literals, configuration keys, schema hash, digests of frozen files."""
    import patrolink_messages
    from patrolink.core.boards import Board
    from patrolink.hub.config import Site

    files = sorted(path for pattern in FROZEN_FILES for path in ROOT.glob(pattern) if path.is_file())
    sources = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py") if "build" not in path.parts]
    return {
        "literals": sorted(set().union(*(literals(path) for path in sources))),
        "site_keys": sorted(_model_keys(Site.model_json_schema())),
        "board_keys": sorted(_model_keys(Board.model_json_schema())),
        "schema_hash": patrolink_messages.SCHEMA_HASH,
        "files": {str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }


def main() -> None:
    """Add new names to the golden file. Changed and removed names have to be edited by hand."""
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    for kind, value in contracts().items():
        if isinstance(value, list):
            golden[kind] = sorted(set(golden.get(kind, [])) | set(value))
        elif isinstance(value, dict):
            golden[kind] = {**value, **golden.get(kind, {})}
        else:
            golden.setdefault(kind, value)
    GOLDEN.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
