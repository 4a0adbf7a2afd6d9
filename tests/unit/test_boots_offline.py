"""Many boots without a network: no frame that the broker acknowledges is outside the replay window of the hub."""

import patrolink_enums as enums
import patrolink_messages as m
from agent.link.event_queue import EventQueue
from agent.link.outbox import Outbox
from agent.tracking.counter import Counter
from agent.tracking.device_clock import DeviceClock
from agent.tracking.reporter import Reporter
from memory_storage import MemoryFiles, MemoryStore
from patrolink_protocol import frame
from patrolink_protocol.receiver import Receiver
from seeded_random import seeded
from test_codec import HELLO, STATUS
from test_reporter import KEY, fix


class Life:
    """One boot of a device, and the hub that outlives it."""

    def __init__(self, files, store, outbox_bytes):
        self.outbox = Outbox(files, outbox_bytes)
        self.events = EventQueue(files, lambda: 0)
        channel = frame.Channel(KEY, b"dev-1")
        config = {"batch_fixes": 5, "batch_s": 60}
        self.counter = Counter(store)
        self.reporter = Reporter(
            channel, self.counter, self.outbox, self.events, config, lambda: enums.UNKNOWN, DeviceClock()
        )
        self.reporter.send(m.HELLO, HELLO)
        self.reporter.send(m.DEVICE_STATUS, STATUS)


def publish_all(life, hub, seed):
    """Send what waits in the order of the supervisor. Raises RejectError when the hub refuses a frame."""
    opened = 0
    for source in (life.events, life.outbox):
        data = source.peek()
        while data is not None:
            _, counter, repeated = hub.accept(bytes(data))
            opened += not repeated
            source.acknowledge()
            if source is life.events:
                source.remove(counter)  # the id of an event is its counter: the hub has answered it
            data = source.peek()
    assert len(life.outbox) == 0, seed
    return opened


def test_no_acknowledged_frame_is_refused_as_a_replay():
    for seed in range(6):
        below = seeded(seed)
        files, store = MemoryFiles(), MemoryStore()
        hub = Receiver(KEY, b"dev-1")
        sealed = thinned = opened = 0
        for _ in range(150):
            life = Life(files, store, 1 << 16)
            for i in range(below(40)):
                life.reporter.on_fix(fix(i), 1000 * i)
            if below(6) == 0:
                for _ in range(below(8000)):
                    life.counter.take()  # the indices of push-to-talk
            if below(10) == 0:
                life.reporter.raise_event(enums.EVENT_KIND_SOS, enums.EVENT_CAUSE_BUTTON, 1, 0)
            if below(60) == 0:
                opened += publish_all(life, hub, seed)
            sealed += life.reporter.frames
            thinned += life.outbox.thinned
        sealed -= life.reporter.frames
        thinned -= life.outbox.thinned
        opened += publish_all(life, hub, seed)
        sealed += life.reporter.frames
        thinned += life.outbox.thinned
        # A frame delivered before a restart is queued again, and may then be thinned.
        assert sealed - thinned <= opened <= sealed, (seed, opened, sealed, thinned)


def test_a_hundred_boots_offline_lose_nothing_and_leave_few_files():
    files, store = MemoryFiles(), MemoryStore()
    hub = Receiver(KEY, b"dev-1")
    batches = 0
    for _ in range(100):
        life = Life(files, store, 1 << 18)
        for i in range(40):
            life.reporter.on_fix(fix(i), 1000 * i)
        batches += 9  # the first position is sent at once
        life.reporter.flush()
    life.reporter.raise_event(enums.EVENT_KIND_SOS, enums.EVENT_CAUSE_BUTTON, 1, 0)
    assert len(files.names()) < 60
    assert life.outbox.dropped == 0
    assert publish_all(life, hub, 0) >= batches + 100
