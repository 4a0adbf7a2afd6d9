"""Messages to devices: priority lanes, shares of devices, and frame counters that increase in the order of sending."""

import asyncio
import random

import patrolink_messages as m
import pytest
from patrolink.hub.config import HubContext
from patrolink.hub.infra import device_sender
from patrolink.hub.infra.device_sender import DeviceSender
from patrolink.hub.infra.downlink_queue import DownlinkQueue, Lane, Limits, Outcome, lane_of, state_field
from patrolink.hub.infra.metrics import Metrics
from patrolink_protocol import decode, frame
from patrolink_protocol.receiver import Receiver

from tests.support import hub_parts, site_file
from tests.support.hub_parts import NAMES, NOW_MS, FakeClock

site_folder = hub_parts.site_folder
FEW = {lane: Limits(6, 3) for lane in Lane}


def pop_all(queue: DownlinkQueue) -> list:
    items = []
    while queue:
        items.append(queue.pop())
    return items


# --- the queue -------------------------------------------------------------------------------------------------------


def test_lanes_are_emptied_in_the_order_of_their_priority_and_devices_take_turns():
    queue: DownlinkQueue[str] = DownlinkQueue()
    for item in ("a1", "a2", "a3", "b1"):
        queue.put(item[0], Lane.TERMS, item)
    queue.put("c", Lane.OTHER, "clip")
    queue.put("c", Lane.URGENT, "sos")
    assert pop_all(queue) == ["sos", "a1", "b1", "a2", "a3", "clip"] and queue.pop() is None


def test_newer_state_takes_the_place_of_the_older_one():
    queue: DownlinkQueue[str] = DownlinkQueue()
    queue.put("a", Lane.TERMS, "group 1, key 1", key=1)
    queue.put("a", Lane.TERMS, "group 2, key 1", key=2)
    queue.put("b", Lane.TERMS, "b's group 1", key=1)
    assert queue.put("a", Lane.TERMS, "group 1, key 2", key=1) == Outcome.SUPERSEDED
    assert pop_all(queue) == ["group 1, key 2", "b's group 1", "group 2, key 1"]


def test_blocks_of_images_wait_for_all_other_messages_and_the_newest_request_counts():
    queue: DownlinkQueue[str] = DownlinkQueue()
    kinds = {"block": m.FIRMWARE_BLOCK, "clip": m.CLIP_STATE, "firmware": m.FIRMWARE, "terms": m.PTT_GROUP}
    for name, kind in {**kinds, "sos": m.EVENT_STATE}.items():
        queue.put("a", lane_of(kind), name, key=(kind, 1))
    assert queue.put("a", lane_of(m.FIRMWARE_BLOCK), "next", (m.FIRMWARE_BLOCK, 1)) == Outcome.SUPERSEDED
    assert pop_all(queue) == ["sos", "terms", "clip", "firmware", "next"]
    assert state_field(m.FIRMWARE_BLOCK) == "image" and state_field(m.FIRMWARE) == "command_id"


def test_flood_to_one_device_takes_no_place_of_another():
    queue: DownlinkQueue[str] = DownlinkQueue(FEW)
    outcomes = [queue.put("a", Lane.OTHER, f"a{i}") for i in range(100)]
    assert outcomes.count(Outcome.DROPPED) == 97
    assert queue.put("b", Lane.OTHER, "b") == Outcome.QUEUED
    assert pop_all(queue) == ["a97", "b", "a98", "a99"]


def test_full_lane_costs_the_device_that_adds():
    queue: DownlinkQueue[str] = DownlinkQueue(FEW)
    for device in ("a", "b"):
        for i in range(3):
            queue.put(device, Lane.OTHER, f"{device}{i}")
    assert queue.put("c", Lane.OTHER, "c") == Outcome.DROPPED
    assert queue.put("c", Lane.URGENT, "c!") == Outcome.QUEUED, "another lane has room"
    assert pop_all(queue) == ["c!", "a0", "b0", "a1", "b1", "a2", "b2"]


def test_messages_of_a_device_are_discarded():
    queue: DownlinkQueue[str] = DownlinkQueue()
    for lane in Lane:
        queue.put("a", lane, "a")
        queue.put("b", lane, "b")
    assert queue.discard("a") == len(Lane) and queue.discard("a") == 0
    assert len(queue) == len(Lane) and pop_all(queue) == ["b"] * len(Lane)


@pytest.mark.parametrize("seed", range(40))
def test_random_messages(seed):
    """Nothing is lost below the limits, nothing exceeds them, and a device's messages of a lane keep their order."""
    rng = random.Random(seed)
    queue: DownlinkQueue[tuple] = DownlinkQueue(FEW)
    queued, dropped, superseded, sent = 0, 0, 0, []
    for number in range(400):
        if rng.random() < 0.7:
            device, lane = rng.choice("abcd"), rng.choice(list(Lane))
            key = rng.choice([None, None, 1, 2])
            outcome = queue.put(device, lane, (device, lane, number, key), key)
            queued += 1
            dropped += outcome == Outcome.DROPPED
            superseded += outcome == Outcome.SUPERSEDED
        else:
            waiting = len(queue)
            item = queue.pop()
            assert (item is None) == (waiting == 0), f"seed {seed}"
            sent += [item] if item else []
        assert len(queue) <= sum(limit.total for limit in FEW.values()), f"seed {seed}"
    sent += pop_all(queue)
    assert len(sent) + dropped + superseded == queued, f"seed {seed}"
    for device in "abcd":
        for lane in Lane:
            plain = [number for d, at, number, key in sent if (d, at, key) == (device, lane, None)]
            assert plain == sorted(plain), f"seed {seed}"


# --- sealed frames ---------------------------------------------------------------------------------------------------


@pytest.fixture
def sender(site_folder):
    context = HubContext(site_folder / "site.toml")
    context.state.mkdir(parents=True)
    return DeviceSender(context, (), FakeClock(NOW_MS), bytes, Metrics())


def terms(group: int, key: int = 1) -> dict:
    numbers = dict.fromkeys(("kind", "rights", "priority", "rank", "codec"), 1) | {"ssrc": 1 << 31, "hub_ssrc": 1}
    ports = {"floor_port": 5004, "media_port": 5006, "host": b"hub"}
    return {"group": group, "key": key, "wrapped": b"", "name": b"", **numbers, **ports}


def answer(event_id: int, state: int) -> dict:
    return {"event_id": event_id, "state": state, "time_ms": NOW_MS, "who": b"duty"}


def publications(sender: DeviceSender) -> list:
    async def run() -> list:
        result = []
        while not sender.is_empty():
            result.append(await sender.next_publication())
        return result

    return asyncio.run(run())


def received(sender: DeviceSender, name: str) -> list[dict]:
    """Return the messages that a device accepts, in order. A frame that it rejects raises."""
    receiver = Receiver(site_file.keys_of([name])[name], name.encode(), frame.DOWNLINK)
    messages = []
    for publication in publications(sender):
        if publication.topic == f"p/{name}/d":
            kind, _, _ = receiver.accept(publication.payload)
            body, _ = receiver.read(publication.payload)
            messages.append(decode.decode(kind, body))
    return messages


def test_device_accepts_every_frame_although_an_sos_answer_overtakes(sender):
    """A device accepts increasing counters only: a frame that was sealed before would be refused as replayed."""
    for group in range(5):
        sender.send("vest-1", m.PTT_GROUP, terms(group))
    sender.send("vest-1", m.EVENT_STATE, answer(7, 1))
    messages = received(sender, "vest-1")
    assert [message["message"] for message in messages] == ["event_state", *["ptt_group"] * 5]
    assert [message["group"] for message in messages[1:]] == [0, 1, 2, 3, 4]


def test_sos_answer_does_not_wait_for_a_thousand_terms(sender):
    for group in range(1000):
        for name in NAMES[1:]:
            sender.send(name, m.PTT_GROUP, terms(group))
    sender.acknowledge_event("vest-1", 7)
    topics = [publication.topic for publication in publications(sender)]
    assert topics[0] == "p/vest-1/d" and len(topics) == 2001


def test_only_the_newest_terms_and_answers_are_sent(sender):
    for key in range(300):
        sender.send("vest-1", m.PTT_GROUP, terms(1, key))
        sender.send("vest-1", m.EVENT_STATE, answer(7, 1 + key % 6))
    sender.send("vest-1", m.EVENT_STATE, answer(8, 1))
    messages = received(sender, "vest-1")
    assert [(message.get("event_id"), message.get("state"), message.get("key")) for message in messages] == [
        (7, 6, None), (8, 1, None), (None, None, 299),
    ]  # fmt: skip
    assert sender._metrics.counts["downlink_superseded"] == 598


def test_dropped_messages_are_counted_by_lane(sender):
    for number in range(70):
        command = {"command_id": number, "action": 8, "expires_ms": NOW_MS, "number": None}
        sender.send("vest-1", m.COMMAND, {**command, "operator": b"", "name": b"", "value": b""})
    assert sender._metrics.counts["downlink_dropped_urgent"] == 6
    assert [message["command_id"] for message in received(sender, "vest-1")] == list(range(6, 70))


def test_messages_wait_while_no_counter_can_be_reserved(sender, site_folder, monkeypatch):
    monkeypatch.setattr(device_sender, "_STORAGE_RETRY_S", 0)
    state = sender._counters._path.parent
    state.rename(site_folder / "away")
    sender.send("vest-1", m.EVENT_STATE, answer(7, 1))

    async def run():
        task = asyncio.ensure_future(sender.next_publication())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done() and not sender.is_empty()
        (site_folder / "away").rename(state)
        return await task

    assert asyncio.run(run()).topic == "p/vest-1/d"
    assert sender._metrics.counts["storage_failed"] >= 2


def test_invalid_message_is_refused_before_it_is_queued(sender):
    with pytest.raises(ValueError, match="state"):
        sender.send("vest-1", m.EVENT_STATE, answer(7, 999))
    assert sender.is_empty()
