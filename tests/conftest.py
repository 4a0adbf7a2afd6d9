"""Paths of the device's rooms: tests run its code in place, as a board would find it."""

import sys
from pathlib import Path

import pytest
from patrolink.emulator.network.broker import Broker

ROOT = Path(__file__).resolve().parent.parent
for room in ("", "build/device-lib", "device", "protocol", "protocol/vectors", "tests/unit"):
    sys.path.insert(0, str(ROOT / room))


def pytest_collection_modifyitems(items):
    """What is given more time than usual begins first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(autouse=True)
def parametrize_fixtures():
    """In place of pytest-embedded's: its forty fixtures a test are for tests/hil, which takes them back."""


@pytest.fixture(scope="session")
def broker():
    """A real broker: mosquitto where it is installed, else amqtt."""
    it = Broker()
    yield it
    it.stop()


@pytest.fixture
def rig(tmp_path, broker):
    from tests.support.device_rig import DeviceRig

    made = []

    def make(board: str, epochs, speed: float, **config):
        made.append(DeviceRig(tmp_path, board, broker, epochs, speed, **config))
        return made[-1]

    yield make
    for it in made:
        it.stack.close()
