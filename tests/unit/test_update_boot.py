"""Boot records, their journal, the selection of a slot, and the trial of an image."""

from agent.update import boot_records as br
from agent.update import selection
from agent.update.boot_journal import SECTOR_BYTES, BootJournal
from agent.update.boot_records import BootState, Record
from agent.update.trial import ACKNOWLEDGE_MS, NOTHING, STABLE_MS, Trial
from memory_storage import PowerCut
from nor_flash import TEARS, NorFlash
from seeded_random import seeded

JOURNAL_BYTES = 2 * SECTOR_BYTES


def state_of(*records):
    state = BootState()
    for record in records:
        state.apply(record)
    return state


def summary(state):
    """Return everything that a state tells."""
    slots = [(s.install, s.rollback, s.attempts, s.confirmed, s.failed) for s in state.slots]
    return slots, state.floor, state.last_install


def installed(slot, install, rollback=0):
    return Record(br.INSTALLED, slot, 0, install, rollback)


def confirmed(slot, install):
    return Record(br.CONFIRMED, slot, 0, install, 0)


def attempt(slot, install, attempts):
    return Record(br.ATTEMPT, slot, attempts, install, 0)


def choose(state, power_on=False, damaged=()):
    """Return action, slot and kinds of the records of a selection."""
    decision = selection.select(state, lambda slot: slot not in damaged, power_on)
    return decision.action, decision.slot, [(r.kind, r.slot, r.attempts) for r in decision.records]


def random_record(below, state):
    """Return a record that could follow in a state, or one of a previous image."""
    kind = 2 + below(7)  # the last kind is unknown
    slot = below(2)
    if kind == br.INSTALLED:
        return installed(slot, state.last_install + 1, below(5))
    if kind == br.FLOOR:
        return state.floor_record(below(9))
    install = state.slots[slot].install if below(4) else below(9)
    return Record(kind, slot, below(4), install, below(5))


def test_record_is_16_bytes_of_this_layout():
    record = Record(br.ATTEMPT, 1, 2, 0x01020304, 0xFFFFFFFE)
    assert br.pack(record)[:12] == b"\x03\x01\x02\x00\x04\x03\x02\x01\xfe\xff\xff\xff"
    assert len(br.pack(record)) == br.RECORD_BYTES and br.unpack(br.pack(record)) == record


def test_altered_erased_and_blank_records_are_not_read():
    data = br.pack(installed(0, 7, 3))
    for bit in range(8 * br.RECORD_BYTES):
        altered = bytearray(data)
        altered[bit >> 3] ^= 1 << (bit & 7)
        assert br.unpack(altered) is None, bit
    assert br.unpack(b"\xff" * 16) is None and br.unpack(bytes(16)) is None
    assert br.unpack(br.pack(installed(2, 7, 3))) is None


def test_record_of_a_previous_image_changes_nothing():
    state = state_of(installed(0, 1), installed(0, 2), confirmed(0, 1), attempt(0, 1, 3), Record(br.FAILED, 0, 0, 1, 0))
    assert summary(state)[0][0] == (2, 0, 0, False, False)


def test_snapshot_describes_the_same_state():
    for seed in range(300):
        below = seeded(seed)
        state = BootState()
        for _ in range(below(40)):
            state.apply(random_record(below, state))
        assert summary(state_of(*state.snapshot())) == summary(state), "seed %d" % seed


def test_journal_reads_what_it_has_written_over_many_compactions():
    for seed in range(6):
        below = seeded(seed)
        flash = NorFlash(JOURNAL_BYTES)
        journal, state = BootJournal(flash), BootState()
        assert journal.generation == 0
        for number in range(700):
            record = random_record(below, state)
            journal.append(record)
            state.apply(record)
            if number % 50 == 0:
                assert summary(BootJournal(flash).state) == summary(state), "seed %d" % seed
        assert summary(BootJournal(flash).state) == summary(journal.state) == summary(state), "seed %d" % seed
        assert BootJournal(flash).generation == journal.generation > 2 and journal.torn == 0


def test_power_cut_leaves_the_state_before_or_after_the_record():
    for seed in range(120):
        below = seeded(seed)
        flash = NorFlash(JOURNAL_BYTES, seed)
        journal = BootJournal(flash)
        for _ in range(240 + below(16)):  # some appends compact the journal
            journal.append(random_record(below, journal.state))
        for _ in range(12):
            record = random_record(below, journal.state)
            before = summary(journal.state)
            after = state_of(*journal.state.snapshot())
            after.apply(record)
            flash.left, flash.tear = below(6), TEARS[below(5)]
            try:
                journal.append(record)
                expected = [summary(after)]
            except PowerCut:
                expected = [before, summary(after)]
            flash.left = None
            journal = BootJournal(flash)
            assert summary(journal.state) in expected, "seed %d" % seed


def test_worn_sector_is_not_trusted():
    flash = NorFlash(JOURNAL_BYTES)
    journal = BootJournal(flash)
    journal.append(installed(0, 1))
    flash.worn = (0, SECTOR_BYTES)
    try:
        journal.append(confirmed(0, 1))
        raise AssertionError("a record that does not read back is accepted")
    except OSError:
        pass
    assert not journal.state.slots[0].confirmed
    flash.worn = ()
    assert summary(BootJournal(flash).state)[0][0] == (1, 0, 0, False, False)


def test_record_after_a_program_without_effect_is_not_lost():
    for name in ("ignored", "refused"):
        flash = NorFlash(JOURNAL_BYTES)
        journal = BootJournal(flash)
        journal.append(installed(0, 1))
        setattr(flash, name, 1)
        try:
            journal.append(confirmed(0, 1))
        except OSError:
            journal.append(confirmed(0, 1))
        assert BootJournal(flash).state.slots[0].confirmed, name
        restarted = BootJournal(flash)
        restarted.append(attempt(0, 1, 2))  # programs erased flash only
        assert summary(BootJournal(flash).state) == summary(restarted.state)


def test_nothing_installed_leads_to_recovery():
    assert choose(BootState()) == (selection.RECOVER, None, [])
    assert choose(state_of(installed(0, 1)), damaged=(0,)) == (selection.RECOVER, None, [])


def test_trial_is_marked_before_it_starts_and_ends_after_three_starts():
    state = state_of(installed(0, 1), confirmed(0, 1), installed(1, 2))
    for number in (1, 2, 3):
        assert choose(state) == (selection.RUN, 1, [(br.ATTEMPT, 1, number)])
        state.apply(attempt(1, 2, number))
    assert choose(state) == (selection.RUN, 0, [(br.FAILED, 1, 0), (br.ATTEMPT, 0, 1)])
    assert choose(state, power_on=True)[1] == 0  # an image may have hung until it was switched off
    state.apply(Record(br.FAILED, 1, 0, 2, 0))
    assert choose(state)[:2] == (selection.RUN, 0)


def test_image_without_another_to_return_to_gets_into_safe_mode():
    for state, damaged in (
        (state_of(installed(0, 1), attempt(0, 1, 3)), ()),
        (state_of(installed(1, 1), confirmed(1, 1), installed(0, 2), attempt(0, 2, 3)), (1,)),
        (state_of(installed(1, 1), confirmed(1, 1), installed(0, 2), confirmed(0, 2), attempt(0, 2, 3)), ()),
    ):
        assert choose(state, damaged=damaged) == (selection.RUN_SAFE, 0, [])
        assert choose(state, power_on=True, damaged=damaged) == (selection.RUN, 0, [(br.ATTEMPT, 0, 1)])


def test_confirmed_image_counts_crashes_only():
    state = state_of(installed(0, 1), confirmed(0, 1))
    for _ in range(5):
        assert choose(state, power_on=True)[2] in ([(br.ATTEMPT, 0, 1)], [])
        state.apply(attempt(0, 1, 1))
    assert choose(state)[2] == [(br.ATTEMPT, 0, 2)]


def test_floor_excludes_an_old_image_unless_it_is_confirmed():
    floor = Record(br.FLOOR, 0, 0, 2, 5)
    assert choose(state_of(installed(0, 1, 4), floor))[0] == selection.RECOVER
    assert choose(state_of(installed(0, 1, 5), floor))[1] == 0
    old = state_of(installed(0, 1, 4), confirmed(0, 1), installed(1, 2, 5), confirmed(1, 2), floor)
    assert choose(old)[1] == 1 and choose(old, damaged=(1,))[1] == 0


def carried_out(state, effect):
    for record in effect.records:
        state.apply(record)
    return [record.kind for record in effect.records], effect.restart


def test_first_acknowledgement_confirms_and_then_raises_the_floor():
    state = state_of(installed(0, 1, 1), confirmed(0, 1), installed(1, 2, 3), attempt(1, 2, 2))
    trial = Trial(state, 1, True, 0)
    assert carried_out(state, trial.acknowledged()) == ([br.CONFIRMED, br.FLOOR], False)
    assert state.floor == 3 and state.slots[1].confirmed and state.slots[1].attempts == 0
    assert trial.acknowledged() is NOTHING


def test_acknowledgement_repeats_what_could_not_be_written():
    state = state_of(installed(1, 2, 3), attempt(1, 2, 2))
    trial = Trial(state, 1, False, 0)
    assert trial.acknowledged().records == trial.acknowledged().records
    state.apply(trial.acknowledged().records[0])  # the power is cut before the floor
    assert carried_out(state, trial.acknowledged()) == ([br.FLOOR], False) and state.floor == 3


def test_registered_without_an_acknowledgement_returns_to_the_previous_image():
    state = state_of(installed(0, 1), confirmed(0, 1), installed(1, 2))
    trial = Trial(state, 1, True, 0)
    assert trial.step(True, 10) is NOTHING and trial.step(True, 9 + ACKNOWLEDGE_MS) is NOTHING
    assert carried_out(state, trial.step(True, 10 + ACKNOWLEDGE_MS)) == ([br.FAILED], True)


def test_no_coverage_and_no_previous_image_let_a_trial_wait():
    state = state_of(installed(0, 1), confirmed(0, 1), installed(1, 2))
    trial = Trial(state, 1, True, 0)
    for hour in range(200):
        assert trial.step(False, hour * 3_600_000) is NOTHING
        assert trial.step(True, hour * 3_600_000 + 1) is NOTHING
        assert trial.step(True, hour * 3_600_000 + ACKNOWLEDGE_MS) is NOTHING
    alone = Trial(state_of(installed(1, 2)), 1, False, 0)
    assert alone.step(True, 0) is NOTHING and alone.step(True, 10 * ACKNOWLEDGE_MS) is NOTHING


def test_planned_stop_costs_no_attempt():
    state = state_of(installed(0, 1), installed(1, 2))
    for _ in range(10):
        assert choose(state) == (selection.RUN, 1, [(br.ATTEMPT, 1, 1)])
        state.apply(attempt(1, 2, 1))
        carried_out(state, Trial(state, 1, True, 0).stopping())
    assert Trial(state, 1, True, 0).stopping() is NOTHING


def test_confirmed_image_has_started_well_after_a_while_without_coverage():
    state = state_of(installed(0, 1), confirmed(0, 1), attempt(0, 1, 3))
    trial = Trial(state, 0, False, 5)
    assert trial.step(False, STABLE_MS) is NOTHING
    assert carried_out(state, trial.step(False, 5 + STABLE_MS)) == ([br.ATTEMPT], False)
    assert state.slots[0].attempts == 0 and trial.step(False, 2 * STABLE_MS) is NOTHING
