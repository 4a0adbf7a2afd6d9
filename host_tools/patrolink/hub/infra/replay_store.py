"""Replay windows and key epochs of devices in a memory-mapped file, which survives the end of the process.

A frame is committed after it was processed: a frame that the hub did not process before it died is delivered again by
the broker, and must not be taken for a repeated one.
"""

import hashlib
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from patrolink_messages import REPLAY_WINDOW
from patrolink_protocol.replay import ReplayWindow

from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from patrolink.hub.infra import persistence

_HEADER = struct.Struct("<16sIq")  # fingerprint of the key, epoch, highest counter
_BITMAP_AT = 32
_SLOT_BYTES = _BITMAP_AT + REPLAY_WINDOW // 8


class _Slot(NamedTuple):
    """A device's part of the file."""

    data: memoryview
    fingerprint: bytes

    def bitmap(self) -> memoryview:
        return self.data[_BITMAP_AT:]


class ReplayStore:
    """The windows of all devices of a hub.

    Args:
        folder: Folder of the hub's state.
        keys: Keys of the devices. A device with another key than before starts with an empty window.

    Raises:
        UserError: The index cannot be read.
        OSError: Storage failed.
    """

    def __init__(self, folder: Path, keys: Mapping[str, DeviceKey]) -> None:
        index_path = folder / "replay.json"
        index: dict[str, int] = persistence.load_json(index_path) or {}
        added = {name: number for number, name in enumerate((name for name in keys if name not in index), len(index))}
        if added:
            index.update(added)
            persistence.save_json(index_path, index)
        handle = os.open(folder / "replay.bin", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            size = max(1, len(index)) * _SLOT_BYTES
            # Storage is allocated now: a page of a sparse file that cannot be written later ends the process (SIGBUS).
            persistence.with_reserve(folder, lambda: os.posix_fallocate(handle, 0, size))
            self._map = mmap.mmap(handle, 0)
        finally:
            os.close(handle)
        view = memoryview(self._map)
        self._keys = keys
        self._slots = {
            name: _Slot(view[index[name] * _SLOT_BYTES : (index[name] + 1) * _SLOT_BYTES], _fingerprint(key))
            for name, key in keys.items()
        }
        self._windows: dict[str, ReplayWindow] = {}
        self._epochs: dict[str, int] = {}

    def restore(self, decoder: Decoder) -> None:
        """Give the decoder the windows and epochs from storage; devices without one are left as they are."""
        for name, slot in self._slots.items():
            fingerprint, epoch, highest = _HEADER.unpack_from(slot.data)
            if fingerprint == slot.fingerprint and epoch >= self._keys[name].epoch and highest >= 0:
                self._epochs[name] = epoch
                self._windows[name] = ReplayWindow(REPLAY_WINDOW, highest, slot.bitmap())
                decoder.restore(name, epoch, highest, bytes(slot.bitmap()))

    def commit(self, device: str, epoch: int, counter: int) -> None:
        """Record that a frame was processed."""
        slot = self._slots[device]
        if self._epochs.get(device) != epoch:
            slot.bitmap()[:] = bytes(REPLAY_WINDOW // 8)
            self._epochs[device] = epoch
            self._windows[device] = ReplayWindow(REPLAY_WINDOW, -1, slot.bitmap())
        window = self._windows[device]
        window.accept(counter)
        _HEADER.pack_into(slot.data, 0, slot.fingerprint, epoch, window.highest)

    def flush(self) -> None:
        """Write everything to storage, so that it survives a power cut. May be called in a thread."""
        self._map.flush()


def _fingerprint(key: DeviceKey) -> bytes:
    return hashlib.sha256(b"patrolink replay" + key.secret).digest()[:16]
