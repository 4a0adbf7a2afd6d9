"""Device keys: a TOML file with a [devices] table, readable by its owner only.

"id" = "64 hex digits"                              a device in its first key epoch
"id" = { key = "64 hex digits", epoch = 3 }         a device whose key was rotated three times
"""

import logging
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Any, NamedTuple

from patrolink_protocol.key_derivation import derive_key

from patrolink.core.errors import UserError
from patrolink.core.posix import warn_readable_by_others
from patrolink.core.text import plural

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EPOCH_MAX = (1 << 32) - 1
DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


class DeviceKey(NamedTuple):
    """A device's key.

    Args:
        secret: 32 bytes.
        epoch: number of rotations so far.
    """

    secret: bytes
    epoch: int = 0

    def derive(self, label: bytes, context: bytes = b"") -> bytes:
        """Return the 32-byte key for a purpose: see `patrolink_protocol.key_derivation`."""
        derived: bytes = derive_key(self.secret, label, self.epoch, context)
        return derived


def sidecar(capture: Path) -> Path:
    """Return the default keys file of a capture."""
    return capture.with_name(capture.name + ".keys.toml")


def find(keys_file: str | None, capture: Path | None) -> dict[str, DeviceKey]:
    """Return id → key from the first source that exists: `keys_file`, PATROLINK_KEYS, the capture's sidecar.

    Args:
        keys_file: value of --keys.
        capture: the capture to decode, if it is a file.

    Returns:
        The keys; empty if there is no source.

    Raises:
        UserError: the file cannot be used.
    """
    path = keys_file or os.environ.get("PATROLINK_KEYS")
    if path:
        return load(Path(path))
    if capture is not None and sidecar(capture).is_file():
        return load(sidecar(capture))
    return {}


def load(path: Path) -> dict[str, DeviceKey]:
    """Return id → key of a keys file.

    Raises:
        UserError: the file cannot be used; the message names the entry, never a key.
    """
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a keys file with --keys") from None
    warn_readable_by_others(path, mode)
    keys = parse(path, data)
    logging.getLogger("patrolink.keys").info("keys of %s from %s", plural(len(keys), "device"), path)
    return keys


def parse(path: Path, data: bytes) -> dict[str, DeviceKey]:
    """Return id → key of the content of a keys file.

    Args:
        path: The file, for messages.
        data: Its content.

    Raises:
        UserError: the content cannot be used; the message names the entry, never a key.
    """
    try:
        table = tomllib.loads(data.decode()).get("devices")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not TOML ({e}); a keys file has a [devices] table") from None
    if not isinstance(table, dict):
        raise UserError(f'{path}: no [devices] table; add one with lines "id" = "key"')
    keys = {}
    for i, (device, key) in enumerate(table.items(), 1):
        if not DEVICE_ID.fullmatch(device):
            # Not shown: it may be a key in the place of the id.
            raise UserError(
                f"{path}: the name of entry {i} in [devices] is no device id (1 to 32 of A-Z a-z 0-9 _ -); "
                'write "id" = "key", in this order'
            )
        keys[device] = _device_key(path, device, key)
    return keys


def _device_key(path: Path, device: str, entry: Any) -> DeviceKey:
    epoch = 0
    if isinstance(entry, dict):
        if set(entry) != {"key", "epoch"}:
            raise UserError(f"{path}: the entry of {device} needs `key` and `epoch`, and nothing else")
        entry, epoch = entry["key"], entry["epoch"]
    if not isinstance(entry, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", entry):
        raise UserError(f"{path}: the key of {device} must be 64 hexadecimal digits")
    if type(epoch) is not int or not 0 <= epoch <= EPOCH_MAX:
        raise UserError(f"{path}: the epoch of {device} must be a whole number from 0 to {EPOCH_MAX}")
    return DeviceKey(bytes.fromhex(entry), epoch)


def entry_line(device: str, key: DeviceKey) -> str:
    """Return the line of a keys file for a device."""
    text = f'"{key.secret.hex()}"'
    return f'"{device}" = ' + (f"{{ key = {text}, epoch = {key.epoch} }}" if key.epoch else text) + "\n"


def create(path: Path, device: str) -> bytes:
    """Generate a random key for one device, write it to `path` and return its 32 bytes."""
    key = secrets.token_bytes(32)
    write(path, {device: key})
    return key


def write(path: Path, devices: dict[str, bytes]) -> None:
    """Write the keys of devices in their first epoch to `path` (mode 0600); an existing file is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as f:
        f.write("[devices]\n" + "".join(entry_line(device, DeviceKey(key)) for device, key in devices.items()))
