from agent.counter import Counter, StateLost
from agent.link.backoff import Backoff
from agent.link.outbox import Outbox


class MemoryStore:
    def __init__(self):
        self.records = {}

    def read(self, name):
        return self.records.get(name)

    def write(self, name, data):
        self.records[name] = bytes(data)


def test_backoff_doubles_to_its_cap_and_is_jittered():
    low, high = Backoff(lambda n: 0), Backoff(lambda n: n - 1)
    assert [low.next_ms() for _ in range(8)] == [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]
    assert [high.next_ms() for _ in range(8)] == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]
    high.reset()
    assert high.next_ms() == 1000


def test_outbox_is_in_order_and_keeps_until_done():
    box = Outbox(100, 20)
    for i in range(3):
        box.put(bytes([i]) * 10)
    assert box.begin() == b"\0" * 10
    assert box.begin() == b"\0" * 10 and len(box) == 3
    box.done()
    assert len(box) == 2 and box.begin() == b"\1" * 10


def test_a_full_outbox_drops_the_oldest_but_never_the_one_being_sent():
    box = Outbox(24, 20)
    box.put(b"a" * 10)
    assert box.begin() == b"a" * 10
    for c in (b"b", b"c", b"d"):
        box.put(c * 10)
    assert box.dropped == 1 and box.begin() == b"a" * 10
    box.done()
    assert box.begin() == b"c" * 10
    box.put(b"e" * 10)
    box.put(b"f" * 10)
    assert box.begin() == b"c" * 10 and box.dropped == 2
    box.done()
    assert box.begin() == b"e" * 10


def test_a_frame_that_can_never_fit_is_dropped_and_counted():
    box = Outbox(24, 8)
    box.put(b"x" * 9)
    box.put(b"y" * 30)
    assert box.dropped == 2 and len(box) == 0 and box.begin() is None


def test_outbox_against_a_list():
    for seed in range(1, 60):
        state = seed
        size = 30 + seed
        box = Outbox(size, 25)
        model = []
        sending = False
        for step in range(400):
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            what = (state >> 16) % 5
            if what < 3:
                frame = bytes([step & 255]) * (1 + (state >> 20) % 20)
                dropped = box.dropped
                box.put(frame)
                model.append(frame)
                for _ in range(box.dropped - dropped):
                    model.pop(1 if sending else 0)
            elif what == 3:
                got = box.begin()
                assert (got is None) == (not model), seed
                if model:
                    sending = True
                    assert bytes(got) == model[0], (seed, step)
            elif sending:
                box.done()
                model.pop(0)
                sending = False
            assert len(box) == len(model), (seed, step)
            held = sum([len(f) + 2 for f in (model[1:] if sending else model)])
            assert held <= size, seed


def test_counters_never_repeat_over_restarts():
    store = MemoryStore()
    last = -1
    for boot in range(1, 6):
        counter = Counter(store)
        assert counter.boot == boot
        for _ in range(1500):
            value = counter.take()
            assert value > last
            last = value


def test_a_cut_in_any_write_never_repeats_a_counter():
    class Cut(Exception):
        pass

    class TornStore(MemoryStore):
        cut_at = None

        def write(self, name, data):
            if self.cut_at is not None:
                self.records[name] = bytes(data[: self.cut_at])
                raise Cut()
            MemoryStore.write(self, name, data)

    for cut in range(17):
        store = TornStore()
        counter = Counter(store)
        counter = Counter(store)
        last = [counter.take() for _ in range(5)][-1]
        store.cut_at = cut
        try:
            Counter(store)
        except Cut:
            pass
        store.cut_at = None
        assert Counter(store).take() > last, cut


def test_lost_state_is_not_guessed():
    store = MemoryStore()
    Counter(store)
    Counter(store)
    for name in store.records:
        store.records[name] = b"junk"
    try:
        Counter(store)
    except StateLost:
        return
    raise AssertionError("a damaged counter was accepted")
