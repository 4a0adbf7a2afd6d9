"""Fixtures that several tests of the command line share."""

import pytest

from tests.support import site_file
from tests.support.console_site import BackgroundDevices

KEY = bytes(range(32))


@pytest.fixture
def keys_file(tmp_path):
    """Return the path of a keys file with dev-1 and KEY."""
    path = tmp_path / "keys.toml"
    path.write_text(f'[devices]\n"dev-1" = "{KEY.hex()}"\n')
    path.chmod(0o600)
    return str(path)


@pytest.fixture(scope="module")
def devices(site, broker):
    """Run the devices of the console's site."""
    background = BackgroundDevices(broker, site_file.DEVICES)
    yield background
    background.close()
