"""How the trial of an image is carried out: damaged fallback, boot records that cannot be written."""

from agent.update import boot_records as br
from agent.update.boot_records import BootState, Record
from agent.update.trial import ACKNOWLEDGE_MS, Trial
from app.wiring_update import TrialRunner

MINUTE_MS = 60_000


class FakeJournal:
    """Keeps the state only; `appends` counts attempts."""

    def __init__(self):
        self.state = BootState()
        self.is_broken = False
        self.appends = 0

    def append(self, record):
        self.appends += 1
        if self.is_broken:
            raise OSError(5)
        self.state.apply(record)


def runner_on_trial(fallback_holds=True):
    journal = FakeJournal()
    for record in (
        Record(br.INSTALLED, 0, 0, 1, 0),
        Record(br.CONFIRMED, 0, 0, 1, 0),
        Record(br.INSTALLED, 1, 0, 2, 0),
    ):
        journal.append(record)
    journal.appends = 0
    trial = Trial(journal.state, 1, True, 0)
    return journal, TrialRunner(journal, trial, 0, lambda: fallback_holds, lambda text: None)


def test_trial_without_an_acknowledgement_ends_in_an_image_that_holds():
    journal, runner = runner_on_trial()
    assert not runner.step(True, 0) and runner.step(True, ACKNOWLEDGE_MS) and journal.state.slots[1].failed


def test_damaged_fallback_lets_the_trial_wait():
    journal, runner = runner_on_trial(fallback_holds=False)
    for minute in range(100):
        assert not runner.step(True, minute * MINUTE_MS)
    assert not journal.state.slots[1].failed and journal.appends == 0


def test_records_that_cannot_be_written_are_tried_again_seldom():
    journal, runner = runner_on_trial()
    journal.is_broken = True
    runner.step(True, 0)
    for second in range(ACKNOWLEDGE_MS // 1000, ACKNOWLEDGE_MS // 1000 + 3600):
        assert not runner.step(True, second * 1000)
    assert journal.appends == 6
    journal.is_broken = False
    assert runner.step(True, 2 * ACKNOWLEDGE_MS + 3600 * 1000)
