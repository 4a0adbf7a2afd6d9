"""The list of flaky tests: reruns of listed tests, and rejection of invalid entries."""

import datetime

import pytest
from patrolink.core import resources
from patrolink.core.errors import UserError

from tests.hil import flaky
from tests.hil.test_hardware import HIL, run_pytest

TODAY = datetime.date(2026, 3, 31)
CASE = "tests/hil/bad_boards.py::test_passes_at_second_attempt"
REASON = "the bench's hub is slow to answer"


def write_list(folder, test=CASE, since: object = TODAY, reason=REASON, more=""):
    path = folder / "flaky.toml"
    path.write_text(f'[[flaky]]\ntest = "{test}"\nsince = {since}\nreason = "{reason}"\n{more}')
    return path


def test_only_a_listed_test_is_rerun_and_counted(tmp_path):
    test = f"{HIL}/bad_boards.py::test_passes_at_second_attempt"
    today = datetime.date.today()
    done = run_pytest(tmp_path, test, "--flaky", str(write_list(tmp_path, since=today)))
    assert done.returncode == 0 and "1 passed, 1 rerun" in done.stdout, done.stdout
    assert f"flaky since {today}: {CASE}, 1 failed attempts ({REASON})" in done.stdout
    (tmp_path / "artefacts" / "attempts").unlink()
    done = run_pytest(tmp_path, test)
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"test": "tests/hil/bad_boards.py::test_nothing"}, "there is no such test; remove the entry"),
        ({"test": "tests/hil/nowhere.py::test_board_hangs"}, "there is no such test"),
        (
            {"since": TODAY - datetime.timedelta(days=flaky.MAX_AGE_DAYS + 1)},
            r"31 days \(maximum 30\); correct the test",
        ),
        ({"since": TODAY + datetime.timedelta(days=1)}, "-1 days"),
        ({"since": "yesterday"}, "not TOML|Invalid value"),
        ({"reason": "flaky"}, "flaky.0.reason: .*at least 10"),
        ({"more": "retries = 9\n"}, "flaky.0.retries: unknown key"),
    ],
)
def test_invalid_entry_is_rejected(tmp_path, entry, message):
    with pytest.raises(UserError, match=message):
        flaky.load(write_list(tmp_path, **entry), resources.root(), TODAY)


def test_expired_entry_ends_the_run(tmp_path):
    done = run_pytest(tmp_path, f"{HIL}/test_flaky.py", "--flaky", str(write_list(tmp_path, since="2020-01-01")))
    assert done.returncode == 4 and "correct the test" in done.stdout + done.stderr


def test_list_of_the_project_is_valid():
    flaky.load(HIL / "flaky.toml", resources.root(), datetime.date.today())
