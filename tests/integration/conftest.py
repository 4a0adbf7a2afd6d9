"""A hub with a console, for the tests of the page and of the dispatcher tools."""

import pytest
from patrolink.emulator.network.broker import Broker


@pytest.fixture
def separate_broker():
    """A broker for a second hub with the same devices."""
    broker = Broker()
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory, broker):
    """A running hub with a console, shared by the tests of a module."""
    from tests.support.console_site import ConsoleSite

    console = ConsoleSite(tmp_path_factory.mktemp("site"), broker)
    yield console
    console.process.stop()
