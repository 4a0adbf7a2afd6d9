"""The emulated network: its effect on bytes, measured."""

import pytest
from patrolink.emulator.network.carrier import PROFILES, Network, Profile
from patrolink.emulator.scheduler import Scheduler

EVEN = Profile(100, 0, 0.0, 64, 64)


class Far:
    def __init__(self, connection, scheduler):
        self.connection, self.scheduler = connection, scheduler
        self.got: list[tuple[float, bytes]] = []
        self.closed = False

    def feed(self, data):
        self.got.append((self.scheduler.now, data))

    def close(self):
        self.closed = True


def opened(profile, kind="TCP", seed=1):
    scheduler = Scheduler()
    far: list[Far] = []

    def dial(kind, host, port, connection):
        if port == 9:
            return None
        far.append(Far(connection, scheduler))
        return far[-1]

    network = Network(scheduler, profile, seed, dial)
    results: list = []
    network.connect(kind, "h", 1, results.append)
    scheduler.run_until(1000)
    return scheduler, network, results[0], far[0]


def test_bandwidth_and_delay():
    scheduler, network, connection, far = opened(EVEN)
    for _ in range(10):
        connection.send(bytes(960))  # 1000 bytes with headers take 125 ms at 64 kbit/s
    scheduler.run_until(10_000)
    assert [round(at - 1000) for at, _ in far.got] == [50 + 125 * i for i in range(1, 11)]


@pytest.mark.parametrize("seed", range(5))
def test_tcp_is_complete_and_in_order_under_loss(seed):
    scheduler, network, connection, far = opened(Profile(80, 60, 0.3, 1000, 1000), seed=seed)
    network.random.seed(seed)
    back: list[bytes] = []
    connection.on_data = back.append
    for i in range(100):
        scheduler.at(1000 + i * 100, lambda i=i: connection.send(b"%d," % i))
        scheduler.at(1000 + i * 100, lambda i=i: connection.down(b"%d;" % i))
    scheduler.at(2000, lambda: network.outage(3000))
    scheduler.at(8000, lambda: network.gap(700))
    scheduler.run_until(120_000)
    assert b"".join(data for _, data in far.got) == b"".join(b"%d," % i for i in range(100)), seed
    assert b"".join(back) == b"".join(b"%d;" % i for i in range(100)), seed
    assert not any(2000 <= at < 5000 for at, _ in far.got)


def test_udp_loses_and_duplicates():
    scheduler, network, connection, far = opened(Profile(80, 60, 0.2, 10_000, 10_000), "UDP")
    network.duplicate = 0.1
    for i in range(2000):
        connection.send(b"%d" % i)
    scheduler.run_until(10_000)
    kinds = {data for _, data in far.got}
    assert 1520 < len(kinds) < 1680 and 100 < len(far.got) - len(kinds) < 230
    assert [data for _, data in far.got] != sorted((data for _, data in far.got), key=int)


def test_seeded_flow_is_independent_of_other_traffic():
    def fate(beside, seed):
        scheduler, network, connection, far = opened(Profile(80, 60, 0.2, 1e10, 1e10), "UDP")
        other: list = []
        network.connect("TCP", "h", 1, other.append)
        network.connect("UDP", "h", 2, other.append)
        scheduler.run_until(2000)
        connection.reseed(seed)
        came: dict[bytes, float] = {}
        connection.on_data = lambda data: came.update({data: scheduler.now})
        for i in range(500):
            connection.send(b"up %d" % i)
            connection.down(b"down %d" % i)
            for item in other if beside else ():
                item.send(bytes(1000))
        scheduler.run_until(10_000)
        assert 350 < len(far.got) < 450 and 350 < len(came) < 450
        return {**{data: at for at, data in far.got}, **came}

    alone = fate(False, "a")
    assert fate(True, "a") == pytest.approx(alone, abs=0.1)
    assert fate(False, "b").keys() != alone.keys()
    assert {key[3:] for key in alone if key[:1] == b"u"} != {key[5:] for key in alone if key[:1] == b"d"}


def test_address_translation_forgets_a_silent_flow():
    scheduler, network, connection, far = opened(EVEN, "UDP")
    received: list[bytes] = []
    connection.on_data = received.append
    connection.send(b"hello")
    scheduler.run_until(25_000)
    connection.down(b"in time")
    scheduler.run_until(40_000)
    connection.down(b"too late")
    scheduler.run_until(50_000)
    assert received == [b"in time"]
    connection.send(b"keepalive")
    scheduler.run_until(51_000)
    connection.down(b"again")
    scheduler.run_until(60_000)
    assert received == [b"in time", b"again"]


def test_expired_nat_binding_of_tcp_stays_expired():
    scheduler, network, connection, far = opened(EVEN)
    scheduler.run_until(700_000)
    connection.send(b"late")
    scheduler.run_until(800_000)
    assert far.got == [] and connection.dead


def test_lost_pdp_context_kills_connections_silently():
    scheduler, network, connection, far = opened(EVEN)
    network.drop_pdp()
    connection.send(b"x")
    far.connection.down(b"y")
    scheduler.run_until(60_000)
    assert far.got == [] and not far.closed


def test_closed_port():
    scheduler, network, _, _ = opened(EVEN)
    results: list = []
    network.connect("TCP", "h", 9, results.append)
    scheduler.run_until(20_000)
    assert results == [None]


@pytest.mark.parametrize("name", PROFILES)
def test_coverage_matches_profile(name):
    """Coverage over 200 hours matches the profile's means within a tenth."""
    scheduler = Scheduler()
    profile = PROFILES[name]
    network = Network(scheduler, profile, 1, lambda *a: None)
    covered = 0
    samples = 200 * 360
    for i in range(samples):
        scheduler.run_until(i * 10_000)
        covered += network.covered
    if profile.outage_every_s is None:
        assert covered == samples
    elif name == "dead":
        assert covered / samples < 0.2
    else:
        away = profile.outage_s / profile.outage_every_s
        assert abs((1 - covered / samples) - away) < 0.1 * away + 0.01
