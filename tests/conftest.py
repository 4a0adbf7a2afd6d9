"""Paths of the device's rooms: tests run its code in place, as a board would find it."""

import sys
from pathlib import Path

import pytest
from patrolink.emulator.broker import Broker

ROOT = Path(__file__).resolve().parent.parent
for room in ("", "build/device-lib", "device", "protocol", "protocol/vectors", "tests/unit"):
    sys.path.insert(0, str(ROOT / room))


@pytest.fixture(scope="session")
def broker():
    """A real broker: mosquitto where it is installed, else amqtt."""
    it = Broker()
    yield it
    it.stop()
