"""Deletion by age: no jump of the clock deletes anything, and everything is deleted in the end."""

import errno
import json
import random
from contextlib import suppress
from pathlib import Path

import pytest
from patrolink.hub.infra import persistence
from patrolink.hub.infra.retention_ledger import DAY_MS, Item, RetentionLedger, RunningTimeCounter

DAYS = 30
START_MS = 1_795_000_000_000
HOUR_MS = 3_600_000


class TwoClocks:
    """A clock whose time of day and monotonic time a test sets apart."""

    def __init__(self) -> None:
        self.true_ms, self.offset_ms, self.boot_ms = START_MS, 0, START_MS

    def unix_ms(self) -> int:
        return max(0, self.true_ms + self.offset_ms)

    def monotonic_ms(self) -> int:
        return self.true_ms - self.boot_ms

    def restart(self, off_ms: int) -> None:
        """Continue after a time without power."""
        self.true_ms += off_ms
        self.boot_ms = self.true_ms - 5000


class Site:
    """A store of items under a clock that jumps, and a hub that is killed and whose storage fails.

    Attributes:
        newest_ms: True time of the last change of each item.
    """

    def __init__(self, rng, monkeypatch) -> None:
        self._rng = rng
        self.clock = TwoClocks()
        self.items: dict[str, Item] = {}
        self.newest_ms: dict[str, int] = {}
        self._storage_fails, self._files = False, {}
        monkeypatch.setattr(persistence, "save_json", self._save)
        monkeypatch.setattr(persistence, "load_json", lambda path: json.loads(self._files.get(path, "null")))
        self.start_hub()

    def _save(self, path, document) -> None:
        if self._storage_fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._files[path] = json.dumps(document)

    def start_hub(self) -> None:
        self._counter = RunningTimeCounter(Path("running-time.json"), self.clock)
        self._ledger = RetentionLedger(Path("marks.json"), DAYS)

    def record(self) -> None:
        """Add a clip, and a recording in the folder of its day, with the times that the clock shows."""
        now_ms = self.clock.unix_ms()
        day_ms = now_ms // DAY_MS * DAY_MS
        day, clip = f"day {day_ms}", f"clip {self.clock.true_ms}"
        version = self.items[day].version + 1 if day in self.items else 0
        self.items[day], self.items[clip] = Item(day_ms + DAY_MS, version), Item(now_ms, now_ms)
        self.newest_ms[day] = self.newest_ms[clip] = self.clock.true_ms

    def purge(self) -> list[str]:
        """Delete what the ledger names, as a hub does; return the names."""
        self._storage_fails = self._rng.random() < 0.1
        running = self._counter.advance()
        due = self._ledger.due(self.items, self.clock.unix_ms(), running.running_ms)
        for name in due:
            del self.items[name]
        with suppress(OSError):
            self._ledger.save()
            self._counter.save()
        return due

    def disturb(self) -> None:
        """Let the clock jump, or kill the hub, at random."""
        rng = self._rng
        if rng.random() < 0.05:
            self.clock.offset_ms = rng.choice((0, rng.randrange(-500, 500) * DAY_MS, rng.randrange(-90, 90) * 1000))
        if rng.random() < 0.05:
            self.clock.restart(rng.choice((20_000, HOUR_MS, rng.randrange(60) * DAY_MS)))
            self.start_hub()


@pytest.mark.parametrize("seed", [*range(40), pytest.param(random.randrange(1 << 32), id="random")])
def test_nothing_younger_than_the_retention_is_deleted_and_everything_is_in_the_end(seed, monkeypatch):
    rng = random.Random(seed)
    site = Site(rng, monkeypatch)
    deleted = 0
    for _ in range(600):
        site.clock.true_ms += rng.randrange(600_000, 12 * HOUR_MS)
        if rng.random() < 0.6:
            site.record()
        site.disturb()
        for name in site.purge():
            age_days = (site.clock.true_ms - site.newest_ms[name]) / DAY_MS
            assert age_days >= DAYS, f"seed {seed}: {name} deleted after {age_days:.1f} days"
            deleted += 1
    assert deleted > 50, f"seed {seed}"
    site.clock.offset_ms = 0
    for _ in range(2 * (2 * DAYS + 2)):  # twice the retention: times that were in the future have become past
        site.clock.true_ms += 12 * HOUR_MS
        site.purge()
    assert site.items == {}, f"seed {seed}"


def test_with_a_correct_clock_an_item_is_deleted_at_its_age(tmp_path):
    ledger, item = RetentionLedger(tmp_path / "marks.json", DAYS), {"a": Item(START_MS, 1)}
    assert ledger.due(item, START_MS, 0) == []
    assert ledger.due(item, START_MS + DAYS * DAY_MS - 1, DAYS * DAY_MS - 1) == []
    assert ledger.due(item, START_MS + DAYS * DAY_MS, DAYS * DAY_MS) == ["a"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": 1}', '{"a": [1, null]}'])
def test_damaged_marks_and_times_keep_everything(damage, tmp_path):
    marks, times = tmp_path / "marks.json", tmp_path / "running-time.json"
    marks.write_text(damage)
    times.write_text(damage)
    running = RunningTimeCounter(times, TwoClocks()).advance()
    assert running == (0, 0)
    assert RetentionLedger(marks, DAYS).due({"a": Item(0, 1)}, START_MS, 90 * DAY_MS) == []


@pytest.mark.parametrize(
    ("off_ms", "offset_ms", "reported_ms"),
    [
        (0, 400 * DAY_MS, 400 * DAY_MS),
        (0, -HOUR_MS, -HOUR_MS),
        (0, 1000, 0),
        (8 * HOUR_MS, 0, 0),
        (8 * HOUR_MS, -9 * HOUR_MS, -HOUR_MS),
        (3 * DAY_MS, 0, 3 * DAY_MS),
    ],
)
def test_jumps_of_the_clock_are_reported_once(off_ms, offset_ms, reported_ms, tmp_path):
    clock = TwoClocks()
    counter = RunningTimeCounter(tmp_path / "running-time.json", clock)
    clock.true_ms += 600_000
    assert counter.advance() == (600_000, 0)
    counter.save()
    clock.offset_ms = offset_ms
    if off_ms:
        clock.restart(off_ms)
        counter = RunningTimeCounter(tmp_path / "running-time.json", clock)
    assert counter.advance() == (600_000, reported_ms)
    clock.true_ms += 600_000
    assert counter.advance() == (1_200_000, 0)
