"""The newest position of each device at the hub."""

import random
from datetime import datetime, timezone

import pytest
from patrolink.core import decoder
from patrolink.hub.positions import PositionTable

from tests.support.hub_parts import FakeClock

NOW_MS = 1_790_000_000_000


@pytest.fixture
def clock():
    return FakeClock(NOW_MS)


@pytest.fixture
def table(clock):
    return PositionTable(clock)


def fix(clock, ago_s=0, device="vest-1", lat_deg=1.0, date_suspect=False, timed=True) -> dict:
    moment = datetime.fromtimestamp(clock.unix_ms() / 1000 - ago_s, timezone.utc)
    time = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if timed else None
    return {"device": device, "lat_deg": lat_deg, "time": time, "date_suspect": date_suspect}


def test_backlog_in_any_order_leaves_the_newest_fix(table, clock):
    seed = random.randrange(1 << 32)
    ages = list(range(0, 3600, 7))
    random.Random(seed).shuffle(ages)
    for ago_s in ages:
        table.update(fix(clock, ago_s, lat_deg=float(ago_s + 1)))
    (row,) = table.rows()
    assert row["lat_deg"] == 1.0 and row["age_s"] == 0, f"seed {seed}"


def random_batch(rng: random.Random) -> list[dict]:
    """Return fixes of a batch, with repeated, unknown and wrong times."""
    rare = rng.choice((0, 0.1))
    batch = []
    for i in range(rng.randrange(1, 8)):
        ahead_ms = 86_400_000 if rng.random() < rare else -rng.randrange(4) * 1000
        located = rng.random() < 0.8
        batch.append(
            {
                **dict.fromkeys(("alt_mm", "speed_mms", "course_cd", "hacc_mm", "sats", "battery_pct")),
                "time_ms": None if rng.random() < rare else NOW_MS + ahead_ms,
                "mode": 3 if located else 1,
                "flags": int(rng.random() < rare),
                "lat_e7": i + 1 if located else None,
                "lon_e7": 0 if located else None,
            }
        )
    return batch


def test_newest_fix_of_a_batch_is_that_of_all_its_fixes(clock):
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    reduced = 0
    for _ in range(300):
        all_fixes, newest = PositionTable(clock), PositionTable(clock)
        for _ in range(3):
            batch = random_batch(rng)
            chosen = decoder._newest(batch, NOW_MS)
            reduced += len(chosen) < len(batch)
            for table, fixes in ((all_fixes, batch), (newest, chosen)):
                for raw in fixes:
                    table.update(decoder._position(raw, "vest-1", 0))
        assert newest.rows() == all_fixes.rows(), f"seed {seed}"
    assert reduced > 300, f"seed {seed}"


def test_age_is_that_of_the_fix(table, clock):
    assert table.update(fix(clock, 3600))
    assert table.rows()[0]["age_s"] == 3600
    assert not table.update(fix(clock, 7200)) and table.rows()[0]["age_s"] == 3600


@pytest.mark.parametrize("wrong", [{"ago_s": -86400}, {"date_suspect": True}, {"timed": False}])
def test_fix_with_a_wrong_time_does_not_block_later_ones(table, clock, wrong):
    """A receiver with a wrong date must not hide where its wearer is."""
    assert table.update(fix(clock, **wrong))
    assert table.rows()[0]["age_s"] == 0
    assert table.update(fix(clock, 5, lat_deg=2.0)) and table.rows()[0]["lat_deg"] == 2.0
    assert table.update(fix(clock, **{**wrong, "lat_deg": 3.0})) and table.rows()[0]["lat_deg"] == 3.0


@pytest.mark.parametrize("wrong", [{"ago_s": -86400}, {"date_suspect": True}, {"timed": False}])
def test_fix_with_a_wrong_time_lets_no_older_one_pass(table, clock, wrong):
    assert table.update(fix(clock, 5)) and table.update(fix(clock, **wrong, lat_deg=2.0))
    assert not table.update(fix(clock, 86400, lat_deg=3.0)) and table.rows()[0]["lat_deg"] == 2.0
    assert table.update(fix(clock, 4, lat_deg=4.0)) and table.rows()[0]["lat_deg"] == 4.0


def test_wrong_clock_of_the_hub_holds_back_nothing_later(table, clock):
    ahead = fix(clock, -86400)
    clock.now_ms += 86_400_000
    assert table.update(ahead)
    clock.now_ms -= 86_400_000
    assert table.update(fix(clock, 60, lat_deg=2.0)) and table.rows()[0]["lat_deg"] == 2.0


def test_fix_without_a_position_is_ignored(table, clock):
    assert not table.update(fix(clock, lat_deg=None)) and table.rows() == []
