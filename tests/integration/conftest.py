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


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A headless browser. Tests that use it run in one worker (tests/conftest.py), because it starts slowly."""
    from tests.support.console_site import chromium

    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def browser(chromium):
    """The browser, without cookies and errors of earlier tests. ConsolePage clears the storage of the hub's page."""
    chromium.delete_all_cookies()
    chromium.get_log("browser")
    yield chromium
    chromium.get("about:blank")  # the page would try to reach a hub that has ended
