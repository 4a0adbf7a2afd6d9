"""The time from the hub: requested only while there is no other, and taken only from a prompt answer."""

import patrolink_messages as m
from agent.tracking.time_sync import TimeSync

DAY_MS = 86400000
UNIX_MS = 20000 * DAY_MS + 1234


class Reporter:
    def __init__(self):
        self.sent = []
        self.times = []
        self.clock = self

    def send(self, kind, values):
        assert kind == m.TIME_SYNC
        self.sent.append(values["originate_ms"])

    def set_network(self, day, ms, now_ms):
        self.times.append((day, ms, now_ms))


class Site:
    def __init__(self):
        self.ms = 5
        self.reporter = Reporter()
        self.sync = TimeSync(self.reporter, lambda: self.ms)

    def run(self, seconds):
        for _ in range(seconds):
            self.sync.poll(self.ms)
            self.ms += 1000

    def answer(self, originate_ms, transmit_ms=UNIX_MS):
        self.sync.on_answer({"originate_ms": originate_ms, "receive_ms": transmit_ms, "transmit_ms": transmit_ms})


def test_a_request_is_sent_at_once_and_then_each_minute():
    site = Site()
    site.run(130)
    assert site.reporter.sent == [5, 60005, 120005]


def test_the_time_is_that_of_the_hub_plus_half_of_the_round_trip():
    site = Site()
    site.run(11)
    site.ms = site.reporter.sent[0] + 601
    site.answer(site.reporter.sent[0])
    assert site.reporter.times == [(20000, 1234 + 300, site.ms)]
    site.answer(site.reporter.sent[0])
    assert len(site.reporter.times) == 1


def test_late_foreign_and_empty_answers_are_ignored():
    site = Site()
    site.answer(0)
    site.run(11)
    asked_ms = site.reporter.sent[0]
    site.answer(asked_ms + 1)
    site.answer(asked_ms, None)
    site.ms = asked_ms + 10_001
    site.answer(asked_ms)
    assert site.reporter.times == []
    site.ms = asked_ms + 60_000
    site.run(1)
    site.ms = site.reporter.sent[1] + 10_000
    site.answer(asked_ms)
    assert site.reporter.times == []
    site.answer(site.reporter.sent[1])
    assert len(site.reporter.times) == 1
