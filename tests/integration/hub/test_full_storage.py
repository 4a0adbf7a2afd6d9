"""A hub whose storage is full: nothing is used twice, emergencies pass, and the rest is written later."""

import asyncio
import errno
import json
import os
import random
import secrets

import patrolink_messages
import pytest
from patrolink.core import durable_files
from patrolink.core.capture import Record
from patrolink.core.decoder import Decoder
from patrolink.core.errors import UserError
from patrolink.hub.config import HubContext
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.incidents.alarms import Alarms
from patrolink.hub.incidents.device_warnings import DeviceWarnings
from patrolink.hub.incidents.service import IncidentService
from patrolink.hub.infra import persistence
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.replay_store import ReplayStore
from patrolink.hub.voice.group_registry import GroupRegistry
from patrolink_protocol import codec, frame

from tests.support import hub_parts
from tests.support.hub_parts import FakeClock

site_folder = hub_parts.site_folder
NOW_MS = 1_795_000_000_000
SYSTEM_CALLS = ("open", "write", "fsync", "posix_fallocate")
ADDED_FLAGS = os.O_WRONLY | os.O_RDWR


class FullStorage:
    """Makes calls that write fail, as on a full file system.

    Attributes:
        failure_rate: Part of the calls that fail.
        needs_reserve: Only the space of the reserve is left: calls fail while the reserve has it.
    """

    def __init__(self, monkeypatch, folder, rng: random.Random) -> None:
        self.failure_rate, self.needs_reserve = 0.0, False
        self._rng, self._folder = rng, folder
        for name in SYSTEM_CALLS:
            monkeypatch.setattr(os, name, self._wrap(getattr(os, name), name))
        monkeypatch.setattr(os, "fsync", self._wrap(lambda handle: None, "fsync"))  # takes most of the time

    def _wrap(self, call, name):
        def wrapped(*args, **kwargs):
            writes = name != "open" or args[1] & ADDED_FLAGS
            if writes and self._is_full(takes_space=name in ("write", "fsync")):
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*args, **kwargs)

        return wrapped

    def _is_full(self, takes_space: bool) -> bool:
        if self.needs_reserve:
            return takes_space and (self._folder / persistence.RESERVE_FILE).stat().st_size > 0
        return self._rng.random() < self.failure_rate


class FakeSender:
    """Records the answers to devices."""

    def __init__(self) -> None:
        self.states: list[int] = []

    def send(self, device, kind, values) -> None:
        self.states.append(values["state"])

    def acknowledge_event(self, device, event_id) -> None:
        self.states.append(1)


class Hub:
    """The parts of a hub that keep state, and everything that they have used."""

    def __init__(self, context: HubContext, rng: random.Random) -> None:
        self._context, self._rng = context, rng
        self.clock, self.sender = FakeClock(NOW_MS), FakeSender()
        self.bursts, self.ssrcs, self.indices, self.counters, self.commands = [], [], [], [], []
        self.committed: set[int] = set()
        self.raised: dict[int, dict] = {}
        self.answered: list[int] = []  # events, by dispatchers
        self.answered_since_start: list[int] = []
        self.start()

    def start(self) -> None:
        self.answered_since_start = []
        folder, self.metrics = self._context.state, Metrics()
        self.registry = GroupRegistry(self._context, self.clock, secrets.token_bytes, (), lambda device, number: None)
        self.downlink = persistence.PersistentCounter(folder / "downlink.json", 64)
        self.ids = persistence.PersistentCounter(folder / "command.json", 64, 1)
        self.rtcp_index = self.registry.rtcp_indices.first
        self.replay, self.decoder = ReplayStore(folder, self._context.keys), Decoder(self._context.keys)
        self.replay.restore(self.decoder)
        self.audit = AuditLog(folder / "audit.jsonl", self.clock, self.metrics)
        self.alarms = Alarms(folder / "alarms.json")
        dispatchers = Broadcaster(self.metrics)
        warnings = DeviceWarnings(dispatchers, self.audit, self.clock, self.metrics)
        self.incidents = IncidentService(
            self.alarms, (), self.sender, dispatchers, warnings, self.audit, self.clock, self.metrics
        )

    def use(self) -> None:
        """Use a number of each kind, if storage permits."""
        emergency = self._rng.random() < 0.2
        for used, allocate in (
            (self.bursts, lambda: (self.keys(), self.registry._ssrcs.new_burst_ssrc(emergency))),
            (self.ssrcs, lambda: self.registry.join(1, "duty", 200, 1).member.ssrc),
            (self.counters, self.downlink.allocate),
            (self.commands, self.ids.allocate),
            (self.indices, self._next_index),
        ):
            try:
                used.append(allocate())
            except OSError as e:
                assert e.errno == errno.ENOSPC

    def keys(self) -> tuple[bytes, ...]:
        return tuple(group.key.secret for group in self.registry.groups.values())

    def _next_index(self) -> int:
        self.registry.rtcp_indices.reserve(self.rtcp_index)
        self.rtcp_index += 1
        return self.rtcp_index - 1

    def raise_sos(self) -> None:
        """Have a device raise or repeat an SOS."""
        event_id = self._rng.randrange(1, 15)
        row = self.raised.setdefault(event_id, sos(event_id))
        if event_id in self.answered:
            return
        self.incidents.event_received(row)
        assert event_id in {alarm["event_id"] for alarm in self.incidents.alarms()}, "shown at once"

    def answer_sos(self) -> None:
        """Have a dispatcher resolve an alarm: the wearer is informed whether storage works or not."""
        for alarm in self.incidents.alarms()[:1]:
            self.sender.states.clear()
            self.incidents.answer_event("duty", "vest-1", alarm["event_id"], "resolved")
            assert self.sender.states == [5]
            self.answered.append(alarm["event_id"])
            self.answered_since_start.append(alarm["event_id"])

    def receive_frame(self) -> None:
        counter, buf = self._rng.randrange(2000), bytearray(512)
        values = {"event_id": counter, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0, "text": b""}
        end = codec.encode_into(patrolink_messages.EVENT, values, buf, frame.HEADER_BYTES)
        channel = frame.Channel(self._context.keys["vest-1"].secret, b"vest-1", frame.UPLINK, 0)
        data = bytes(buf[: channel.seal_into(buf, patrolink_messages.EVENT, counter, end)])
        if self.decoder.rows(Record(0, "vest-1", data)):
            self.replay.commit("vest-1", 0, counter)
            assert counter not in self.committed, "a frame acts twice"
            self.committed.add(counter)


def sos(event_id: int) -> dict:
    numbers = {"event_id": event_id, "time_ms": NOW_MS + event_id, "ack_wanted": 1}
    return {"device": "vest-1", "record": "event", "kind": "sos", "phase": "raised", "time": "", **numbers}


def audit_rows(context: HubContext) -> list[dict]:
    return [json.loads(line) for line in (context.state / "audit.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("seed", [*range(8), pytest.param(random.randrange(1 << 32), id="random")])
def test_nothing_is_used_twice_and_everything_is_recovered(seed, site_folder, monkeypatch):
    rng, context = random.Random(seed), HubContext(site_folder / "site.toml")
    context.state.mkdir(parents=True)
    (context.state / "burst.json").write_text(str((1 << 27) - 70_000))  # numbers restart during the test
    storage, hub = FullStorage(monkeypatch, context.state, rng), Hub(context, rng)
    for _ in range(300):
        hub.clock.now_ms += 60_000
        if rng.random() < 0.1:
            storage.failure_rate = rng.choice((0, 0, 0.5, 1))
        for action in rng.sample((hub.use, hub.raise_sos, hub.answer_sos, hub.receive_frame), 2):
            action()
        if rng.random() < 0.05:  # kill -9
            with_failures, storage.failure_rate = storage.failure_rate, 0
            hub.start()
            storage.failure_rate = with_failures
    for used in (hub.bursts, hub.ssrcs, hub.indices, hub.counters, hub.commands):
        assert len(used) > 20 and len(set(used)) == len(used), f"seed {seed}"
    storage.failure_rate = 0
    hub.incidents.retry_save()
    hub.audit.flush()
    assert Alarms(context.state / "alarms.json").rows() == hub.incidents.alarms(), f"seed {seed}"
    audited = [row["event"] for row in audit_rows(context) if row["what"] == "answer_event"]
    assert audited[len(audited) - len(hub.answered_since_start) :] == hub.answered_since_start, f"seed {seed}"


def test_emergencies_get_numbers_while_storage_is_full(site_folder, monkeypatch):
    context = HubContext(site_folder / "site.toml")
    storage, hub = FullStorage(monkeypatch, context.state, random.Random(1)), Hub(context, random.Random(1))
    hub.registry._ssrcs.new_burst_ssrc(False)
    storage.failure_rate = 1
    normal = 0
    with pytest.raises(OSError):
        while True:
            hub.registry._ssrcs.new_burst_ssrc(False)
            normal += 1
    assert normal > 8000
    assert len({hub.registry._ssrcs.new_burst_ssrc(True) for _ in range(1000)}) == 1000
    storage.failure_rate = 0
    assert hub.registry._ssrcs.new_burst_ssrc(False)


def test_the_reserve_makes_room_for_state_also_after_a_restart(site_folder, monkeypatch):
    context = HubContext(site_folder / "site.toml")
    context.state.mkdir(parents=True)
    assert persistence.fill_reserve(context.state) == 4 << 20
    storage = FullStorage(monkeypatch, context.state, random.Random(1))
    storage.needs_reserve = True
    for event_id in range(3):
        hub = Hub(context, random.Random(1))
        hub.incidents.event_received(sos(event_id))
        hub.answer_sos()
        hub.use()
        assert hub.sender.states[-1] == 5 and not hub.alarms.unsaved
        assert all((hub.bursts, hub.ssrcs, hub.indices, hub.counters, hub.commands))
        assert (context.state / persistence.RESERVE_FILE).stat().st_size == 4 << 20
    assert not list(context.state.glob("*.new"))


def test_the_reserve_takes_what_is_left(tmp_path, monkeypatch):
    allocate = os.posix_fallocate

    def limited(handle: int, start: int, size: int) -> None:
        if size > 300_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(handle, start, size)

    monkeypatch.setattr(os, "posix_fallocate", limited)
    assert persistence.fill_reserve(tmp_path) == 1 << 18
    monkeypatch.undo()
    assert persistence.fill_reserve(tmp_path) == 4 << 20


def test_groups_are_as_before_if_a_change_cannot_be_stored(site_folder, monkeypatch):
    context = HubContext(site_folder / "site.toml")
    storage, hub = FullStorage(monkeypatch, context.state, random.Random(1)), Hub(context, random.Random(1))
    dynamic = asyncio.run(hub.registry.make_group("dynamic", ["vest-1"]))
    before = set(hub.registry.groups), set(hub.registry.memberships), hub.keys()
    storage.failure_rate = 1
    with pytest.raises(OSError):
        asyncio.run(hub.registry.make_group("new", ["vest-1", "vest-2"]))
    with pytest.raises(OSError):
        asyncio.run(hub.registry.end_group(dynamic.number))
    assert (set(hub.registry.groups), set(hub.registry.memberships), hub.keys()) == before
    assert dynamic.number in hub.registry.devices["vest-1"].memberships
    storage.failure_rate = 0
    asyncio.run(hub.registry.end_group(dynamic.number))
    assert dynamic.number not in hub.registry.devices["vest-1"].memberships


def test_keys_are_not_used_before_they_are_stored(site_folder, monkeypatch):
    context = HubContext(site_folder / "site.toml")
    context.state.mkdir(parents=True)
    (context.state / "burst.json").write_text(str((1 << 27) - (1 << 16) - 1))
    storage, hub = FullStorage(monkeypatch, context.state, random.Random(1)), Hub(context, random.Random(1))
    keys, used = hub.keys(), [hub.registry._ssrcs.new_burst_ssrc(True)]
    storage.failure_rate = 1
    with pytest.raises(OSError):
        asyncio.run(hub.registry.prepare())
    storage.failure_rate = 0
    with pytest.raises(OSError):  # the next number would repeat under the old keys
        while True:
            used.append(hub.registry._ssrcs.new_burst_ssrc(True))
    assert len(set(used)) == len(used) == (1 << 16) + 1 and hub.keys() == keys
    asyncio.run(hub.registry.prepare())
    assert hub.registry._ssrcs.new_burst_ssrc(True) == 1 and not set(hub.keys()) & set(keys)


def test_deferred_rows_are_written_in_order_with_their_number(tmp_path, monkeypatch):
    storage, metrics = FullStorage(monkeypatch, tmp_path, random.Random(1)), Metrics()
    log = AuditLog(tmp_path / "audit.jsonl", FakeClock(NOW_MS), metrics)
    log.write("duty", "press", group=1)
    storage.failure_rate = 1
    log.note("vest-1", "answer", text="x" * 40_000)
    log.defer("duty", "answer_event", event=1)
    with pytest.raises(UserError, match="not done: the audit log cannot be written"):
        log.write("duty", "listen_in")
    for _ in range(30):
        log.note("vest-2", "answer", text="x" * 40_000)  # devices may use half of the memory
    for event in range(2, 5):
        log.defer("duty", "answer_event", event=event)
    assert metrics.gauges["audit_deferred"]() < 20 and metrics.counts["storage_failed"] == 36
    storage.failure_rate = 0
    log.flush()
    log.flush()
    rows = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [row["what"] for row in rows[:4]] == ["press", "deferred", "answer", "answer_event"]
    assert rows[1]["rows"] == len(rows) - 2 and rows[1]["rows"] + rows[1]["lost"] == 35 and rows[1]["lost"] > 10
    assert [row["event"] for row in rows if row["what"] == "answer_event"] == [1, 2, 3, 4]


def test_a_partly_written_row_is_removed(tmp_path, monkeypatch):
    path, write = tmp_path / "audit.jsonl", os.write

    def write_some(handle: int, data: bytes) -> int:
        if len(data) < 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[:3])

    path.write_bytes(b"first\n")
    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(OSError):
        durable_files.append(path, b"second\n", False)
    assert path.read_bytes() == b"first\n"
