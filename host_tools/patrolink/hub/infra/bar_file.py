"""The file of barred devices, `barred.json` in the folder of a site's state; `patrolink hub bar` changes it.

A device is barred by name. `unbar` admits it again, but not with the key that it had: who has held the device may have
read the key. A retired key stays barred for ever, also in a hub that still has it in memory.
"""

import hashlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.hub.infra import shared_file

FILE = "barred.json"
_RETIRED_MAX = 100  # keys of one device


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Entry(_Strict):
    """A decision about a device.

    Attributes:
        who: Who made it.
        reason: Why, in words.
        time_ms: Unix time.
        key: Fingerprint of the key that the device had.
    """

    who: str = Field(max_length=200)
    reason: str = Field(min_length=1, max_length=500)
    time_ms: int
    key: str = Field(pattern=r"^[0-9a-f]{32}$")


class BarFile(_Strict):
    """Content of the file.

    Attributes:
        revision: Increases with every change.
        devices: Barred devices by name.
        admitted: The last admission of devices that were barred.
        retired: Fingerprints of keys that a device must not use again.
    """

    revision: int = 0
    devices: dict[str, Entry] = {}
    admitted: dict[str, Entry] = {}
    retired: dict[str, list[str]] = {}

    def is_barred(self, device: str, key: str) -> bool:
        """Return True if a device with a key of this fingerprint is barred."""
        return device in self.devices or key in self.retired.get(device, ())

    def find(self, device: str) -> Entry | None:
        """Return the newest decision about a device; None if there is none."""
        return self.devices.get(device) or self.admitted.get(device)

    def with_bar(self, device: str, bar: Entry) -> "BarFile":
        """Return the file with a barred device; unchanged if the device is barred."""
        if device in self.devices:
            return self
        return self._changed(devices={**self.devices, device: bar})

    def without_bar(self, device: str, admission: Entry, keep_key: bool) -> "BarFile":
        """Return the file without a barred device; unchanged if the device is not barred.

        Args:
            device: Id of the device.
            admission: The decision, with the key that the device has now.
            keep_key: The device keeps its key, because it was never in other hands.

        Raises:
            UserError: The device has the key that it had when it was barred, and `keep_key` is False.
        """
        bar = self.devices.get(device)
        if bar is None:
            return self
        retired = dict(self.retired)
        if not keep_key:
            if admission.key == bar.key:
                raise UserError(
                    f"{device} has the same key as when it was barred: provision it with a new one, and enter that in "
                    "the site's keys. If it was never in other hands, use --keep-key"
                )
            retired[device] = [*retired.get(device, ()), bar.key][-_RETIRED_MAX:]
        devices = {name: entry for name, entry in self.devices.items() if name != device}
        return self._changed(devices=devices, retired=retired, admitted={**self.admitted, device: admission})

    def _changed(self, **fields: Any) -> "BarFile":
        return self.model_copy(update={**fields, "revision": self.revision + 1})


def fingerprint(key: DeviceKey) -> str:
    """Return 32 hexadecimal digits that identify a device key, in any epoch, and do not reveal it."""
    return hashlib.sha256(b"patrolink bar" + key.secret).hexdigest()[:32]


def load(path: Path) -> BarFile:
    """Read the file. A missing file bars nothing.

    Raises:
        UserError: The file cannot be read or is invalid.
    """
    return shared_file.load(path, BarFile)


def save(path: Path, content: BarFile) -> None:
    """Replace the file durably.

    Raises:
        OSError: Storage failed. The previous file is intact.
        UserError: The file would be too large.
    """
    shared_file.save(path, content)
