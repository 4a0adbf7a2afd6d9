"""Keys of the devices in their current epochs."""

from collections.abc import Iterator, Mapping

from patrolink.core.keys import DeviceKey


class DeviceKeys(Mapping[str, DeviceKey]):
    """Keys by device id.

    Args:
        keys: The keys of the key file.
    """

    def __init__(self, keys: Mapping[str, DeviceKey]) -> None:
        self._keys = dict(keys)
        self._epochs: dict[str, int] = {}

    def __getitem__(self, device: str) -> DeviceKey:
        """Return the key of a device in its current epoch."""
        return self._keys[device]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of the devices."""
        return iter(self._keys)

    def __len__(self) -> int:
        """Return the number of devices."""
        return len(self._keys)

    def begin_epoch(self, device: str, epoch: int) -> DeviceKey:
        """Follow a device into another key epoch, and return the key."""
        key = self._keys[device] = self._keys[device]._replace(epoch=epoch)
        self._epochs[device] = epoch
        return key

    def begun_epochs(self) -> dict[str, int]:
        """Return the epochs that differ from the key file, by device."""
        return dict(self._epochs)
