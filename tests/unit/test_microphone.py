"""One microphone for several listeners, against a model of it."""

from agent.audio.microphone import MicrophoneMultiplexer
from allocation import allocated
from seeded_random import seeded

SEED = 8
UNIT = 160
ROOM = 50  # units that wait for a listener


class Microphone:
    """Gives units that are numbered; the last byte of a shorter one is left out."""

    def __init__(self):
        self.buf = bytearray(UNIT)
        self.works = True
        self.is_open = False
        self.waiting = 0  # units to be read
        self.count = 0
        self.opened = 0

    def open(self):
        assert not self.is_open
        self.opened += 1
        self.is_open = self.works
        return self.works

    def read(self):
        assert self.is_open, "it is read, and is closed"
        if not self.waiting:
            return 0
        self.waiting -= 1
        self.count += 1
        n = UNIT - self.count % 3 * 2
        for i in range(n):
            self.buf[i] = (self.count + i) & 255
        return n

    def close(self):
        assert self.is_open
        self.is_open = False


def unit(count):
    return bytes([(count + i) & 255 for i in range(UNIT - count % 3 * 2)])


def heard(tap):
    """Return all that there is for it."""
    out = []
    while True:
        n = tap.read()
        if not n:
            return out
        out.append(bytes(tap.buf[:n]))


def test_all_listeners_hear_the_same_whoever_reads_first():
    mic = Microphone()
    ears = MicrophoneMultiplexer(mic)
    taps = [ears.tap() for _ in range(3)]
    assert [tap.open() for tap in taps] == [True] * 3 and mic.opened == 1
    mic.waiting = 20
    expected = [unit(i) for i in range(1, 21)]
    assert [heard(tap) for tap in taps] == [expected] * 3
    mic.waiting = 1
    assert heard(taps[2]) == heard(taps[0]) == [unit(21)]


def test_the_microphone_is_open_while_anybody_listens():
    mic = Microphone()
    ears = MicrophoneMultiplexer(mic)
    a, b = ears.tap(), ears.tap()
    assert not mic.is_open
    a.close()  # closed already
    assert a.open() and b.open() and a.open() and mic.opened == 1
    a.close()
    assert mic.is_open
    b.close()
    b.close()
    assert not mic.is_open
    assert b.open() and mic.is_open and mic.opened == 2


def test_a_microphone_that_does_not_open_is_told_and_tried_again():
    mic = Microphone()
    ears = MicrophoneMultiplexer(mic)
    a, b = ears.tap(), ears.tap()
    mic.works = False
    assert not a.open() and not b.open() and mic.opened == 2 and not mic.is_open
    b.close()
    mic.works = True
    assert b.open() and a.open() and mic.opened == 3


def test_who_is_late_loses_the_oldest():
    mic = Microphone()
    ears = MicrophoneMultiplexer(mic)
    quick, slow = ears.tap(), ears.tap()
    quick.open()
    slow.open()
    mic.waiting = ROOM + 7
    assert len(heard(quick)) == ROOM + 7
    assert heard(slow) == [unit(i) for i in range(8, ROOM + 8)]


def test_who_opens_hears_nothing_from_before():
    mic = Microphone()
    ears = MicrophoneMultiplexer(mic)
    a, b = ears.tap(), ears.tap()
    a.open()
    b.open()
    mic.waiting = 5
    heard(a)
    b.close()
    assert b.open() and heard(b) == []
    mic.waiting = 2
    assert heard(a) == heard(b) == [unit(6), unit(7)]


def test_who_opens_while_another_listens_hears_nothing_that_waited_to_be_read():
    for again in (False, True):
        mic = Microphone()
        ears = MicrophoneMultiplexer(mic)
        a, b = ears.tap(), ears.tap()
        a.open()
        if again:
            b.open()
        mic.waiting = 30  # the loop was held up
        assert b.open() and heard(b) == []
        mic.waiting = 1
        assert heard(b) == [unit(31)] and heard(a) == [unit(i) for i in range(1, 32)]


def test_any_order_of_calls_is_that_of_the_model():
    below = seeded(SEED)
    mic = Microphone()
    ears = MicrophoneMultiplexer(mic)
    taps = [ears.tap() for _ in range(3)]
    queues = [None] * 3  # numbers of units; None: closed
    for step in range(4000):
        said = "seed %d, step %d" % (SEED, step)
        i = below(3)
        what = below(10)
        if what == 0:
            for count in range(mic.count + 1, mic.count + 1 + mic.waiting) if mic.is_open else ():
                for queue in queues:
                    if queue is not None:
                        queue.append(count)
                        del queue[:-ROOM]
            assert taps[i].open(), said
            queues[i] = []
        elif what == 1:
            taps[i].close()
            queues[i] = None
        elif what < 5 and mic.is_open:
            mic.waiting += below(30)
        elif queues[i] is not None:
            if not queues[i] and mic.waiting:
                for queue in queues:
                    if queue is not None:
                        queue.append(mic.count + 1)
                        del queue[:-ROOM]
            n = taps[i].read()
            assert bytes(taps[i].buf[:n]) == (unit(queues[i].pop(0)) if queues[i] else b""), said
        assert mic.is_open == any([queue is not None for queue in queues]), said


def test_nothing_is_allocated_for_a_unit():
    mic = Microphone()
    ears = MicrophoneMultiplexer(mic)
    a, b = ears.tap(), ears.tap()
    a.open()
    b.open()

    def step():
        mic.waiting = 20
        while a.read():
            pass
        while b.read():
            pass

    assert allocated(step) == 0
