"""Replay windows on storage: nothing acts twice after a restart, and nothing that was not processed is lost."""

import random

import patrolink_messages
import pytest
from patrolink.core.capture import Record
from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from patrolink.hub.infra.replay_store import ReplayStore
from patrolink_protocol import codec, frame

KEY = bytes(range(32))


def event_frame(counter: int, key: bytes = KEY, epoch: int = 0) -> bytes:
    buf = bytearray(512)
    values = {"event_id": counter, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0, "text": b""}
    end = codec.encode_into(patrolink_messages.EVENT, values, buf, frame.HEADER_BYTES)
    channel = frame.Channel(key, b"a", frame.UPLINK, epoch)
    return bytes(buf[: channel.seal_into(buf, patrolink_messages.EVENT, counter, end)])


class Receiver:
    """A decoder with its store, as a hub has them."""

    def __init__(self, folder, keys=None) -> None:
        keys = keys or {"a": DeviceKey(KEY)}
        self.store = ReplayStore(folder, keys)
        self.decoder = Decoder(keys)
        self.store.restore(self.decoder)

    def receive(self, data: bytes, commit: bool = True) -> str:
        """Process a frame; return "new", "repeated", or the reason of a rejection."""
        duplicates = self.decoder.stats.duplicates
        rows = self.decoder.rows(Record(0, "a", data))
        if self.decoder.reject_reason:
            return self.decoder.reject_reason
        if self.decoder.stats.duplicates > duplicates:
            return "repeated"
        if commit:
            self.store.commit("a", self.decoder.epoch("a"), rows[0]["counter"])
        return "new"


def test_committed_frames_are_repeated_after_a_restart_and_others_are_new(tmp_path):
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    receiver, committed, received = Receiver(tmp_path), set(), set()
    counters = rng.sample(range(3000), 400)
    for counter in counters:
        if rng.random() < 0.05:
            receiver = Receiver(tmp_path)  # without closing the old one, as after kill -9
            received = set(committed)
        expected = "repeated" if counter in received else "new"
        assert receiver.receive(event_frame(counter), commit := rng.random() < 0.8) == expected, f"seed {seed}"
        received.add(counter)
        if commit:
            committed.add(counter)
    receiver = Receiver(tmp_path)
    for counter in counters:
        expected = "repeated" if counter in committed else "new"
        assert receiver.receive(event_frame(counter)) == expected, f"seed {seed}"


def test_frame_below_the_window_is_rejected_after_a_restart(tmp_path):
    receiver = Receiver(tmp_path)
    assert receiver.receive(event_frame(5)) == "new"
    assert receiver.receive(event_frame(5 + patrolink_messages.REPLAY_WINDOW)) == "new"
    assert Receiver(tmp_path).receive(event_frame(5)) == "replay"


def test_key_epoch_is_kept(tmp_path):
    receiver = Receiver(tmp_path)
    assert receiver.receive(event_frame(900)) == "new"
    for epoch in (1, 2, 3):
        assert receiver.receive(event_frame(epoch, epoch=epoch)) == "new"
    restarted = Receiver(tmp_path)
    assert restarted.decoder.epoch("a") == 3
    assert restarted.receive(event_frame(3, epoch=3)) == "repeated"
    assert restarted.receive(event_frame(4, epoch=3)) == "new"
    assert restarted.receive(event_frame(900)) not in ("new", "repeated"), "keys of former epochs stay unusable"


def test_device_with_a_new_key_has_an_empty_window(tmp_path):
    receiver = Receiver(tmp_path)
    assert receiver.receive(event_frame(900)) == "new"
    other = bytes(32)
    receiver = Receiver(tmp_path, {"a": DeviceKey(other)})
    assert receiver.receive(event_frame(1, other)) == "new"
    assert Receiver(tmp_path, {"a": DeviceKey(other)}).receive(event_frame(1, other)) == "repeated"


def test_devices_come_and_go(tmp_path):
    assert Receiver(tmp_path).receive(event_frame(7)) == "new"
    Receiver(tmp_path, {f"b{i}": DeviceKey(KEY) for i in range(20)})
    keys = {"a": DeviceKey(KEY), "c": DeviceKey(KEY)}
    assert Receiver(tmp_path, keys).receive(event_frame(7)) == "repeated"


@pytest.mark.parametrize("size", [0, 1, 40, 5000])
def test_truncated_file_is_extended(tmp_path, size):
    """After a power cut the file may be shorter; what is left is used."""
    assert Receiver(tmp_path).receive(event_frame(7)) == "new"
    with (tmp_path / "replay.bin").open("r+b") as f:
        f.truncate(size)
    assert Receiver(tmp_path).receive(event_frame(8)) in ("new", "repeated")
