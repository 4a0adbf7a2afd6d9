"""A hub with its desks, for the tests of the console and of the dispatcher's tools."""

import pytest
from patrolink.emulator.network.broker import Broker


@pytest.fixture
def separate_broker():
    """A broker of one's own, for another hub with the same devices."""
    it = Broker()
    yield it
    it.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory, broker):
    from tests.support.console_site import ConsoleSite

    it = ConsoleSite(tmp_path_factory.mktemp("site"), broker)
    yield it
    it.process.stop()
