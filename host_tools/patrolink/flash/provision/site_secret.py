"""The secret of a site, which the keys of its devices are derived from: 64 hexadecimal digits in a file of mode 0600.

Who has it has the keys of all devices. With a backup of it, and the ledger, a lost keys file can be made again.
"""

import os
import re
import secrets
from pathlib import Path

from patrolink_protocol.key_derivation import derive_key

from patrolink.core import durable_files
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.core.posix import readable_by_others

_LABEL = b"patrolink-device"
_BYTES = 32
_CREATE_HINT = "create one with `patrolink provision SITE --new-secret`"


class SiteSecret:
    """The secret of a site.

    Args:
        secret: 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def device_key(self, device: str, epoch: int) -> DeviceKey:
        """Return the key of a device in a key epoch. Keys of different epochs do not reveal each other."""
        return DeviceKey(derive_key(self._secret, _LABEL, epoch, device.encode()), epoch)


def load(path: Path) -> SiteSecret:
    """Read the secret.

    Raises:
        UserError: The file cannot be used. The text never holds its content.
    """
    try:
        with path.open("rb") as f:
            mode, data = os.fstat(f.fileno()).st_mode, f.read(1024)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no site secret; {_CREATE_HINT}, or restore it from a backup") from None
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; correct its owner, or name another file in [provision]") from None
    if readable_by_others(mode):
        raise UserError(
            f"{path}: others can read the site secret; run `chmod 600 {path}`, and rotate the keys of devices"
        )
    text = data.decode("ascii", "replace").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise UserError(f"{path}: a site secret has 64 hexadecimal digits, and nothing else; restore it from a backup")
    return SiteSecret(bytes.fromhex(text))


def create(path: Path) -> None:
    """Create a random secret in a new file.

    Raises:
        UserError: The file exists or cannot be written.
    """
    try:
        durable_files.create(path, f"{secrets.token_hex(_BYTES)}\n".encode())
    except FileExistsError:
        raise UserError(f"{path}: the file exists, and devices may have keys from it; name another file") from None
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name another file in [provision], or free some space") from None
