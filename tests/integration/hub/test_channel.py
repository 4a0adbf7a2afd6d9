"""Channel between voice and service: messages, connections, limits, and the state that is sent after a connection."""

import asyncio
import random
import stat

import pytest
from patrolink.hub.channel import messages as m
from patrolink.hub.channel.memory import MemoryChannel
from patrolink.hub.channel.streams import MAX_LINE_BYTES, MAX_WAITING_BYTES, ConnectingEnd, ListeningEnd
from patrolink.hub.group_table import GroupTable
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice import service_requests
from patrolink.hub.voice.service_requests import ServiceRequests

from tests.support.polling import TIMEOUT_S

MESSAGES = [
    m.StateSent(),
    m.KeyEpoch("vest-1", 3),
    m.BarredDevices(["vest-1"]),
    m.GroupReport("vest-1", 3, bytes(12)),
    m.FrameReceived("vest-1", True),
    m.Leave(1, 1 << 31),
    m.Join(1, 2, "duty", 200, 3, "::1", 40_000),
    m.MakeGroup(2, "港口 \x00\n", ["vest-1"]),
    m.EndGroup(3, 4),
    m.ReadMetrics(4),
    m.GroupState({"group": 1, "queue": [], "talker": None}),
    m.Notice({"type": "floor", "message": "hex", "emergency": False}),
    m.BurstCounts([[1, 2, 3]]),
    m.DeviceMessage("vest-1", 9, {"wrapped": bytes(range(256)), "name": b"", "key": 1}),
    m.GroupKeyChanged(1, 2, bytes(30)),
    m.Joined(1, 2, 3, b"sip:duty@site", bytes(32), 4, bytes(30)),
    m.Done(1),
    m.MetricsRead(1, {"counts": {"a": 1}}),
    m.Failed(1, "no group 7", False),
    m.CloneSuspected("vest-1"),
]


class Handler:
    """Keeps what happens at one end."""

    def __init__(self) -> None:
        self.events: list = []

    def connected(self) -> None:
        self.events.append("connected")

    def received(self, message: m.Message) -> None:
        self.events.append(message)

    def disconnected(self) -> None:
        self.events.append("disconnected")


async def until(condition) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_message_is_the_same_after_the_channel(message):
    line = m.encode(message)
    assert line.count(b"\n") == 1 and m.decode(line) == message


def test_every_message_has_a_case():
    assert {type(message) for message in MESSAGES} == set(m._TYPES.values())


@pytest.mark.parametrize("seed", range(20))
def test_damaged_line_is_refused(seed):
    rng = random.Random(seed)
    for message in MESSAGES:
        line = bytearray(m.encode(message))
        for _ in range(rng.randrange(1, 4)):
            line[rng.randrange(len(line))] = rng.randrange(256)
        try:
            m.decode(bytes(line))
        except ValueError:
            continue
    for line in (b"[" * 20_000, b"", b"1", b'["Done",{}]', b'["Done",{"request":1,"x":2}]', b'["None",{}]'):
        with pytest.raises(ValueError):  # noqa: PT011 - also of the JSON decoder
            m.decode(line)


def test_ends_connect_exchange_messages_in_order_and_connect_again(tmp_path):
    async def run() -> None:
        path, metrics = tmp_path / "voice.sock", Metrics()
        voice, service = Handler(), Handler()
        listening, connecting = ListeningEnd(path, metrics), ConnectingEnd(path, metrics)
        listening.send(m.Done(0))  # dropped: there is no connection
        ends = [asyncio.ensure_future(connecting.run(service)), asyncio.ensure_future(listening.run(voice))]
        await until(lambda: voice.events and service.events)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for number in range(1, 1000):
            listening.send(m.Done(number))
        await until(lambda: len(service.events) == 1000)
        assert service.events == ["connected", *(m.Done(number) for number in range(1, 1000))]
        ends[1].cancel()
        await until(lambda: service.events[-1] == "disconnected")
        second = Handler()
        ends[1] = asyncio.ensure_future(ListeningEnd(path, metrics).run(second))
        await until(lambda: service.events[-1] == "connected" and second.events == ["connected"])
        connecting.send(m.StateSent())
        await until(lambda: second.events[-1] == m.StateSent())
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        assert not path.exists() and second.events[-1] == "disconnected"

    asyncio.run(run())


def test_newer_connection_replaces_the_older_one(tmp_path):
    async def run() -> list:
        path, voice = tmp_path / "voice.sock", Handler()
        listening = asyncio.ensure_future(ListeningEnd(path, Metrics()).run(voice))
        await until(path.exists)
        _, first = await asyncio.open_unix_connection(path)
        await until(lambda: voice.events == ["connected"])
        _, second = await asyncio.open_unix_connection(path)
        second.write(m.encode(m.ReadMetrics(1)))
        await until(lambda: len(voice.events) == 4)
        events = list(voice.events)
        for writer in (first, second):
            writer.close()
        listening.cancel()
        return events

    assert asyncio.run(run()) == ["connected", "disconnected", "connected", m.ReadMetrics(1)]


@pytest.mark.parametrize("line", [b"[]\n", b"x" * (MAX_LINE_BYTES + 1) + b"\n"], ids=["no message", "too long"])
def test_invalid_line_ends_the_connection(tmp_path, line):
    async def run() -> Metrics:
        path, voice, metrics = tmp_path / "voice.sock", Handler(), Metrics()
        listening = asyncio.ensure_future(ListeningEnd(path, metrics).run(voice))
        await until(path.exists)
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(line)
        await until(lambda: voice.events == ["connected", "disconnected"])
        writer.close()
        listening.cancel()
        return metrics

    assert asyncio.run(run()).counts["channel_errors"] == 1


def test_reader_that_does_not_read_is_disconnected(tmp_path):
    async def run() -> Metrics:
        path, voice, metrics = tmp_path / "voice.sock", Handler(), Metrics()
        end = ListeningEnd(path, metrics)
        listening = asyncio.ensure_future(end.run(voice))
        await until(path.exists)
        reader, writer = await asyncio.open_unix_connection(path, limit=1)
        await until(lambda: voice.events == ["connected"])
        for _ in range(2 + 2 * MAX_WAITING_BYTES // (1 << 16)):
            end.send(m.Notice({"text": "x" * (1 << 16)}))
        await until(lambda: voice.events == ["connected", "disconnected"])
        writer.close()
        listening.cancel()
        return metrics

    assert asyncio.run(run()).counts["channel_overflows"] == 1


def test_messages_under_way_are_lost_with_a_channel_in_memory():
    async def run() -> tuple[list, list]:
        voice, service = Handler(), Handler()
        ends = MemoryChannel().ends
        tasks = [asyncio.ensure_future(end.run(handler)) for end, handler in zip(ends, (voice, service), strict=True)]
        await ends[0].drain()
        ends[0].send(m.Done(1))
        await ends[0].drain()
        tasks[0].cancel()
        ends[0].send(m.Done(2))
        await asyncio.gather(tasks[0], return_exceptions=True)
        await ends[1].drain()
        tasks[1].cancel()
        return voice.events, service.events

    assert asyncio.run(run()) == (["connected", "disconnected"], ["connected", m.Done(1), "disconnected"])


# --- groups of the voice at the service ------------------------------------------------------------------------------


def row(group: int, **fields) -> dict:
    return {"group": group, "kind": "standing", "members": [], "state": "idle", "now_ms": 0, **fields}


def test_table_tells_what_has_changed_while_there_was_no_connection():
    table = GroupTable()
    table.begin_state()
    for number in (1, 2, 3):
        table.update(row(number))
    table.update(row(9, kind="private", members=["vest-1"]))
    assert [message["type"] for message in table.end_state()] == ["group"] * 4
    assert table.private_group("vest-1") == 9 and table.private_group("vest-2") is None and len(table) == 4
    table.begin_state()
    for changed in (row(1, now_ms=5), row(2, state="taken"), row(4)):
        table.update(changed)
    table.remove(4)
    assert len(table.rows()) == 4, "until the state is complete, the former one counts"
    messages = [(message["type"], message["group"]) for message in table.end_state()]
    assert messages == [("gone", 3), ("gone", 9), ("floor", 2)]
    table.count(2, 7, 1)
    table.count(5, 7, 1)
    assert table.rows()[1]["packets"] == 7 and table.private_group("vest-1") is None


# --- changes of groups -----------------------------------------------------------------------------------------------


class FakeVoice:
    """Keeps the groups that were made."""

    def __init__(self) -> None:
        self.groups: list[str] = []

    async def make_group(self, name: str, devices: list[str]) -> int:
        self.groups.append(name)
        return len(self.groups)

    def leave_all(self) -> None:
        pass


class FakeChannel:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[m.Message] = []

    def send(self, message: m.Message) -> None:
        self.sent.append(message)


def test_changes_of_groups_wait_for_each_other_and_more_are_refused(monkeypatch):
    monkeypatch.setattr(service_requests, "_CHANGE_INTERVAL_S", 0.001)
    monkeypatch.setattr(service_requests, "_MEMBER_S", 0.0)
    channel, voice = FakeChannel(), FakeVoice()

    async def run() -> None:
        requests = ServiceRequests(channel, voice, None, Metrics())
        for number in range(13):
            requests.received(m.MakeGroup(number, f"group {number}", ["vest-1"]))
            await asyncio.sleep(0)
        assert voice.groups == ["group 0"], "the first at once"
        assert [message.request for message in channel.sent] == [0, 11, 12]
        assert channel.sent[-1].error == "10 changes of groups are waiting already; retry in a minute"
        await until(lambda: len(voice.groups) == 11)

    asyncio.run(run())
    replies = [message.request for message in channel.sent if isinstance(message, m.Done)]
    assert replies == list(range(11))
