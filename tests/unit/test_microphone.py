"""Microphone multiplexer: several channels of one microphone, also against a model."""

from agent.audio.microphone import MicrophoneMultiplexer
from allocation import allocated
from seeded_random import seeded

SEED = 8
UNIT_BYTES = 160
QUEUE_UNITS = 50


class NumberedMicrophone:
    """Microphone whose units contain their number; some units are shorter."""

    def __init__(self):
        self.buf = bytearray(UNIT_BYTES)
        self.works = True
        self.is_open = False
        self.waiting = 0  # units that can be read
        self.count = 0  # units that were read
        self.open_calls = 0

    def open(self):
        assert not self.is_open
        self.open_calls += 1
        self.is_open = self.works
        return self.works

    def read(self):
        assert self.is_open, "read while closed"
        if not self.waiting:
            return 0
        self.waiting -= 1
        self.count += 1
        n = UNIT_BYTES - self.count % 3 * 2
        for i in range(n):
            self.buf[i] = (self.count + i) & 255
        return n

    def close(self):
        assert self.is_open
        self.is_open = False


def unit(number):
    """Return the bytes of unit `number`."""
    return bytes([(number + i) & 255 for i in range(UNIT_BYTES - number % 3 * 2)])


def read_all(channel):
    """Return all units that can be read from the channel."""
    units = []
    while True:
        n = channel.read()
        if not n:
            return units
        units.append(bytes(channel.buf[:n]))


def make_channels(count):
    """Return (NumberedMicrophone, channels of its multiplexer)."""
    microphone = NumberedMicrophone()
    multiplexer = MicrophoneMultiplexer(microphone)
    return microphone, [multiplexer.make_channel() for _ in range(count)]


def test_all_channels_get_the_same_units_in_any_read_order():
    microphone, channels = make_channels(3)
    assert [channel.open() for channel in channels] == [True] * 3 and microphone.open_calls == 1
    microphone.waiting = 20
    expected = [unit(i) for i in range(1, 21)]
    assert [read_all(channel) for channel in channels] == [expected] * 3
    microphone.waiting = 1
    assert read_all(channels[2]) == read_all(channels[0]) == [unit(21)]


def test_microphone_is_open_while_any_channel_is():
    microphone, (a, b) = make_channels(2)
    assert not microphone.is_open
    a.close()  # the channel is not open
    assert a.open() and b.open() and a.open() and microphone.open_calls == 1
    a.close()
    assert microphone.is_open
    b.close()
    b.close()
    assert not microphone.is_open
    assert b.open() and microphone.is_open and microphone.open_calls == 2


def test_open_fails_with_the_microphone_and_can_be_retried():
    microphone, (a, b) = make_channels(2)
    microphone.works = False
    assert not a.open() and not b.open() and microphone.open_calls == 2 and not microphone.is_open
    b.close()
    microphone.works = True
    assert b.open() and a.open() and microphone.open_calls == 3


def test_full_queue_drops_the_oldest_units():
    microphone, (fast, slow) = make_channels(2)
    fast.open()
    slow.open()
    microphone.waiting = QUEUE_UNITS + 7
    assert len(read_all(fast)) == QUEUE_UNITS + 7
    assert read_all(slow) == [unit(i) for i in range(8, QUEUE_UNITS + 8)]


def test_reopened_channel_gets_no_units_queued_before():
    microphone, (a, b) = make_channels(2)
    a.open()
    b.open()
    microphone.waiting = 5
    read_all(a)
    b.close()
    assert b.open() and read_all(b) == []
    microphone.waiting = 2
    assert read_all(a) == read_all(b) == [unit(6), unit(7)]


def test_opened_channel_gets_no_units_that_waited_in_the_microphone():
    for is_reopened in (False, True):
        microphone, (a, b) = make_channels(2)
        a.open()
        if is_reopened:
            b.open()
        microphone.waiting = 30  # the main loop was late
        assert b.open() and read_all(b) == []
        microphone.waiting = 1
        assert read_all(b) == [unit(31)] and read_all(a) == [unit(i) for i in range(1, 32)]


def test_random_calls_match_the_model():
    below = seeded(SEED)
    microphone, channels = make_channels(3)
    queues = [None] * 3  # model: numbers of queued units; None: closed

    def queue_everywhere(number):
        for queue in queues:
            if queue is not None:
                queue.append(number)
                del queue[:-QUEUE_UNITS]

    for step in range(4000):
        context = "seed %d, step %d" % (SEED, step)
        i = below(3)
        action = below(10)
        if action == 0:
            for number in range(microphone.count + 1, microphone.count + 1 + microphone.waiting):
                if microphone.is_open:
                    queue_everywhere(number)
            assert channels[i].open(), context
            queues[i] = []
        elif action == 1:
            channels[i].close()
            queues[i] = None
        elif action < 5 and microphone.is_open:
            microphone.waiting += below(30)
        elif queues[i] is not None:
            if not queues[i] and microphone.waiting:
                queue_everywhere(microphone.count + 1)
            n = channels[i].read()
            assert bytes(channels[i].buf[:n]) == (unit(queues[i].pop(0)) if queues[i] else b""), context
        assert microphone.is_open == any([queue is not None for queue in queues]), context


def test_a_unit_allocates_nothing():
    microphone, (a, b) = make_channels(2)
    a.open()
    b.open()

    def step():
        microphone.waiting = 20
        while a.read():
            pass
        while b.read():
            pass

    assert allocated(step) == 0
