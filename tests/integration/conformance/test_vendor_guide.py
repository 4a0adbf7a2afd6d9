"""The vendor's guide leads from an empty folder to a green, confirmed report, and its log shows the same commands."""

import shutil
import sys
from pathlib import Path

import pytest
from patrolink.cli import main
from patrolink.core import resources

from tests.support import vendor_log
from tests.support.paths import ROOT

LOG = ROOT / "docs" / "guide" / "vendor-log.txt"


def test_guide_leads_to_a_green_report(tmp_path):
    for program in ("cc", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} (apt-get install gcc)")
    entries = vendor_log.try_guide(tmp_path, Path(sys.executable).parent)
    assert len(entries) == len(vendor_log.commands()), vendor_log.render(entries)
    assert entries[-1].exit_code == 0 and "codec.json: confirmed" in entries[-1].output
    assert (tmp_path / "vendor" / "codec.html").stat().st_size > 100_000


def test_log_shows_the_commands_of_the_guide():
    text = LOG.read_text(encoding="utf-8")
    places = [text.index(f"$ {command.text}\n") for command in vendor_log.commands()]
    assert places == sorted(places) and len(places) > 10
    assert "exit code 0]" in text and text.count("exit code") == text.count("exit code 0]")


def test_starter_has_what_the_guide_names(tmp_path, capsys):
    folder = tmp_path / "new" / "protocol"
    assert main(["validate", "--starter", str(folder)]) == 0
    names = ("SPEC.md", "schema.toml", "generated/patrolink.c", "vectors/run.py", "adapters/python/codec.py")
    for name in (*names, "example_device/device.c", "vectors/aes128.h"):
        assert (folder / name).read_bytes() == (resources.root() / "protocol" / name).read_bytes()
    assert not list(folder.rglob("__pycache__"))
    assert main(["validate", "--starter", str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["validate", "--starter", str(tmp_path / "file" / "x")]) == 2
