"""Import paths: tests import the device's code from the checkout, in the order of a board."""

import sys
from pathlib import Path

import pytest
from patrolink.emulator.network.broker import Broker

ROOT = Path(__file__).resolve().parent.parent
for folder in ("", "build/device-lib", "device", "protocol", "protocol/vectors", "tests/unit"):
    sys.path.insert(0, str(ROOT / folder))


pytest_plugins = ["tests.support.unchanged_inputs"]


# Folders whose tests compute; those of the others mostly wait
COMPUTING = {"protocol", "simulation", "structure", "unit"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Keep tests that share a module's fixtures or the browser in one worker, and order the tests of workers.

    A worker of pytest-xdist has its own fixtures: without a group, each would start a module's hub or build the wheel.
    """
    for item in items:
        definitions = item._fixtureinfo.name2fixturedefs.values() if hasattr(item, "_fixtureinfo") else ()
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("browser"))
        elif any(definition.scope in ("module", "class") for chain in definitions for definition in chain):
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(ROOT / "tests").with_suffix(""))))
    if hasattr(config, "workerinput"):
        order_for_workers(items)


def order_for_workers(items: list[pytest.Item]) -> None:
    """Sort tests: the longest first, so that no worker ends with one, then mixed, so that all cores stay in use."""
    seconds = {item: mark.args[0] if (mark := item.get_closest_marker("long")) else 0 for item in items}
    computing = {item: item.path.relative_to(ROOT / "tests").parts[0] in COMPUTING for item in items}
    position: dict[pytest.Item, float] = {}
    for kind in (False, True):
        of_kind = [item for item in items if computing[item] is kind]
        position |= {item: i / len(of_kind) for i, item in enumerate(of_kind)}
    items.sort(key=lambda item: (-seconds[item], position[item]))


@pytest.fixture(autouse=True)
def parametrize_fixtures():
    """Disable pytest-embedded's fixture of this name, about forty fixtures per test; tests/hil enables it again."""


@pytest.fixture(scope="session", autouse=True)
def _mp_manager():
    """Disable pytest-embedded's fixture of this name, a process per session; tests/hil enables it again."""


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
