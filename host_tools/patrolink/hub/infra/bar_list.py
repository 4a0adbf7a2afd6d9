"""The barred devices as a running hub knows them. It follows changes of the file without a restart."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.hub.infra import bar_file, shared_file
from patrolink.hub.infra.bar_file import BarFile, Entry


class BarList:
    """Barred devices among those of a hub.

    Args:
        path: The file.
        keys: Keys of the hub's devices.

    Attributes:
        revision: Revision of the file that was read last.

    Raises:
        UserError: The file cannot be read. A hub must not start without it.
    """

    def __init__(self, path: Path, keys: Mapping[str, DeviceKey]) -> None:
        self._path = path
        self._fingerprints = {name: bar_file.fingerprint(key) for name, key in keys.items()}
        self._stamp = shared_file.stamp(path)
        self._content = bar_file.load(path)
        self._barred = self._barred_in(self._content)

    def __contains__(self, device: object) -> bool:
        """Return True if a device is barred."""
        return device in self._barred

    def __len__(self) -> int:
        """Return the number of barred devices."""
        return len(self._barred)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of barred devices."""
        return iter(sorted(self._barred))

    @property
    def revision(self) -> int:
        """Revision of the file that was read last."""
        return self._content.revision

    def knows(self, device: str) -> bool:
        """Return True if a device is one of the hub's."""
        return device in self._fingerprints

    def find(self, device: str) -> Entry | None:
        """Return the newest decision about a device; None if there is none."""
        return self._content.find(device)

    def _barred_in(self, content: BarFile) -> set[str]:
        return {name for name, key in self._fingerprints.items() if content.is_barred(name, key)}

    def reload(self) -> None:
        """Read the file if it has changed. A file that has disappeared admits nobody.

        Raises:
            UserError: The file cannot be read. What was barred stays barred, and the next call tries again.
        """
        stamp = shared_file.stamp(self._path)
        if stamp == self._stamp:
            return
        if stamp is None:
            raise UserError(f"{self._path} has disappeared; restore it")
        content = bar_file.load(self._path)
        self._stamp, self._content, self._barred = stamp, content, self._barred_in(content)
