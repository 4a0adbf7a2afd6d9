"""Fixtures for tests of parts of a hub without its process: a site folder and a fake clock."""

import shutil

import pytest
from patrolink.hub.config import EXAMPLE

from tests.support import site_file

NAMES = ("vest-1", "vest-2", "police-1")
NOW_MS = 1_795_000_000_000


@pytest.fixture
def site_folder(tmp_path):
    """Return a folder with the example site file and the keys of its devices."""
    keys = site_file.keys_of(NAMES)
    (tmp_path / "keys.toml").write_text("[devices]\n" + "".join(f'"{n}" = "{k.hex()}"\n' for n, k in keys.items()))
    (tmp_path / "keys.toml").chmod(0o600)
    shutil.copy(EXAMPLE, tmp_path / "site.toml")
    return tmp_path


class FakeClock:
    """A clock whose time the test sets."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def unix_ms(self) -> int:
        return self.now_ms

    def unix_ns(self) -> int:
        return self.now_ms * 1_000_000

    def monotonic_ms(self) -> int:
        return self.now_ms
