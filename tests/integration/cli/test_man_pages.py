"""Manual pages: one per verb, without a warning of groff or mandoc."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from patrolink.cli._verbs import GROUPS, VERBS

from tests.support.paths import ROOT

VERB_NAMES = [*VERBS, *(f"{group} {name}" for group, names in GROUPS.items() for name in names)]
NAMES = {"patrolink", *("-".join(("patrolink", *name.split())) for name in VERB_NAMES)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, str(ROOT / "docs" / "man.py"), str(folder)], check=True)
    return sorted(folder.iterdir())


def text(page) -> str:
    """Return a page as plain text in long lines."""
    environment = {"MANWIDTH": "300", "PATH": os.environ["PATH"]}
    command = ["man", "-l", "-Tutf8", "-P", "cat", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return re.sub(".\x08", "", done.stdout)  # bold is a letter, a backspace and the letter


def test_every_verb_has_a_page(pages):
    assert {page.name for page in pages} == {f"{name}.1" for name in NAMES}


@pytest.mark.skipif(not shutil.which("mandoc"), reason="no mandoc (Debian package mandoc)")
def test_mandoc_finds_nothing(pages):
    done = subprocess.run(["mandoc", "-Tlint", "-W", "warning", *pages], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stdout


@pytest.mark.skipif(not shutil.which("man"), reason="no man (Debian package man-db)")
def test_man_warns_of_nothing(pages):
    for page in pages:
        command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == "", page.name


@pytest.mark.skipif(not shutil.which("man"), reason="no man (Debian package man-db)")
def test_page_has_options_examples_and_exit_codes(pages):
    monitor = next(page for page in pages if page.name == "patrolink-monitor.1")
    shown = text(monitor)
    for part in (
        "--record FILE",
        "[env PATROLINK_MONITOR_KEYS]",
        "patrolink monitor patrol.plcap --json",
        "EXIT STATUS",
    ):
        assert part in shown
