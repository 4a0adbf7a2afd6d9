"""Back-off of connections, and the persistent frame counter."""

from agent.link.backoff import Backoff
from agent.tracking.counter import Counter, StateLostError
from memory_storage import MemoryStore


def test_backoff_doubles_up_to_its_limit_and_is_random():
    low, high = Backoff(lambda n: 0), Backoff(lambda n: n - 1)
    assert [low.next_ms() for _ in range(8)] == [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]
    assert [high.next_ms() for _ in range(8)] == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]
    high.reset()
    assert high.next_ms() == 1000


def test_counter_does_not_repeat_after_a_restart():
    store = MemoryStore()
    last = -1
    for boot in range(1, 6):
        counter = Counter(store)
        assert counter.boot == boot
        for _ in range(1500):
            value = counter.take()
            assert value > last
            last = value


def test_counter_does_not_repeat_after_a_torn_write():
    class WriteCut(Exception):
        pass

    class TornStore(MemoryStore):
        cut_at = None

        def write(self, name, data):
            if self.cut_at is not None:
                self.records[name] = bytes(data[: self.cut_at])
                raise WriteCut()
            MemoryStore.write(self, name, data)

    for cut in range(17):
        store = TornStore()
        counter = Counter(store)
        counter = Counter(store)
        last = [counter.take() for _ in range(5)][-1]
        store.cut_at = cut
        try:
            Counter(store)
        except WriteCut:
            pass
        store.cut_at = None
        assert Counter(store).take() > last, cut


def test_damaged_counter_raises_state_lost():
    store = MemoryStore()
    Counter(store)
    Counter(store)
    for name in store.records:
        store.records[name] = b"junk"
    try:
        Counter(store)
    except StateLostError:
        return
    raise AssertionError("a damaged counter was accepted")


def test_counter_starts_after_a_torn_first_write():
    for torn in (b"", b"PLC1", bytes(15)):
        store = MemoryStore()
        store.write("counter0", torn)
        counter = Counter(store)
        assert counter.boot == 1 and counter.take() == 0
