"""Seals frames from SPEC.md alone, independently of the codecs that are tested."""

import hmac
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

TAIL, PHASE, ENCRYPTED, RESERVED = 8, 4, 2, 1
UP, DOWN = 0, 1
KEY = bytes(range(32))


class Sender(NamedTuple):
    """One end of a device's link.

    Attributes:
        device: Device id.
        direction: UP or DOWN.
        epoch: Key epoch.
        key: Device key.
    """

    device: str = "vest-1"
    direction: int = UP
    epoch: int = 0
    key: bytes = KEY

    def _derive(self, suffix: str) -> bytes:
        label = f"patrolink-{'down' if self.direction else 'up'}{suffix}".encode()
        return hmac.digest(self.key, label + self.epoch.to_bytes(4, "big"), "sha256")

    def seal(self, kind: int, counter: int, body: bytes, flags: int = 0) -> bytes:
        """Return a frame; the phase flag is set as the epoch requires.

        Args:
            kind: Message type.
            counter: Counter.
            body: Body, with its tail if TAIL is set; not yet encrypted.
            flags: TAIL, ENCRYPTED, RESERVED.
        """
        flags |= PHASE if self.epoch & 1 else 0
        header = bytes([1 << 5 | kind]) + (flags << 28 | counter).to_bytes(4, "big")
        if flags & ENCRYPTED:
            first_block = header + bytes(11)
            stream = Cipher(algorithms.AES(self._derive("-cipher")[:16]), modes.CTR(first_block)).encryptor()
            body = stream.update(body)
        context = bytes([len(self.device)]) + self.device.encode() + bytes([self.direction])
        tag = hmac.digest(self._derive(""), context + header + body, "sha256")
        return header + body + tag[: 16 if kind >= 20 else 8]
