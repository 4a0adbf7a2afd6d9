"""Completion in real shells: bash, zsh and fish with the script that `patrolink completion` prints."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest
from patrolink.cli import main
from patrolink.cli._verbs import GROUPS, VERBS

from tests.support.json_lines import records
from tests.support.polling import TIMEOUT_S
from tests.support.site_file import TOKEN

SHELLS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name} (Debian package {name})"))
    for name in ("bash", "zsh", "fish")
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with files of several kinds."""
    monkeypatch.chdir(tmp_path)
    for name in ("walk.plcap", "walk.csv", "walk.txt", "keys.toml", "other.zip", "agent.plimg", "release.pem"):
        (tmp_path / name).touch()
    (tmp_path / "clips").mkdir()
    return tmp_path


def complete(line: str, **environment: str) -> list[str]:
    """Return what a shell is offered for a line, as argcomplete passes it to one."""
    program = shutil.which("patrolink", path=str(Path(sys.executable).parent))
    variables = {**os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "fish"}
    variables |= {"_ARGCOMPLETE_DFS": "\t", "COMP_LINE": line, "COMP_POINT": str(len(line.encode()))}
    variables |= {"_ARGCOMPLETE_STDOUT_FILENAME": "offered", **environment}
    done = subprocess.run([program], env=variables, capture_output=True, text=True, timeout=60)
    assert done.stdout == done.stderr == "", done
    path = Path("offered")
    offered = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    return sorted(text.partition("\t")[0].strip() for text in offered.split("\n") if text.strip())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("patrolink ", [*VERBS]),
        ("patrolink mon", ["monitor"]),
        ("patrolink clip ", [*GROUPS["clip"]]),
        ("patrolink decode --fo", ["--format"]),
        ("patrolink decode --format g", ["geojson", "gpx"]),
        ("patrolink decode ", ["clips/", "walk.plcap"]),
        ("patrolink pack w", ["walk.csv", "walk.txt"]),
        ("patrolink monitor x --keys ", ["clips/", "keys.toml"]),
        ("patrolink emulate --board m", ["mps2_an385"]),
        ("patrolink call --network ", ["city", "dead", "handover", "lift", "village"]),
        ("patrolink clip verify ", ["clips/"]),
        ("patrolink emulate --seed ", []),
        ("patrolink hub bar vest-1 --s", ["--site"]),
        ("patrolink image ", [*GROUPS["image"]]),
        ("patrolink ota ", [*GROUPS["ota"]]),
        ("patrolink ota plan x ", ["agent.plimg", "clips/"]),
        ("patrolink image sign ", ["agent.plimg", "clips/"]),
        ("patrolink image sign x --key ", ["clips/", "release.pem"]),
        ("patrolink hub unbar vest-1 --k", ["--keep-key"]),
    ],
)
def test_words_of_each_kind_are_completed(folder, line, offered):
    words = complete(line)
    options = [word for word in words if word.startswith("-")] if line.endswith(" ") else []
    assert [word for word in words if word not in options] == sorted(offered)


def test_serial_ports_are_completed(folder):
    ports = "import types; from serial.tools import list_ports"
    fake = f"{ports}; list_ports.comports = lambda: [types.SimpleNamespace(device='/dev/ttyX7')]"
    (folder / "sitecustomize.py").write_text(fake)
    assert complete("patrolink monitor /dev/tty", PYTHONPATH=str(folder)) == ["/dev/ttyX7"]


def test_groups_are_completed_from_the_hub(folder, site):
    line = f"patrolink talk --hub {site.url} "
    offered = complete(line, PATROLINK_HUB_TOKEN=TOKEN)
    assert "Harbour circle" in [word.replace("\\", "") for word in offered]


def test_groups_are_completed_from_the_site_file_without_a_hub(folder):
    (folder / "site.toml").write_text('[[group]]\nid = 1\nname = "Harbour"\n[[group]]\nid = 2\nname = "Night"\n')
    assert complete("patrolink listen N") == ["Night"]
    start_s = time.monotonic()
    # 192.0.2.0/24 is for documentation (RFC 5737): nothing answers there.
    assert complete("patrolink listen --hub https://192.0.2.1 N", PATROLINK_HUB_TOKEN="x") == ["Night"]
    assert time.monotonic() - start_s < TIMEOUT_S  # without a limit, the attempt takes two minutes
    (folder / "site.toml").write_text("[[group]\n")
    assert complete("patrolink listen N") == []


def test_wrong_settings_do_not_disturb_completion(folder):
    (folder / "patrolink.toml").write_text("[decode\n")
    assert complete("patrolink decode --fo") == []


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("typed", "completed"), [("moni\t", "monitor "), ("decode wa\t", "decode walk.plcap ")])
def test_tab_completes_in_a_shell(folder, shell, typed, completed):
    with (folder / "script").open("w") as script:
        subprocess.run([sys.executable, "-m", "patrolink", "completion", shell], stdout=script, check=True)
    start = {
        "bash": ["bash", ["--norc", "--noprofile", "-i"]],
        "zsh": ["zsh", ["-f", "-i"]],
        "fish": ["fish", ["--private", "-i"]],
    }[shell]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TERM": "dumb", "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    child = pexpect.spawn(*start, env=environment, encoding="utf-8", timeout=TIMEOUT_S, dimensions=(24, 200))
    setup = {"bash": "", "zsh": "autoload -Uz compinit; compinit -u -D; ", "fish": ""}[shell]
    child.sendline(f"{setup}source ./script; echo REA''DY")
    child.expect("READY\r?\n")
    child.send(f"patrolink {typed}")
    # A shell may move its cursor between words.
    child.expect("[^a-z]+".join(re.escape(word) for word in f"patrolink {completed}".split(" ")))
    child.close(force=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_as_json(capsys, shell):
    assert main(["completion", shell, "--json"]) == 0
    (row,) = records(capsys.readouterr().out)
    assert row["shell"] == shell and "patrolink" in row["text"]
