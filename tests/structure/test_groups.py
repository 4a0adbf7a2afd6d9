"""Tests that share the fixtures of a module run in one worker of pytest-xdist."""

import copy
from types import SimpleNamespace

import pytest
from xdist.remote import WorkerInteractor


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
