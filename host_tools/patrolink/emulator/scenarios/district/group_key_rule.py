"""Checks under which group key the hub relays voice, with the keys that it keeps on storage."""

import json
from collections.abc import Callable
from pathlib import Path

from patrolink_protocol import srtp

from patrolink.emulator.scheduler import Scheduler
from patrolink.hub.infra.crypto import GroupKey

_SAMPLED = 8  # one of so many voice packets is checked
_OVERLAP_MS = 10_000  # PTT.md: the previous group key remains valid this long
_TOLERANCE_MS = 2000  # between storing a key and using it


class GroupKeyRule:
    """The rule `old key` for voice.

    Args:
        path: File of the hub's groups and their keys.
        violate: Records a violation: rule and text.
    """

    def __init__(self, path: Path, scheduler: Scheduler, violate: Callable[[str, str], None]) -> None:
        self._path, self._scheduler, self._violate = path, scheduler, violate
        self._packets = 0
        self._keys: dict[int, dict[GroupKey, srtp.SrtpTransform | None]] = {}  # of each group; a context is made late
        self._retired_ms: dict[tuple[int, GroupKey], float] = {}

    def file_replaced(self, path: Path) -> None:
        """The hub has replaced a file on its storage."""
        if path != self._path:
            return
        for text, state in json.loads(path.read_bytes())["groups"].items():
            number, key = int(text), GroupKey(state["key"], bytes.fromhex(state["secret"]))
            keys = self._keys.setdefault(number, {})
            if key not in keys:
                for older in keys:
                    self._retired_ms.setdefault((number, older), self._scheduler.now)
                keys[key] = None

    def voice_relayed(self, group: int, data: bytes) -> None:
        """The hub has relayed a voice packet in a group."""
        self._packets += 1
        if self._packets % _SAMPLED or group not in self._keys:
            return
        for key in reversed(list(self._keys[group])):
            if self._is_under(group, key, data):
                retired_ms = self._retired_ms.get((group, key), self._scheduler.now)
                if self._scheduler.now - retired_ms > _OVERLAP_MS + _TOLERANCE_MS:
                    self._violate(
                        "old key", f"the hub relayed voice of group {group} under key {key.number}, which is over"
                    )
                return
        self._violate("old key", f"the hub relayed voice of group {group} under no key of the group")

    def _is_under(self, group: int, key: GroupKey, data: bytes) -> bool:
        context = self._keys[group][key]
        if context is None:
            context = self._keys[group][key] = key.srtp_context()
        try:
            context.verify(bytearray(data), len(data), srtp.SrtpStream())
        except srtp.SrtpError:
            return False
        return True
