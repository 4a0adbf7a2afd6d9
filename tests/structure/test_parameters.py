"""Every worker of pytest-xdist collects the same tests: a random parameter has an id of its own."""

import ast

from tests.support.import_graph import ROOT

RANDOM = {"getrandbits", "randint", "random", "randrange", "urandom"}


def random_calls(node: ast.AST) -> list[int]:
    """Return the lines of calls of random functions below a node, except in `pytest.param(..., id=...)`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "param" and any(keyword.arg == "id" for keyword in node.keywords):
            return []
        if node.func.attr in RANDOM:
            return [node.lineno]
    return [line for child in ast.iter_child_nodes(node) for line in random_calls(child)]


def test_random_parameters_have_an_id():
    wrong = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "parametrize":
                wrong += [f"{path.name}:{line}" for argument in node.args for line in random_calls(argument)]
    assert wrong == []


def test_a_random_parameter_without_an_id_is_detected():
    assert random_calls(ast.parse("mark.parametrize('seed', [1, random.randrange(9)])")) == [1]
    assert random_calls(ast.parse("mark.parametrize('seed', [pytest.param(random.randrange(9), id='random')])")) == []
