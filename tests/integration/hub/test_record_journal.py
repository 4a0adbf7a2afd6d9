"""Records by key in an append-only file: torn lines, damage and size."""

import random

import pytest
from patrolink.core.errors import UserError
from patrolink.hub.infra import record_journal
from patrolink.hub.infra.record_journal import RecordJournal


@pytest.mark.parametrize("seed", range(20))
def test_journal_has_the_records_that_were_put_before_a_cut(tmp_path, seed):
    rng = random.Random(seed)
    path, expected, before = tmp_path / "j.jsonl", {}, {}
    journal = RecordJournal(path)
    for _ in range(rng.randint(1, 200)):
        before = dict(expected)
        size = path.stat().st_size if path.exists() else 0
        key = ("target", f"vest {rng.randrange(20)}")
        record = None if rng.random() < 0.2 else {"n": rng.randrange(1000)}
        journal.put({key: record})
        if record is None:
            expected.pop(key, None)
        else:
            expected[key] = record
    data = path.read_bytes()
    cut = rng.randrange(size, len(data)) if len(data) > size else len(data)
    path.write_bytes(data[:cut])
    reopened = RecordJournal(path)
    assert reopened.records == before == record_journal.load(path), f"seed {seed}"
    reopened.put({("device", "a"): {"n": 1}})
    assert RecordJournal(path).records == {**before, ("device", "a"): {"n": 1}}, f"seed {seed}: the torn line is gone"


def test_journal_stays_small(tmp_path):
    journal = RecordJournal(tmp_path / "j.jsonl")
    for n in range(2500):
        journal.put({("a", str(n & 1)): {"n": n}})
    assert len((tmp_path / "j.jsonl").read_text().splitlines()) < 1500
    assert RecordJournal(tmp_path / "j.jsonl").records == {("a", "0"): {"n": 2498}, ("a", "1"): {"n": 2499}}


def test_damaged_journal_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('[["a"],{"n":1}]\n{}\n[["b"],{"n":1}]\n')
    with pytest.raises(UserError, match="line 2 is damaged; restore the file from a backup"):
        RecordJournal(path)
