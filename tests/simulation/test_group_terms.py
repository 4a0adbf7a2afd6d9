"""Devices keep knowing their groups and keys under faults, and voice survives new addresses, in virtual time."""

import os

import pytest
from patrolink.hub.voice.group_terms import GroupTerms
from patrolink_protocol import participant
from ptt_harness import HUB

from tests.simulation.terms_site import BOUND_MS, BUSY_MS, InvariantError, TermsSite, completed

SEEDS = 30
MUTANT_SEEDS = 10


@pytest.fixture(autouse=True)
def without_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def new_folder(tmp_path):
    """Return a function that makes an empty folder."""
    numbers = iter(range(10**6))

    def make():
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return folder

    return make


def test_devices_know_their_groups_and_keys_after_faults(new_folder):
    """`make sim` runs 300 seeds."""
    dropped = 0
    for seed in range(1, SEEDS + 1):
        site = TermsSite(seed, new_folder())
        site.run()
        dropped += site.dropped
    assert dropped > 10 * SEEDS


def test_a_seed_repeats_a_run(new_folder):
    sites = [TermsSite(7, new_folder()) for _ in range(2)]
    for site in sites:
        site.run()
    first, second = ((site.messages, site.dropped, site.hub.metrics.counts) for site in sites)
    assert first == second


class IgnoresReports(GroupTerms):
    def report_received(self, device, room, entries):
        self._known.add(device.name)


class IgnoresExcess(GroupTerms):
    def __init__(self, hub, owns, *args):
        super().__init__(hub, lambda number: False, *args)


class ComparesKeyNumbersOnly(GroupTerms):
    def report_received(self, device, room, entries):
        changed = [entry._replace(digest=self._digest(device.memberships[entry.group]))
                   if entry.group in device.memberships else entry for entry in entries]  # fmt: skip
        super().report_received(device, room, changed)


class IgnoresMissing(GroupTerms):
    def report_received(self, device, room, entries):
        super().report_received(device, 0, entries)


@pytest.mark.parametrize("mutant", [IgnoresReports, IgnoresExcess, ComparesKeyNumbersOnly, IgnoresMissing])
def test_mutant_is_detected(mutant, new_folder):
    with pytest.raises(InvariantError):
        for seed in range(1, MUTANT_SEEDS + 1):
            TermsSite(seed, new_folder(), make_terms=mutant).run()


def reconciled_ms(simulation, limit_ms):
    """Run until all devices know their groups and keys, and return the time that it took."""
    start_ms = simulation.scheduler.now
    while True:
        simulation.scheduler.run_until(simulation.scheduler.now + 500)
        try:
            simulation.check()
            return simulation.scheduler.now - start_ms
        except InvariantError:
            assert simulation.scheduler.now - start_ms < limit_ms


def test_hub_restart_is_reconciled_without_a_flood(new_folder):
    site = TermsSite(1, new_folder(), count=60)
    site.loss = 0
    reconciled_ms(site, 10_000)
    site.scheduler.run_until(60_000)
    messages = site.messages
    for _ in range(3):
        site.stop_hub(clean=True)
        site.scheduler.run_until(site.scheduler.now + 1000)
        site.start_hub()
        site.scheduler.run_until(site.scheduler.now + 60_000)
    site.check()
    assert site.messages == messages, "all devices had the right terms, so none is sent"
    site.stop_hub(clean=True)
    for path in (site.folder / "state").rglob("groups.json"):
        path.unlink()
    site.start_hub()
    assert reconciled_ms(site, 60_000) <= 60_000
    site.scheduler.run_until(site.scheduler.now + 60_000)
    assert site.messages - messages <= 2 * 3 * 60


def test_terms_lost_with_the_session_are_repaired_by_the_next_report(new_folder):
    site = TermsSite(1, new_folder())
    site.loss = 0
    reconciled_ms(site, 10_000)
    vest = site.vests["vest-0"]
    vest.session.is_open = False
    number = completed(site.hub.registry.make_group("search", ["vest-0"])).number
    site.scheduler.run_until(site.scheduler.now + 2000)
    vest.open_session()
    assert reconciled_ms(site, 25_000) < 25_000 and vest.client.find_group(number)
    vest.session.is_open = False
    completed(site.hub.registry.end_group(number))
    site.scheduler.run_until(site.scheduler.now + 2000)
    vest.open_session()
    assert reconciled_ms(site, 25_000) < 25_000 and not vest.client.find_group(number)


# --- new addresses --------------------------------------------------------------------------------------------------


def make_call(new_folder):
    """Return a site in which vest-0 has talked to the others for a second."""
    site = TermsSite(1, new_folder(), count=3)
    site.loss = 0
    site.after_delay = lambda action: site.scheduler.after(60, action)
    reconciled_ms(site, 10_000)
    site.scheduler.run_until(20_000)
    vest = site.vests["vest-0"]
    vest.press()
    site.scheduler.run_until(21_000)
    assert vest.sender.on_air and site.vests["vest-1"].jitter_buffer.packets > 5
    return site


def silence_ms(simulation, vest, limit_ms):
    """Return the longest time without a packet of voice at a device, within a time."""
    packets, last_ms, longest_ms, end_ms = (
        vest.jitter_buffer.packets,
        simulation.scheduler.now,
        0,
        simulation.scheduler.now + limit_ms,
    )
    while simulation.scheduler.now < end_ms:
        simulation.scheduler.run_until(simulation.scheduler.now + 50)
        if vest.jitter_buffer.packets != packets:
            packets, last_ms = vest.jitter_buffer.packets, simulation.scheduler.now
        longest_ms = max(longest_ms, simulation.scheduler.now - last_ms)
    return longest_ms


def test_listener_with_a_new_address_hears_again_within_a_second(new_folder):
    site = make_call(new_folder)
    listener = site.vests["vest-1"]
    for _ in range(3):
        listener.network_address += 1
        assert silence_ms(site, listener, 4000) <= 1000


def test_talker_with_a_new_address_learns_of_a_revoke(new_folder):
    site = make_call(new_folder)
    talker = site.vests["vest-0"]
    talker.network_address += 1
    site.vests["vest-2"].press(b"emergency")
    site.scheduler.run_until(site.scheduler.now + 2500)
    assert not talker.microphone.is_open and site.vests["vest-2"].sender.on_air
    assert talker.client.groups[0].floor.state == participant.NO_PERMISSION


def test_overtaken_packet_does_not_bring_an_old_address_back(new_folder):
    site = make_call(new_folder)
    talker, device = site.vests["vest-0"], site.hub.registry.devices["vest-0"]
    overtaken = []
    deliver = site.deliver
    site.deliver = lambda action, vest: overtaken.append(action) if vest is talker else deliver(action, vest)
    site.scheduler.run_until(site.scheduler.now + 2100)  # a report is on its way
    site.deliver = deliver
    talker.network_address += 1
    addresses = talker.address(HUB[1]), talker.address(HUB[2])
    site.scheduler.run_until(site.scheduler.now + 2500)
    assert (device.floor_address, device.media_address) == addresses
    talker.network_address -= 1  # the source of the packets that were overtaken
    for action in overtaken:
        action()
    assert (device.floor_address, device.media_address) == addresses


def test_bound_is_that_of_the_specification():
    assert BOUND_MS == 70_000 < BUSY_MS
