"""Replay window of frame counters."""

from patrolink_protocol.replay import ReplayWindow


def test_host_accepts_each_counter_once_in_any_order():
    w = ReplayWindow(64)
    assert [w.accept(c) for c in (10, 12, 11, 10, 12)] == [w.NEW, w.NEW, w.NEW, w.REPEATED, w.REPEATED]
    assert w.accept(73) == w.NEW and w.accept(10) == w.REPEATED and w.accept(9) == w.OLD
    assert w.accept(74) == w.NEW and w.accept(10) == w.OLD and w.accept(13) == w.NEW and w.accept(13) == w.REPEATED
    assert w.accept(100000) == w.NEW and w.accept(99999) == w.NEW and w.accept(74) == w.OLD


def test_device_accepts_only_increasing_counters():
    w = ReplayWindow()
    assert [w.accept(c) for c in (0, 0, 5, 4, 5, 6)] == [w.NEW, w.REPEATED, w.NEW, w.OLD, w.REPEATED, w.NEW]
    assert ReplayWindow(0, 6).accept(6) == w.REPEATED


def test_window_equals_a_set_of_counters():
    state = 7
    for size in (1, 3, 8, 64):
        w, accepted, highest = ReplayWindow(size), set(), -1
        for _ in range(2000):
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            counter = max(0, highest + (state >> 12) % 20 - 12)
            outcome = w.accept(counter)
            if counter in accepted and (counter > highest - size):
                expected = w.REPEATED
            elif counter <= highest - size:
                expected = w.OLD
            else:
                expected = w.NEW
            assert outcome == expected, (size, counter, highest)
            if outcome == w.NEW:
                accepted.add(counter)
            highest = max(highest, counter)
