"""Identifiers are terms of the field: no pronouns, participles or metaphors as names."""

import ast
import collections

import pytest

from tests.support.import_graph import ROOT, source_files

# A name on its own; `packets_lost` or `heard_ms` are not affected.
FORBIDDEN = {
    *("it", "there", "here", "ours", "theirs"),
    *("told", "said", "given", "found", "made", "asked", "heard", "seen", "kept", "gone", "begun", "wanted"),
    *("desk", "desks", "ears", "eyes", "shelf", "tap", "story", "again", "pace", "hurry", "hush", "deafen", "greet"),
    *("slowly", "rooms", "house", "wishes", "way", "ways"),
}


def names_of(tree: ast.AST) -> collections.Counter[str]:
    """Count the names that a module defines: functions, classes, arguments, variables and attributes."""
    names: collections.Counter[str] = collections.Counter()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names[node.name] += 1
        elif isinstance(node, ast.arg):
            names[node.arg] += 1
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            names[node.id if isinstance(node, ast.Name) else node.attr] += 1
    return names


@pytest.mark.parametrize("folder", ["device", "protocol", "host_tools", "tests"])
def test_names_are_terms(folder: str):
    files = sorted((ROOT / "tests").rglob("*.py")) if folder == "tests" else source_files()
    wrong = []
    for path in files:
        if path.is_relative_to(ROOT / folder):
            names = names_of(ast.parse(path.read_text(encoding="utf-8")))
            bad = {name: n for name, n in names.items() if name.strip("_").lower() in FORBIDDEN}
            if bad:
                wrong.append(f"{path.relative_to(ROOT)}: {bad}")
    assert wrong == [], "\n".join(wrong)
