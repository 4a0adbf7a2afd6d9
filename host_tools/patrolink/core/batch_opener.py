"""Verify the frames of many devices at once, for the batch decoder."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import patrolink_messages as m
from patrolink_protocol import decode, frame, receiver, replay
from patrolink_protocol.errors import RejectError

from patrolink.core.capture import Record
from patrolink.core.keys import DeviceKey

_BATCH_START = m.VERSION << 5 | m.POSITION_BATCH
_ENCRYPTED = m.FLAG_ENCRYPTED << 4
_OTHER_FLAGS = 0xF0 & ~_ENCRYPTED
_BLOCK_BYTES = 16  # of AES
_BATCH_MIN_BYTES = frame.HEADER_BYTES + m.TAG_BYTES


class OpenedBatches(NamedTuple):
    """Result of `BatchOpener.open`.

    Args:
        bodies: bodies of the new position batches.
        indices: index of each body's record.
        outcomes: one per record: "" for a body, "repeated", "other" for a valid message of another type, or the reject
            reason.
    """

    bodies: list[bytes | memoryview]
    indices: list[int]
    outcomes: list[str]


class _Sender:
    """A device's receiver, with what its channel computes once for all frames.

    Args:
        device_receiver: its replay window is updated.
    """

    def __init__(self, device_receiver: receiver.Receiver) -> None:
        self.receiver = device_receiver
        self.refresh()

    def refresh(self) -> None:
        """Take over the channel of the receiver's current epoch."""
        self.channel = self.receiver.channel
        inner, outer = (hashlib.sha256(pad) for pad in self.channel.pads)
        inner.update(self.channel.context)
        self.new_inner, self.new_outer = inner.copy, outer.copy
        self.phase = (m.FLAG_PHASE if self.channel.phase else 0) << 4
        self.accept = self.receiver.window.accept


class BatchOpener:
    """Opens frames of many devices in the order of their arrival.

    Args:
        keys: device id → key. A frame of a device without a key is rejected.
    """

    def __init__(self, keys: Mapping[str, DeviceKey]) -> None:
        self._keys = keys
        self._senders: dict[str, _Sender] = {}

    def open(self, records: Sequence[Record]) -> OpenedBatches:
        """Verify frames, and return the bodies of the position batches among them."""
        opened = OpenedBatches([], [], [""] * len(records))
        encrypted: dict[frame.Channel, list[int]] = {}  # indices of bodies; an epoch may end in between
        senders, outcomes = self._senders, opened.outcomes
        for i, (_, device, data) in enumerate(records):
            sender = senders.get(device) or self._new_sender(device)
            if sender is None:
                outcomes[i] = _without_key(data)
                continue
            # The usual frame is verified here, with few calls; any other one by the receiver.
            if not (
                _BATCH_MIN_BYTES <= len(data) <= m.MAX_FRAME
                and data[0] == _BATCH_START
                and data[1] & _OTHER_FLAGS == sender.phase
            ):
                outcomes[i] = _open_one(sender, data, i, opened)
                continue
            inner, outer = sender.new_inner(), sender.new_outer()
            inner.update(data[:-8])
            outer.update(inner.digest())
            if not hmac.compare_digest(outer.digest()[:8], data[-8:]):
                outcomes[i] = "tag"
                continue
            outcome = sender.accept(int.from_bytes(data[1:5], "big") & frame.COUNTER_MAX)
            if outcome == replay.ReplayWindow.NEW:
                if data[1] & _ENCRYPTED:
                    encrypted.setdefault(sender.channel, []).append(len(opened.bodies))
                opened.bodies.append(data[frame.HEADER_BYTES : -8])
                opened.indices.append(i)
            else:
                outcomes[i] = "repeated" if outcome == replay.ReplayWindow.REPEATED else "replay"
        if encrypted:
            _decrypt(encrypted, opened, records)
        return opened

    def _new_sender(self, device: str) -> _Sender | None:
        key = self._keys.get(device)
        if key is None:
            return None
        device_receiver = receiver.Receiver(key.secret, device.encode(), frame.UPLINK, key.epoch)
        return self._senders.setdefault(device, _Sender(device_receiver))


def _without_key(data: bytes) -> str:
    """Return the reason why a frame of a device without a key is refused: length and version come first."""
    try:
        frame.parse_header(data)
    except RejectError as e:
        return str(e.name)
    return "key"


def _open_one(sender: _Sender, data: bytes, index: int, opened: OpenedBatches) -> str:
    """Verify a frame of any kind, and return its outcome."""
    try:
        kind, _, repeated = sender.receiver.accept(data)
        if repeated:
            return "repeated"
        body, _ = sender.receiver.read(data)
        if kind != m.POSITION_BATCH:
            decode.decode(kind, body)
            return "other"
    except RejectError as e:
        return str(e.name)
    finally:
        if sender.receiver.channel is not sender.channel:
            sender.refresh()
    opened.bodies.append(body)
    opened.indices.append(index)
    return ""


def _decrypt(
    encrypted: Mapping[frame.Channel, Sequence[int]], opened: OpenedBatches, records: Sequence[Record]
) -> None:
    """Replace encrypted bodies: the counter blocks of all frames of a channel are encrypted in one call.

    Args:
        encrypted: channel → indices of its encrypted bodies.
        opened: the bodies.
        records: the records that `opened.indices` refer to.
    """
    order = [index for indices in encrypted.values() for index in indices]
    sizes = np.array([len(opened.bodies[index]) for index in order])
    blocks = (sizes + _BLOCK_BYTES - 1) // _BLOCK_BYTES
    headers = b"".join([records[opened.indices[index]].frame[: frame.HEADER_BYTES] for index in order])
    counters = np.zeros((int(blocks.sum()), _BLOCK_BYTES), np.uint8)
    counters[:, : frame.HEADER_BYTES] = np.repeat(
        np.frombuffer(headers, np.uint8).reshape(-1, frame.HEADER_BYTES), blocks, axis=0
    )
    ends = np.cumsum(blocks)
    counters[:, -1] = np.arange(len(counters)) - np.repeat(ends - blocks, blocks)  # a frame has at most 63 blocks
    data = counters.tobytes()
    streams = []
    first = frames = 0
    for channel, indices in encrypted.items():
        frames += len(indices)
        end = int(ends[frames - 1]) * _BLOCK_BYTES
        streams.append(channel.cipher.encrypt_blocks(data[first:end]))
        first = end
    padded = b"".join(
        [bytes(opened.bodies[index]).ljust(n * _BLOCK_BYTES) for index, n in zip(order, blocks.tolist(), strict=True)]
    )
    plain = (np.frombuffer(padded, np.uint8) ^ np.frombuffer(b"".join(streams), np.uint8)).tobytes()
    starts = ((ends - blocks) * _BLOCK_BYTES).tolist()
    for index, start, size in zip(order, starts, sizes.tolist(), strict=True):
        opened.bodies[index] = plain[start : start + size]
