"""Frames for cases, built from SPEC.md field by field, so that a frame can break any single rule."""

import hashlib
import hmac
import struct
from typing import Any

import patrolink_messages as m
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

UP, DOWN = 0, 1
SECRET = bytes(range(32))
DEVICE = "vector-1"
ENCRYPTED, PHASE, TAIL, RESERVED = m.FLAG_ENCRYPTED, m.FLAG_PHASE, m.FLAG_TAIL, 1
COUNTER_MAX = (1 << m.COUNTER_BITS) - 1
HEADER_BYTES = 5
_LABELS = (b"patrolink-up", b"patrolink-down")
# A short genuine message in each direction: text_state, state "read".
SHORT_BODY = struct.pack(">IBQ", 7, 2, 1_700_000_000_000)
SHORT_MESSAGE = {"message": "text_state", "text_id": 7, "state": 2, "time_ms": 1_700_000_000_000}


def tag_bytes(kind: int) -> int:
    """Return the length of the tag of a type, known or not."""
    return m.LONG_TAG_BYTES if kind >= m.LONG_TAG_FROM else m.TAG_BYTES


def derived_key(secret: bytes, label: bytes, epoch: int) -> bytes:
    """Return a key that is derived from a device key."""
    return hmac.digest(secret, label + struct.pack(">I", epoch), hashlib.sha256)


def seal(
    kind: int,
    body: bytes,
    counter: int = 1,
    direction: int = UP,
    epoch: int = 0,
    device: str = DEVICE,
    secret: bytes = SECRET,
    flags: int = 0,
    flip: int = 0,
    version: int = m.VERSION,
    label: bytes | None = None,
    tagged_direction: int | None = None,
) -> bytes:
    """Return a frame with a correct tag.

    Args:
        kind: Message type.
        body: Everything between header and tag, before encryption.
        counter: Counter.
        direction: UP or DOWN: chooses the key, and is part of the tag's input.
        epoch: Key epoch.
        device: Device id.
        secret: Device key.
        flags: Flags besides the phase. With ENCRYPTED the body is encrypted.
        flip: Flags that are inverted.
        version: Major version.
        label: Label of the key instead of that of the direction.
        tagged_direction: Direction in the tag's input instead of the true one.
    """
    bits = (flags | (PHASE if epoch & 1 else 0)) ^ flip
    header = struct.pack(">BI", version << 5 | kind, bits << 28 | counter)
    if flags & ENCRYPTED:
        body = encrypt(header, body, direction, epoch, secret)
    name = device.encode()
    shown = direction if tagged_direction is None else tagged_direction
    key = derived_key(secret, _LABELS[direction] if label is None else label, epoch)
    digest = hmac.digest(key, bytes([len(name)]) + name + bytes([shown]) + header + body, hashlib.sha256)
    return header + body + digest[: tag_bytes(kind)]


def encrypt(header: bytes, body: bytes, direction: int = UP, epoch: int = 0, secret: bytes = SECRET) -> bytes:
    """Encrypt or decrypt what is between header and tag: AES-128 in counter mode (NIST SP 800-38A, 6.5)."""
    key = derived_key(secret, _LABELS[direction] + b"-cipher", epoch)[:16]
    cipher = Cipher(algorithms.AES128(key), modes.CTR(header[:5] + bytes(11))).encryptor()
    return cipher.update(body) + cipher.finalize()


def with_tail(body: bytes, *extensions: tuple[int, bytes]) -> bytes:
    """Return a body with a tail; add TAIL to the flags. An extension is (type byte, value)."""
    tail = b"".join(bytes([kind, len(value)]) + value for kind, value in extensions)
    return body + tail + bytes([len(tail)])


def request(
    letter: str, frame: bytes, direction: int = UP, epoch: int = 0, device: str = DEVICE, secret: bytes = SECRET
) -> str:
    """Return a line of the codec protocol that names key, device, direction, epoch and frame."""
    return f"{letter} {secret.hex() or '-'} {device} {direction} {epoch} {frame.hex() or '-'}"


class BitWriter:
    """A bit stream as text of 0 and 1: slow, simple, and independent of the codec that it tests."""

    def __init__(self) -> None:
        self.bits = ""

    def put(self, value: int, n: int) -> "BitWriter":
        """Append the n low bits of a value."""
        self.bits += format(value & ((1 << n) - 1), f"0{n}b") if n else ""
        return self

    def eg(self, value: int, k: int = 0) -> "BitWriter":
        """Append the Exp-Golomb code of order k."""
        n = (value + (1 << k)).bit_length()
        return self.put(0, n - k - 1).put(value + (1 << k), n)

    def body(self) -> bytes:
        """Return the stream, padded with zero bits."""
        text = self.bits + "0" * (-len(self.bits) % 8)
        return int("1" + text, 2).to_bytes(len(text) // 8 + 1, "big")[1:]


def answer(kind: int, message: dict[str, Any], counter: int = 1, extensions: list[Any] | None = None) -> dict[str, Any]:
    """Return the answer of a codec that decodes a frame."""
    return {"type": kind, "counter": counter, "extensions": extensions or [], "message": message}
