"""Key handling of push-to-talk at a hub (PTT.md, "Keys")."""

from collections.abc import Callable
from typing import NamedTuple

from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from patrolink_protocol import srtp
from patrolink_protocol.aes import encrypter

from patrolink.core.keys import DeviceKey

MASTER_BYTES = srtp.KEY_BYTES + srtp.SALT_BYTES


def srtcp_context(key: DeviceKey, label: bytes) -> srtp.SrtcpTransform:
    """Return the SRTCP context of one direction. `label` is patrolink-ptt-up or patrolink-ptt-down."""
    return srtp.SrtcpTransform(encrypter, *srtp.derive_master(key.secret, label, key.epoch))


class GroupKey(NamedTuple):
    """Key that protects a group's voice. `secret` is the SRTP master key and master salt."""

    number: int
    secret: bytes

    def srtp_context(self) -> srtp.SrtpTransform:
        """Return a new SRTP context. A context must not be shared between threads."""
        return srtp.SrtpTransform(encrypter, self.secret[: srtp.KEY_BYTES], self.secret[srtp.KEY_BYTES :])

    def wrap_for(self, key: DeviceKey) -> bytes:
        """Return the key wrapped for one device (RFC 3394)."""
        return aes_key_wrap(key.derive(b"patrolink-ptt-wrap")[: srtp.KEY_BYTES], self.secret + bytes(2))

    def successor(self, random_bytes: Callable[[int], bytes]) -> "GroupKey":
        """Return a new key with the next number.

        Args:
            random_bytes: Returns a number of random bytes, for keys.
        """
        return GroupKey(self.number + 1, random_bytes(MASTER_BYTES))
