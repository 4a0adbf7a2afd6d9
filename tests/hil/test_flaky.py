"""The list of flaky tests: what it does to a test that is on it, and what may not be on it."""

import datetime

import pytest
from patrolink.core import resources
from patrolink.core.errors import UserError

from tests.hil import flaky
from tests.hil.test_hardware import HIL, pytest_run

TODAY = datetime.date(2026, 3, 31)
CASE = "tests/hil/bad_boards.py::test_it_answers_the_second_time"
REASON = "the bench's hub is slow to answer"


def written(folder, test=CASE, since: object = TODAY, reason=REASON, more=""):
    path = folder / "flaky.toml"
    path.write_text(f'[[flaky]]\ntest = "{test}"\nsince = {since}\nreason = "{reason}"\n{more}')
    return path


def test_a_listed_test_is_run_again_and_counted_and_another_is_not(tmp_path):
    test = f"{HIL}/bad_boards.py::test_it_answers_the_second_time"
    today = datetime.date.today()
    done = pytest_run(tmp_path, test, "--flaky", str(written(tmp_path, since=today)))
    assert done.returncode == 0 and "1 passed, 1 rerun" in done.stdout, done.stdout
    assert f"flaky since {today}: {CASE}, 1 runs of it failed ({REASON})" in done.stdout
    (tmp_path / "artefacts" / "tries").unlink()
    done = pytest_run(tmp_path, test)
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout


@pytest.mark.parametrize(
    "entry, says",
    [
        ({"test": "tests/hil/bad_boards.py::test_nothing"}, "there is no such test; take the entry out"),
        ({"test": "tests/hil/nowhere.py::test_it_hangs"}, "there is no such test"),
        ({"since": TODAY - datetime.timedelta(days=flaky.DAYS + 1)}, "31 days; mend the test"),
        ({"since": TODAY + datetime.timedelta(days=1)}, "-1 days"),
        ({"since": "yesterday"}, "not TOML|Invalid value"),
        ({"reason": "flaky"}, "flaky.0.reason: .*at least 10"),
        ({"more": "retries = 9\n"}, "flaky.0.retries: unknown key"),
    ],
)
def test_an_entry_that_nobody_should_believe_is_an_error(tmp_path, entry, says):
    with pytest.raises(UserError, match=says):
        flaky.load(written(tmp_path, **entry), resources.root(), TODAY)


def test_an_old_entry_ends_the_run(tmp_path):
    done = pytest_run(tmp_path, f"{HIL}/test_flaky.py", "--flaky", str(written(tmp_path, since="2020-01-01")))
    assert done.returncode == 4 and "mend the test" in done.stdout + done.stderr


def test_the_list_that_is_shipped_can_be_used():
    flaky.load(HIL / "flaky.toml", resources.root(), datetime.date.today())
