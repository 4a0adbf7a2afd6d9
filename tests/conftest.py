"""Import paths: tests import the device's code from the checkout, in the order of a board."""

import sys
from pathlib import Path

import pytest
from patrolink.emulator.network.broker import Broker

ROOT = Path(__file__).resolve().parent.parent
for folder in ("", "build/device-lib", "device", "protocol", "protocol/vectors", "tests/unit"):
    sys.path.insert(0, str(ROOT / folder))


def pytest_collection_modifyitems(items):
    """Run tests with a long timeout first, so that none of them is the last one running."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(autouse=True)
def parametrize_fixtures():
    """Disable pytest-embedded's fixture of this name, about forty fixtures per test; tests/hil enables it again."""


@pytest.fixture(scope="session")
def broker():
    """A real broker: mosquitto if it is installed, else amqtt."""
    broker = Broker()
    yield broker
    broker.stop()


@pytest.fixture
def rig(tmp_path, broker):
    """Return a function that starts a device with an emulated receiver at the broker."""
    from tests.support.device_rig import DeviceRig

    rigs = []

    def start(board: str, epochs, speed: float, **config):
        rigs.append(DeviceRig(tmp_path, board, broker, epochs, speed, **config))
        return rigs[-1]

    yield start
    for rig in rigs:
        rig.stack.close()
