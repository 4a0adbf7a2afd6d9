"""A device or a dispatcher that sends too much: refused and counted, without effect on anybody else."""

import asyncio
import json
import random

import patrolink_messages as m
import pytest
from patrolink.core.errors import UserError
from patrolink.hub.dispatch import requests
from patrolink.hub.dispatch.request_limits import RequestLimits
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.rate_limits import NoticeLimiter, Rate, TokenBucket

from tests.support import hub_parts
from tests.support.hub_harness import HubHarness
from tests.support.hub_parts import NOW_MS, FakeClock

site_folder = hub_parts.site_folder


@pytest.fixture
def hub(site_folder):
    harness = HubHarness(site_folder)
    yield harness
    harness.close()


# --- buckets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_bucket_never_exceeds_its_rate_and_wastes_nothing(seed):
    rng = random.Random(seed)
    rate = Rate(rng.randrange(1, 20), rng.randrange(1, 500))
    bucket, now_ms, taken = TokenBucket(rate), rng.randrange(1 << 40), []
    for _ in range(500):
        now_ms += rng.choice([0, 0, 1, rate.interval_ms // 3, rate.interval_ms * 7])
        has_token = bucket.has_token(now_ms)
        assert (bucket.wait_ms(now_ms) == 0) == has_token == bucket.take(now_ms), f"seed {seed}"
        if has_token:
            taken.append(now_ms)
    for i in range(len(taken) - rate.burst):
        # burst + 1 in a row need at least the time of one token
        assert taken[i + rate.burst] - taken[i] >= rate.interval_ms, f"seed {seed}"
    assert bucket.take(now_ms + rate.burst * rate.interval_ms), f"seed {seed}"


def test_bucket_is_not_refilled_by_a_clock_that_jumps_back():
    bucket = TokenBucket(Rate(1, 1000))
    assert bucket.take(5000) and not bucket.take(0) and not bucket.take(5000) and bucket.take(6000)


def test_wait_is_the_time_until_the_next_token():
    bucket = TokenBucket(Rate(2, 1000))
    assert bucket.wait_ms(0) == 0 and bucket.take(0) and bucket.take(0)
    assert bucket.wait_ms(300) == 700 and not bucket.take(999) and bucket.take(1000)


def test_notice_is_given_once_per_interval_and_subject():
    limiter = NoticeLimiter(100, subjects_max=2)
    assert limiter.is_due("a", 0) and not limiter.is_due("a", 99) and limiter.is_due("b", 99)
    assert limiter.is_due("a", 100) and limiter.is_due("c", 101)
    assert len(limiter._last_ms) == 2, "b was forgotten"


# --- devices ---------------------------------------------------------------------------------------------------------


def test_sos_flood_of_one_device_is_refused_and_leaves_the_alarm_of_another(hub):
    hub.send_sos("vest-2", 1)
    for event_id in range(1000):
        hub.send_sos("vest-1", event_id)
    assert hub.metrics.refused["event rate"] == 960
    assert ("vest-2", 1) in hub.open_alarms()
    assert len([alarm for alarm in hub.open_alarms() if alarm[0] == "vest-1"]) == 20
    assert [w["device"] for w in hub.messages("warning")] == ["vest-1"], "one warning, not one per frame"
    assert hub.messages("warning")[0]["warning"] == "flood"
    assert [row["who"] for row in hub.audit() if row["what"] == "flood"] == ["vest-1"]


def test_refused_sos_passes_when_the_device_repeats_it(hub):
    """The device repeats an event until it is answered: what is refused now is late, not lost."""
    for event_id in range(60):
        frame = hub.send_sos("vest-1", event_id)
    assert ("vest-1", 59) not in hub.open_alarms()
    hub.receive("vest-1", frame)
    assert ("vest-1", 59) not in hub.open_alarms(), "a repetition must not pass by the limit"
    hub.clock.now_ms += 10_000
    hub.receive("vest-1", frame)
    assert ("vest-1", 59) in hub.open_alarms()


def test_other_events_do_not_use_up_the_budget_of_an_sos(hub):
    for event_id in range(200):
        hub.send_event("vest-1", event_id, "tamper")
    hub.send_sos("vest-1", 500)
    assert ("vest-1", 500) in hub.open_alarms() and hub.metrics.refused["event rate"] == 160


def test_repetitions_of_a_known_sos_are_answered_up_to_a_limit(hub):
    frame = hub.send_sos("vest-1", 7)
    hub.take_publications()
    for _ in range(500):
        hub.receive("vest-1", frame)
        hub.take_publications()
    assert hub.metrics.counts["events_repeated"] == 60 and hub.metrics.refused["event rate"] == 440


def test_frames_beyond_the_budget_are_refused_but_an_sos_passes(hub):
    for _ in range(10_005):
        hub.send("vest-1", m.DEVICE_STATUS, hub.status_values())
    assert hub.metrics.refused["frame rate"] == 5
    hub.send_sos("vest-1", 3)
    hub.send("vest-2", m.DEVICE_STATUS, hub.status_values())
    assert ("vest-1", 3) in hub.open_alarms() and hub.metrics.refused["frame rate"] == 5
    hub.clock.now_ms += 100
    hub.send("vest-1", m.DEVICE_STATUS, hub.status_values())
    assert hub.metrics.refused["frame rate"] == 5


def test_forged_and_repeated_frames_do_not_use_up_the_budget(hub):
    frame = hub.send("vest-1", m.DEVICE_STATUS, hub.status_values())
    for i in range(12_000):
        hub.receive("vest-1", frame if i % 2 else frame[:-1] + bytes([frame[-1] ^ 1]))
    assert hub.metrics.refused["frame rate"] == 0 and hub.metrics.refused["frame tag"] == 6000
    hub.send("vest-1", m.DEVICE_STATUS, hub.status_values())
    assert hub.metrics.refused["frame rate"] == 0


def test_empty_frame_and_unknown_device_are_refused_as_before(hub):
    for device, data in (("vest-1", b""), ("nobody", bytes([m.VERSION << 5 | m.EVENT]) + bytes(39))):
        hub.receive(device, data)
    assert hub.metrics.refused["frame length"] == 1 and hub.metrics.refused["frame key"] == 1


# --- dispatchers -----------------------------------------------------------------------------------------------------


class FakeSession:
    """Session of a dispatcher that counts commands and answers."""

    def __init__(self, clock: FakeClock) -> None:
        self.metrics = Metrics()
        self.limits = RequestLimits(clock, self.metrics)
        self.done: list[str] = []

    def command(self, *_) -> int:
        self.done.append("command")
        return 1

    def answer_event(self, *_) -> None:
        self.done.append("answer")

    def release_floor(self, group: int) -> None:
        self.done.append("release")


def perform(session: FakeSession, text: str) -> dict:
    return asyncio.run(requests.perform(session, text))


COMMAND = json.dumps({"do": "command", "id": 1, "device": "vest-1", "action": "locate"})
ANSWER = json.dumps({"do": "answer_event", "id": 2, "device": "vest-1", "event_id": 1, "state": "accepted"})


def test_commands_beyond_the_rate_are_refused_with_the_time_to_wait():
    clock = FakeClock(NOW_MS)
    session = FakeSession(clock)
    replies = [perform(session, COMMAND) for _ in range(606)]
    assert [reply["type"] for reply in replies].count("reply") == 200 == session.done.count("command")
    assert replies[-1] == {
        "type": "refused", "id": 1,
        "error": "too many requests: at most 5 a second after the first 200; retry in 200 ms",
    }  # fmt: skip
    assert session.metrics.refused["dispatcher rate"] == 406
    clock.now_ms += 200
    assert perform(session, COMMAND)["type"] == "reply" and perform(session, COMMAND)["type"] == "refused"


def test_answers_to_events_do_not_wait_for_commands():
    session = FakeSession(FakeClock(NOW_MS))
    for _ in range(1000):
        perform(session, COMMAND)
    assert perform(session, ANSWER)["type"] == "reply"
    assert perform(session, json.dumps({"do": "release", "group": 1}))["type"] == "reply"
    with pytest.raises(UserError, match="too many requests"):
        session.limits.charge("command")
