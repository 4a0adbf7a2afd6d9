"""Groups, memberships and keys over restarts, and the terms that are sent to devices."""

import secrets
import stat

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from patrolink.core.clock import SystemClock
from patrolink.core.errors import UserError
from patrolink.hub.config import HubContext
from patrolink.hub.infra import persistence
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.group_registry import GroupRegistry
from patrolink.hub.voice.group_terms import GroupTerms

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
    return GroupTerms(HubContext(folder / "site.toml").hub, sender or FakeSender(), clock or FakeClock(0), Metrics())


def all_terms(folder, device):
    terms = terms_of(folder)
    return [terms.term(device, number) for number in [*device.left_groups, *device.memberships]]


def test_memberships_ssrcs_and_keys_survive_a_restart(site_folder):
    first = registry_of(site_folder)
    group = first.groups[1]
    group.floor.start(0)
    burst = first._new_burst_ssrc(False)
    second = registry_of(site_folder)
    terms = [all_terms(site_folder, registry.devices["vest-1"]) for registry in (first, second)]
    wrapped = [[entry.pop("wrapped") for entry in entries] for entries in terms]
    assert terms[0] == terms[1] and [entry["kind"] for entry in terms[0]] == [0, 1]
    key = first.devices["vest-1"].key.derive(b"patrolink-ptt-wrap")[:16]
    assert [aes_key_unwrap(key, w) for w in wrapped[0]] == [aes_key_unwrap(key, w) for w in wrapped[1]]
    assert stat.S_IMODE((site_folder / "state" / "shard-0" / "groups.json").stat().st_mode) == 0o600
    assert burst < second._new_burst_ssrc(False) < 1 << 31


def test_dynamic_group_is_created_announced_and_ended(site_folder):
    announced = []
    registry = registry_of(site_folder, announced)

    def announcements():
        terms = [(device.name, terms_of(site_folder).term(device, number)["rights"]) for device, number in announced]
        announced.clear()
        return terms

    number = registry.make_group("search", ["vest-1", "vest-2", "vest-1"]).number
    assert announcements() == [("vest-1", 7), ("vest-2", 7)] and registry.groups[number].kind == "dynamic"
    restarted = registry_of(site_folder)
    assert list(restarted.groups[number].memberships) == ["vest-1", "vest-2"]
    registry.end_group(number)
    assert announcements() == [("vest-1", 0), ("vest-2", 0)]
    restarted = registry_of(site_folder)
    assert number not in restarted.groups and restarted.devices["vest-1"].left_groups == [number]
    assert restarted.make_group("search", ["vest-1"]).number != number
    for invalid_call in (
        lambda: registry.end_group(1),
        lambda: registry.make_group("x", ["nobody"]),
        lambda: registry.make_group("", ["vest-1"]),
    ):
        with pytest.raises(UserError):
            invalid_call()


def test_left_groups_of_a_device_without_a_key_are_preserved(site_folder):
    registry = registry_of(site_folder)
    number = registry.make_group("search", ["vest-2"]).number
    registry.end_group(number)
    site, keys = site_folder / "site.toml", site_folder / "keys.toml"
    site_text, keys_text = site.read_text(), keys.read_text()
    site.write_text(site_text.replace('["vest-1", "vest-2"]', '["vest-1"]'))
    keys.write_text("".join(line for line in keys_text.splitlines(keepends=True) if "vest-2" not in line))
    assert "vest-2" not in registry_of(site_folder).devices
    site.write_text(site_text)
    keys.write_text(keys_text)
    assert number in registry_of(site_folder).devices["vest-2"].left_groups


def test_all_keys_are_renewed_before_burst_numbers_restart(site_folder):
    (site_folder / "state" / "shard-0").mkdir(parents=True)
    (site_folder / "state" / "shard-0" / "burst.json").write_text(str((1 << 27) - 3))
    announced = []
    registry = registry_of(site_folder, announced)
    keys = [group.key.number for group in registry.groups.values()]
    numbers = [registry._new_burst_ssrc(False) for _ in range(5)]
    assert numbers[-2:] == [1, 2] and len(set(numbers)) == 5
    assert [group.key.number for group in registry.groups.values()] == [n + 1 for n in keys]
    assert len(announced) == len(registry.memberships)


def test_terms_are_repeated_while_a_device_is_absent(site_folder):
    sender, clock = FakeSender(), FakeClock(10_000)
    device = registry_of(site_folder).devices["vest-1"]
    terms = terms_of(site_folder, sender, clock)
    sent_minutes = []
    for _ in range(2 * 3600):  # one frame per second, and no packet on the floor socket
        terms.frame_received(device, False)
        sent_minutes += [(clock.now_ms - 10_000) // 60_000] * len(sender.sent)
        sender.sent.clear()
        clock.now_ms += 1000
    times = sorted(set(sent_minutes))
    assert times == [0, 1, 3, 7, 15, 31, 63] and len(sent_minutes) == 2 * len(times), "each repetition has both groups"
    terms.device_appeared(device)
    assert len(sender.sent) == 2, "the last announcement may be lost, so it is repeated"
    device.last_seen_ms = clock.now_ms
    clock.now_ms += 10**8
    terms.frame_received(device, False)
    assert len(sender.sent) == 2, "no repetition to a device that is present"
    terms.frame_received(device, True)
    assert len(sender.sent) == 4


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
