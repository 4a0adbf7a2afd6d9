"""Groups, memberships and keys over restarts, and the terms that are sent to devices."""

import asyncio
import json
import secrets
import stat
from collections import Counter

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from patrolink.core.clock import SystemClock
from patrolink.core.errors import UserError
from patrolink.hub.config import HubContext
from patrolink.hub.infra import persistence
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.group_registry import GroupRegistry
from patrolink.hub.voice.group_terms import TURN_MESSAGES, TURN_S, GroupTerms
from patrolink.hub.voice.terms_queue import DeviceGroup, TermsQueue
from patrolink_protocol import group_report

from tests.support import hub_parts
from tests.support.hub_parts import FakeClock

site_folder = hub_parts.site_folder


def registry_of(folder, announced=None, barred=()):
    """Return the group registry of a site. It appends announcements to `announced` as (device, group)."""
    context = HubContext(folder / "site.toml")

    def announce(device, number):
        if announced is not None:
            announced.append((device, number))

    return GroupRegistry(context, SystemClock(), secrets.token_bytes, barred, announce)


class FakeSender:
    """Records the messages that are sent to devices."""

    def __init__(self):
        self.sent = []

    def send(self, device, kind, values):
        self.sent.append((device, kind, values))


def terms_of(folder, sender=None, clock=None):
    context = HubContext(folder / "site.toml")
    return GroupTerms(context.hub, context.owns_group, sender or FakeSender(), clock or FakeClock(0), Metrics())


def all_terms(folder, device):
    terms = terms_of(folder)
    return [terms.term(device, number) for number in device.memberships]


def test_memberships_ssrcs_and_keys_survive_a_restart(site_folder):
    first = registry_of(site_folder)
    group = first.groups[1]
    group.floor.start(0)
    burst = first._ssrcs.new_burst_ssrc(False)
    second = registry_of(site_folder)
    terms = [all_terms(site_folder, registry.devices["vest-1"]) for registry in (first, second)]
    wrapped = [[entry.pop("wrapped") for entry in entries] for entries in terms]
    assert terms[0] == terms[1] and [entry["kind"] for entry in terms[0]] == [0, 1]
    key = first.devices["vest-1"].key.derive(b"patrolink-ptt-wrap")[:16]
    assert [aes_key_unwrap(key, w) for w in wrapped[0]] == [aes_key_unwrap(key, w) for w in wrapped[1]]
    assert stat.S_IMODE((site_folder / "state" / "shard-0" / "groups.json").stat().st_mode) == 0o600
    assert burst < second._ssrcs.new_burst_ssrc(False) < 1 << 31


def test_dynamic_group_is_created_announced_and_ended(site_folder):
    announced = []
    registry = registry_of(site_folder, announced)

    def announcements():
        terms = [(device.name, terms_of(site_folder).term(device, number)["rights"]) for device, number in announced]
        announced.clear()
        return terms

    number = asyncio.run(registry.make_group("search", ["vest-1", "vest-2", "vest-1"])).number
    assert announcements() == [("vest-1", 7), ("vest-2", 7)] and registry.groups[number].kind == "dynamic"
    restarted = registry_of(site_folder)
    assert list(restarted.groups[number].memberships) == ["vest-1", "vest-2"]
    asyncio.run(registry.end_group(number))
    assert announcements() == [("vest-1", 0), ("vest-2", 0)]
    restarted = registry_of(site_folder)
    assert number not in restarted.groups and number not in restarted.devices["vest-1"].memberships
    assert asyncio.run(restarted.make_group("search", ["vest-1"])).number != number
    for invalid_call in (
        lambda: asyncio.run(registry.end_group(1)),
        lambda: asyncio.run(registry.make_group("x", ["nobody"])),
        lambda: asyncio.run(registry.make_group("", ["vest-1"])),
    ):
        with pytest.raises(UserError):
            invalid_call()


def test_removal_from_the_site_file_is_announced_and_renews_the_key(site_folder):
    key = registry_of(site_folder).groups[1].key.number
    site = site_folder / "site.toml"
    site.write_text(site.read_text().replace('["vest-1", "vest-2"]', '["vest-1"]'))
    announced = []
    registry = registry_of(site_folder, announced)
    assert [(device.name, number) for device, number in announced] == [("vest-2", 1)]
    assert registry.groups[1].key.number == key + 1
    announced.clear()
    site.write_text(site.read_text().replace("id = 1", "id = 7"))
    registry_of(site_folder, announced)
    assert {(device.name, number) for device, number in announced} == {("vest-1", 1), ("police-1", 1)}
    announced.clear()
    registry_of(site_folder, announced)
    assert announced == [], "a removal is announced once; reports of the devices repair the rest"


def test_each_group_number_has_one_hub_that_decides_on_it(site_folder):
    path = site_folder / "site.toml"
    path.write_text(path.read_text() + '\n[[hub]]\nshard = 4\nhost = "h"\nfloor_port = 6004\nmedia_port = 6006\n')
    site = HubContext(path, 4).site
    dynamic, private = 1 << 30, 1 << 31
    shards = {1: 0, 999: 0, dynamic | 4 << 26 | 5: 4, dynamic | 5: 0, dynamic | 9 << 26 | 5: 0, private | 4 << 26: 0}
    assert {number: site.shard_of(number) for number in shards} == shards
    assert HubContext(path, 4).owns_group(dynamic | 4 << 26) and not HubContext(path, 0).owns_group(dynamic | 4 << 26)


def key_numbers(registry) -> list[int]:
    return [group.key.number for group in registry.groups.values()]


def test_all_keys_are_renewed_before_burst_numbers_restart(site_folder):
    keys = key_numbers(registry_of(site_folder))
    (site_folder / "state" / "shard-0" / "burst.json").write_text(str((1 << 27) - 3))
    announced = []
    registry = registry_of(site_folder, announced)
    numbers = [registry._ssrcs.new_burst_ssrc(False) for _ in range(5)]
    assert numbers[-2:] == [1, 2] and len(set(numbers)) == 5
    assert key_numbers(registry) == [n + 1 for n in keys]
    assert len(announced) == len(registry.memberships)


def test_all_keys_are_renewed_in_time_while_the_hub_runs(site_folder):
    keys = key_numbers(registry_of(site_folder))
    (site_folder / "state" / "shard-0" / "burst.json").write_text(str((1 << 27) - (1 << 16) - 1))
    announced = []
    registry = registry_of(site_folder, announced)
    asyncio.run(registry.prepare())
    assert key_numbers(registry) == keys and announced == []
    registry._ssrcs.new_burst_ssrc(False)
    for _ in range(2):
        asyncio.run(registry.prepare())
        assert key_numbers(registry) == [n + 1 for n in keys], "once"
    assert len(announced) == len(registry.memberships)
    assert key_numbers(registry_of(site_folder)) == [n + 2 for n in keys], "not known after a restart"


def test_changes_are_stored_before_they_are_announced_and_voice_goes_on(site_folder):
    """What is announced is on storage: the hub may be killed at any time."""
    stored = []

    async def run():
        storage_works, write_started = asyncio.Event(), asyncio.Event()

        async def run_blocking(job):
            write_started.set()
            await storage_works.wait()
            job()
            stored.append(json.loads(path.read_text()))

        announced = []
        context, path = HubContext(site_folder / "site.toml"), site_folder / "state" / "shard-0" / "groups.json"
        registry = GroupRegistry(
            context, SystemClock(), secrets.token_bytes, (),
            lambda device, number: announced.append((device.name, number, len(stored))), run_blocking,
        )  # fmt: skip
        making = [asyncio.ensure_future(registry.make_group(name, ["vest-1"])) for name in ("first", "second")]
        renewing = asyncio.ensure_future(registry.replace_keys([registry.groups[1]]))
        await write_started.wait()
        assert announced == [] and registry._ssrcs.new_burst_ssrc(False), "bursts are granted meanwhile"
        registry.expel("vest-2")
        storage_works.set()
        groups = [(await job).number for job in making]
        await renewing
        assert [entry for entry in announced if entry[1] in groups] == [
            ("vest-1", number, count) for count, number in enumerate(groups, 1)
        ]
        assert {count for name, _, count in announced if name == "police-1"} == {3}
        assert stored[2]["groups"]["1"]["key"] == registry.groups[1].key.number
        assert "vest-2" not in stored[2]["groups"]["1"]["seats"], "an encoded group is not used after a change"
        assert set(stored[1]["groups"]) == {str(number) for number in registry.groups}

    asyncio.run(run())


def test_terms_are_sent_after_a_hello_and_repeated_until_reports_agree(site_folder):
    sender, clock = FakeSender(), FakeClock(10_000)
    device = registry_of(site_folder).devices["vest-1"]
    terms = terms_of(site_folder, sender, clock)

    def sent():
        terms.send_next()
        numbers = [values["group"] for _, _, values in sender.sent]
        sender.sent.clear()
        return numbers

    terms.frame_received(device, False)
    numbers = list(device.memberships)
    assert len(numbers) == 2 and sent() == numbers, "to a device that is not known since the start of the hub"
    terms.frame_received(device, False)
    assert sent() == []
    terms.report_received(device, 8, [])
    assert sent() == [], "the report may have crossed the terms"
    clock.now_ms += 5000
    assert sent() == numbers
    clock.now_ms += 60_000
    terms.report_received(device, 1, [])
    assert sent() == numbers[:1], "the device has no room for more"
    terms.frame_received(device, True)
    clock.now_ms += 1000
    assert sorted(sent()) == numbers


def test_differing_key_terms_and_ended_groups_are_repaired(site_folder):
    sender, clock = FakeSender(), FakeClock(10_000)
    registry = registry_of(site_folder)
    device = registry.devices["vest-1"]
    terms = terms_of(site_folder, sender, clock)
    ended = asyncio.run(registry.make_group("search", ["vest-1"])).number
    asyncio.run(registry.end_group(ended))

    def entry(number, **changes):
        membership = device.memberships[number]
        key = changes.pop("key", membership.group.key.number)
        values = {**terms.term(device, number), **changes.pop("values", {})}
        digest = group_report.terms_digest(values, changes.pop("secret", membership.group.key.secret))
        return group_report.pack_entry(number, key, digest)

    def repaired(*entries):
        clock.now_ms += 10_000
        terms.report_received(device, 8, group_report.unpack_entries(b"".join(entries)))
        terms.send_next()
        result = [(values["group"], bool(values["rights"])) for _, _, values in sender.sent]
        sender.sent.clear()
        return result

    own, private = device.memberships
    assert repaired(entry(own), entry(private)) == []
    assert repaired(entry(own, key=0), entry(private)) == [(own, True)], "the device cannot use the key"
    assert repaired(entry(own, key=7), entry(private)) == [(own, True)]
    assert repaired(entry(own, secret=bytes(30)), entry(private)) == [(own, True)], "another key with this number"
    for name in ("kind", "rights", "priority", "rank", "codec", "ssrc", "hub_ssrc", "floor_port", "media_port"):
        changed = {name: 1 - terms.term(device, own)[name] if name == "codec" else terms.term(device, own)[name] ^ 1}
        assert repaired(entry(own, values=changed), entry(private)) == [(own, True)], name
    for name in ("host", "name"):
        assert repaired(entry(own, values={name: b"x"}), entry(private)) == [(own, True)], name
    stale = group_report.pack_entry(ended, 1, bytes(4))
    assert repaired(entry(own), stale, entry(private)) == [(ended, False)]
    assert repaired(entry(private)) == [(own, True)]


def test_made_up_groups_of_a_device_are_answered_at_a_bounded_rate(site_folder):
    sender, clock = FakeSender(), FakeClock(10_000)
    device = registry_of(site_folder).devices["vest-1"]
    terms = terms_of(site_folder, sender, clock)
    for number in range(1000):  # ten reports in a second, with other groups in each
        clock.now_ms += 100
        groups = range(1000 + 25 * number, 1025 + 25 * number)
        terms.report_received(device, 0, [group_report.Entry(group, 1, bytes(4)) for group in groups])
        terms.send_next()
    assert 25 * 19 <= len(sender.sent) <= 25 * 20
    assert all(not values["rights"] for _, _, values in sender.sent)


def test_restart_with_1124_devices_is_reconciled_at_a_bounded_rate():
    queue, sent = TermsQueue(), Counter()
    for number in range(1124):
        for group in range(3):
            queue.add_repeat(DeviceGroup(f"vest-{number}", group), 0)
    now_ms = 0
    while len(queue):
        taken = queue.take(now_ms, TURN_MESSAGES)
        assert len(taken) <= TURN_MESSAGES
        sent.update(taken)
        now_ms += round(1000 * TURN_S)
        if now_ms % 500 == 0:  # a change does not wait for the repeats
            queue.add_change(DeviceGroup("vest-0", 9))
            assert queue.take(now_ms, TURN_MESSAGES)[0] == DeviceGroup("vest-0", 9)
    assert len(sent) >= 3 * 1124 - 30 * TURN_MESSAGES and now_ms < 15_000 and max(sent.values()) == 1


def test_first_start_reserves_numbers_with_few_writes(tmp_path, monkeypatch):
    """A write per block of numbers makes the first start of a large site slow."""
    writes = []
    replace_file = persistence.replace_file
    monkeypatch.setattr(persistence, "replace_file", lambda *args: (writes.append(args[0].name), replace_file(*args)))
    counter = persistence.PersistentCounter(tmp_path / "n.json", 256, 1)
    counter.prepare(30_000)
    numbers = [counter.allocate() for _ in range(30_000)]
    assert numbers == list(range(1, 30_001)) and writes == ["n.json"]
    assert persistence.PersistentCounter(tmp_path / "n.json", 256, 1).next_number > 30_000
