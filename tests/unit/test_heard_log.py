"""Recorded voice is not played as live after a restart of the device."""

from agent.ptt.heard_log import HeardLog
from memory_storage import MemoryStore
from ptt_harness import HUB, LOUD, SHARD, PttHarness, group_message, make_joined, send_burst
from seeded_random import seeded


def restarted(harness):
    """Return a harness whose client has restarted with the same storage, and has joined group 1 again."""
    return make_joined(store=harness.store, index=harness.index)


def replay(harness, recorded):
    """Send recorded packets to the client, and return how many units of samples it plays."""
    count = len(harness.played)
    for port, data in recorded:
        harness.sockets[port].inbox.append(data)
        harness.run(20)
    harness.run(500)
    return len(harness.played) - count


def test_recorded_burst_is_not_played_after_a_restart():
    harness = make_joined()
    recorded = [(HUB[1], harness.send_taken(SHARD + 5))]
    recorded += [(HUB[2], harness.send_media(SHARD + 5, i, LOUD)) for i in range(30)]
    harness.run(1500)
    assert len(harness.played) > 20
    assert replay(harness, recorded) == 0
    for packets in (recorded, recorded[1:]):  # with and without the recorded Floor Taken
        harness = restarted(harness)
        assert replay(harness, packets) == 0
    harness.send_taken(SHARD + 6)
    send_burst(harness, SHARD + 6, 20)
    harness.run(300)
    assert len(harness.played) > 10, "a later burst is live"


def test_recorded_burst_is_not_played_in_a_group_that_is_joined_again():
    harness = make_joined()
    recorded = [(HUB[2], harness.send_media(SHARD + 5, i, LOUD)) for i in range(30)]
    harness.run(500)
    harness.send_idle()
    harness.run(3000)
    harness.client.on_group_message(group_message(ssrc=0x80000077), harness.now_ms)
    harness.run(50)
    assert replay(harness, recorded) == 0


def test_burst_of_another_group_that_began_earlier_is_live():
    harness = make_joined()
    harness.client.on_group_message(group_message(2, rank=0), harness.now_ms)
    harness.run(50)
    harness.send_taken(SHARD + 6, group=2)
    send_burst(harness, SHARD + 6, 5, group=2)
    harness.send_taken(SHARD + 5)
    count = len(harness.played)
    send_burst(harness, SHARD + 5, 20)
    assert len(harness.played) > count + 20 and harness.client.receive_arbiter.group.number == 1


def test_burst_is_live_after_the_hub_has_restarted_its_numbers():
    harness = make_joined()
    send_burst(harness, SHARD + (1 << 27) - 1, 20)
    harness.send_idle()
    harness.run(3000)
    count = len(harness.played)
    send_burst(harness, SHARD + 1, 20)  # its Floor Taken is lost
    harness.run(300)
    assert len(harness.played) > count + 10


def test_log_orders_ssrcs_as_serial_numbers():
    store = MemoryStore()
    top = 1 << 27
    for seed in range(20):
        below = seeded(seed)
        store = MemoryStore()
        counter = below(top)
        for _ in range(30):
            log = HeardLog(store, print)
            ssrc = SHARD | counter
            assert not log.is_past(ssrc), seed
            for _ in range(3):
                log.add(SHARD | counter)
                log.add(SHARD | (counter - below(100)) % top)  # overtaken: changes nothing
                assert not log.is_past(SHARD | counter), seed
                newest = counter
                counter = (counter + 1 + below(1 << 20)) % top
            log = HeardLog(store, print)
            assert log.is_past(SHARD | newest) and log.is_past(SHARD | (newest - below(1 << 20)) % top), seed
            assert not log.is_past((4 << 27) | newest), "another shard"


def test_damaged_storage_does_not_stop_voice():
    store = MemoryStore()
    lines = []
    store.records["heard3_0"] = store.records["heard3_1"] = b"x"
    log = HeardLog(store, lines.append)
    log.add(SHARD + 5)
    assert not log.is_past(SHARD + 5) and log.faults == 1 and len(lines) == 1
    harness = PttHarness(store=store)
    harness.client.on_group_message(group_message(), 0)
    harness.run(50)
    harness.send_taken(SHARD + 5)
    send_burst(harness, SHARD + 5, 20)
    assert len(harness.played) > 20


def test_failed_write_does_not_stop_voice():
    class FullStore(MemoryStore):
        full = False

        def write(self, name, data):
            if self.full:
                raise OSError(28)
            super().write(name, data)

    store = FullStore()
    log = HeardLog(store, print)
    log.add(SHARD + 1)
    store.full = True
    log.add(SHARD + 2)
    log.add(SHARD + 3)
    assert log.faults == 2
    store.full = False
    assert HeardLog(store, print).is_past(SHARD + 1) and not HeardLog(store, print).is_past(SHARD + 3)
