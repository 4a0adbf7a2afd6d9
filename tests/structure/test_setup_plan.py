"""`make test` says what it installs, what it may not install, and which tests are skipped for that."""

import re
from pathlib import Path

from tests.support.import_graph import ROOT
from tests.support.setup_plan import PROGRAMS, missing_programs, plan

CREATED = (
    ".venv/ready",
    ".venv/test-ready",
    "build/device-lib/umqtt/simple.py",
    "build/media/bikes.mp4",
    "build/node/ready",
)


def create_all(root: Path) -> None:
    for name in CREATED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_plan_of_root_in_a_fresh_clone_lists_every_step(tmp_path):
    lines = plan(tmp_path, list(PROGRAMS), may_install=True)
    assert lines[0] == "set-up, once:" and len(lines) == 1 + len(CREATED) + 1
    assert "mosquitto tshark lua5.4 gcc libc6-dev" in lines[-1] and "cannot" not in "".join(lines)


def test_plan_of_an_ordinary_user_names_packages_and_skipped_tests(tmp_path):
    lines = plan(tmp_path, missing_programs(lambda command: command not in ("gpsd", "npm")), may_install=False)
    assert "tus server" not in " ".join(lines), "npm cannot be installed"
    assert "  without gpsd: integration/device/test_gpsd.py" in lines
    assert lines[-1] == "to run them too: sudo apt-get install gpsd npm"


def test_nothing_is_printed_when_nothing_is_to_be_done(tmp_path):
    create_all(tmp_path)
    assert plan(tmp_path, [], may_install=False) == []


def test_skipped_tests_exist_and_every_package_that_a_skip_names_is_in_the_plan():
    named = {name: program.packages for program in PROGRAMS for name in program.tests.split()}
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []
    packages = {package for program in PROGRAMS for package in program.packages.split()}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            reason = re.search(r"skip.*apt(?:-get)? install ([a-z0-9+. -]+)", line)
            if reason:
                assert set(reason[1].split()) <= packages, f"{path}: {line}"
                assert str(path.relative_to(ROOT / "tests")) in named, f"{path}: {line}"
