"""Power cuts of our agent under QEMU: a few of those that `testee_cuts.py` makes, and that it finds what is wrong."""

import pytest
from patrolink.core import boards

from tests.protocol import testee_cuts
from tests.protocol.testee_cuts import Run, Table

HELLO = {"message": "hello", "boot": 1}
STATUS = {"message": "device_status"}
EVENT = {"message": "event", "event_id": 2}
EVERY = 31  # of about 93 flash operations


def frame(kind, counter, content=0):
    """Return the digits of a frame, as far as the checks read them."""
    return f"{32 + kind:02x}{counter:08x}{content:02x}"


def run_with(*frames, cut=7, cut_ms=40_000, violations=0):
    """Return a run whose frames are (ms, counter, type, message)."""
    entries = [(at_ms, counter, message) for at_ms, counter, _, message in frames]
    texts = [frame(kind, counter) for _, counter, kind, _ in frames]
    return Run(cut, cut_ms, entries, texts, {"board": {"violations": violations}})


FIRST_BOOT = ((7000, 0, 1, HELLO), (7100, 1, 3, STATUS), (55_000, 2, 5, EVENT))
SECOND_BOOT = ((54_000, 64, 1, {**HELLO, "boot": 2}),)


def problems(*runs):
    """Return the problems that the last of some runs has."""
    table = Table()
    for run in runs[:-1]:
        table.add(run)
    assert not table.problems, table.examples
    table.add(runs[-1])
    return {problem for _, problem in table.problems}


def test_run_without_a_problem_has_none():
    assert problems(run_with(*FIRST_BOOT, *SECOND_BOOT)) == set()


@pytest.mark.parametrize(
    ("problem", "run"),
    [
        ("not_started", run_with(*FIRST_BOOT)),
        ("frames_lost", run_with(FIRST_BOOT[0], FIRST_BOOT[2], *SECOND_BOOT)),
        ("flash_violations", run_with(*FIRST_BOOT, *SECOND_BOOT, violations=1)),
        ("sos_lost", run_with(*FIRST_BOOT[:2], (35_000, 2, 5, EVENT), *SECOND_BOOT)),
    ],
)
def test_problem_is_found(problem, run):
    assert problems(run_with(*FIRST_BOOT, *SECOND_BOOT), run) == {problem}


def test_frame_that_did_not_survive_a_later_cut_is_lost():
    later = run_with(*FIRST_BOOT[:2], *SECOND_BOOT, cut=8)
    assert problems(run_with(*FIRST_BOOT, *SECOND_BOOT), later) == {"frames_lost", "sos_lost"}


def test_counter_of_two_frames_is_found():
    run = run_with(*FIRST_BOOT, *SECOND_BOOT, (56_000, 2, 5, EVENT))
    run.texts[-1] = frame(5, 2, content=1)
    assert problems(run) == {"counters_reused"}


def test_command_that_is_carried_out_twice_is_found():
    answers = ((56_000, 65, 25, {"message": "answer"}), (57_000, 66, 25, {"message": "answer"}))
    assert problems(run_with(*FIRST_BOOT, *SECOND_BOOT, *answers)) == {"commands_repeated"}


@pytest.mark.long(60)
def test_cuts_of_the_board_cost_nothing():
    board = boards.find(testee_cuts.BOARD)
    if board.missing_packages():
        pytest.skip(f"{board.name}: apt-get install {' '.join(board.missing_packages())}")
    table = testee_cuts.run(EVERY)
    assert table.cuts.total() >= 3 and not table.problems, table.examples
