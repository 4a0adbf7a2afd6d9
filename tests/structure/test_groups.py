"""Tests that share the fixtures of a module run in one worker of pytest-xdist, which starts long tests first."""

import copy
from types import SimpleNamespace

import pytest
from xdist.remote import WorkerInteractor

from tests.conftest import ROOT, order_for_workers


@pytest.mark.xdist_group("together")
def test_group_is_part_of_the_node_id(request):
    """The scheduler knows groups by node ids; pytest 9.2 ignores the attribute that pytest-xdist 3.8 sets."""
    item = copy.copy(request.node)
    WorkerInteractor.pytest_collection_modifyitems(None, SimpleNamespace(getvalue=lambda name: True), [item])
    assert item.nodeid.endswith("@together"), "install requirements/test.txt"


@pytest.fixture(scope="module")
def shared():
    return 1


def test_users_of_a_module_fixture_are_a_group(request, shared):
    assert [mark.args for mark in request.node.iter_markers("xdist_group")] == [("structure/test_groups",)]


class Item:
    """A collected test, as far as its order depends on it."""

    def __init__(self, path: str, seconds: float = 0) -> None:
        self.path, self._seconds = ROOT / "tests" / path, seconds

    def get_closest_marker(self, name):
        return pytest.mark.long(self._seconds).mark if name == "long" and self._seconds else None


def test_workers_start_the_longest_tests_and_mix_the_others():
    waiting = [
        Item("hil/test_a.py"),
        Item("hil/test_b.py", 20),
        Item("integration/cli/test_c.py"),
        Item("hil/test_d.py", 90),
    ]
    computing = [Item("simulation/test_e.py"), Item("unit/test_f.py")]
    items = [*waiting, *computing]
    order_for_workers(items)
    a, b, c, d, e, f = *waiting, *computing
    assert items == [d, b, a, e, c, f]
