"""Fixtures that several tests of the command line share."""

import pytest

KEY = bytes(range(32))


@pytest.fixture
def keys_file(tmp_path):
    """Return the path of a keys file with dev-1 and KEY."""
    path = tmp_path / "keys.toml"
    path.write_text(f'[devices]\n"dev-1" = "{KEY.hex()}"\n')
    path.chmod(0o600)
    return str(path)
