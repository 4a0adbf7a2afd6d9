"""The hooks of a commit: they reject bad messages and misspelt words, and run in a new repository."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CHECK = ROOT / ".ci" / "check_commit_message.py"


def load():
    spec = importlib.util.spec_from_file_location("check_commit_message", CHECK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "message",
    [
        "modem: retry registration after a reject",
        "hub, device: share the floor participant\n\nThe two copies had different timers.\n",
        'Revert "modem: retry registration after a reject"\n',
        "docs: add a glossary\n# Please enter the commit message\n",
    ],
)
def test_valid_message_is_accepted(message):
    assert load().faults(message) == []


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("", "not `area: summary`"),
        ("Retry registration", "not `area: summary`"),
        ("modem:retry", "not `area: summary`"),
        ("modem: " + "x" * 66, "73 characters"),
        ("modem: retry registration.", "full stop"),
        ("modem: added a retry", "imperative"),
        ("modem: retry\nbecause", "blank line"),
    ],
)
def test_invalid_message_is_rejected_with_its_fault(message, fault):
    messages = load().faults(message)
    assert len(messages) == 1 and fault in messages[0]


def test_hooks_run_in_a_fresh_repository(tmp_path):
    """The hooks of .pre-commit-config.yaml reject an invalid message and a misspelt word."""
    run = {"cwd": tmp_path, "capture_output": True, "text": True}
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "PRE_COMMIT_HOME": str(tmp_path / "cache")}
    subprocess.run(["git", "init", "-q", "."], check=True, **run)
    subprocess.run(["git", "config", "user.name", "A Developer"], check=True, **run)
    subprocess.run(["git", "config", "user.email", "developer@example.org"], check=True, **run)
    (tmp_path / ".pre-commit-config.yaml").write_text((ROOT / ".pre-commit-config.yaml").read_text())
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / ".ci").symlink_to(ROOT / ".ci")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    subprocess.run([sys.executable, "-m", "pre_commit", "install"], check=True, env=environment, **run)

    def commit(text: str, message: str) -> str:
        (tmp_path / "page.md").write_text(text)
        subprocess.run(["git", "add", "page.md"], check=True, **run)
        result = subprocess.run(["git", "commit", "-m", message], env=environment, **run)
        return "" if result.returncode == 0 else result.stdout + result.stderr

    misspelt = "recie" + "ve"
    assert "==> receive" in commit(f"Frames that we {misspelt}.\n", "docs: add a page")
    assert "not `area: summary`" in commit("Frames that we receive.\n", "Add a page")
    assert commit("Frames that we receive.\n", "docs: add a page") == ""
