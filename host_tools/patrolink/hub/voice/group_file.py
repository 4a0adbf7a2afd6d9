"""The file of a hub's groups, `groups.json`: SSRC and key of each group, SSRCs of the members, definitions."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from patrolink.hub.infra import persistence
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.voice.groups import Group

_Stored = dict[str, Any]


class _Encoded(NamedTuple):
    key: GroupKey
    members_version: int
    data: bytes


class GroupFile:
    """Reads and writes the file. Of all groups, only those that have changed are encoded again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoded: dict[int, _Encoded] = {}

    def load(self) -> _Stored:
        """Return the document: `groups` by number, `dynamic` definitions by number, `private` groups by device.

        Raises:
            UserError: The file cannot be read.
        """
        return persistence.load_json(self._path) or {"groups": {}, "dynamic": {}, "private": {}}

    def encode(
        self,
        groups: Iterable[Group],
        keys: Mapping[int, GroupKey],
        dynamic: Mapping[int, _Stored],
        private: Mapping[str, int],
    ) -> list[bytes]:
        """Return the content of the file in pieces.

        Args:
            groups: All groups.
            keys: Keys by group that take the place of the current ones.
            dynamic: Definitions of dynamic groups, by number.
            private: Numbers of private groups, by device.
        """
        entries = [self._encode_group(group, keys.get(group.number, group.key)) for group in groups]
        rest = json.dumps({"dynamic": dynamic, "private": private})[1:]
        return [b'{"groups": {', b", ".join(entries), b"}, ", rest.encode()]

    def _encode_group(self, group: Group, key: GroupKey) -> bytes:
        known = self._encoded.get(group.number)
        if known is None or known.key is not key or known.members_version != group.members_version:
            state = {
                "ssrc": group.floor.hub_ssrc,
                "key": key.number,
                "secret": key.secret.hex(),
                "seats": {name: membership.member.ssrc for name, membership in group.memberships.items()},
            }
            data = f'"{group.number}": {json.dumps(state)}'.encode()
            known = self._encoded[group.number] = _Encoded(key, group.members_version, data)
        return known.data

    def forget(self, number: int) -> None:
        """Forget a group that has ended."""
        self._encoded.pop(number, None)

    def write(self, content: list[bytes]) -> None:
        """Replace the file. May be called in a thread.

        Raises:
            OSError: Storage failed. The previous file is intact.
        """
        persistence.replace_file(self._path, b"".join(content))
