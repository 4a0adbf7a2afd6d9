"""The site's evidence key: a P-256 private key in a PEM file, for its owner only. It reads what devices recorded."""

import os
import stat
import sys
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from patrolink_protocol import clip

from patrolink.core.errors import UserError

_MAKE = "make one with `patrolink hub --new-evidence-key FILE`"
_BOOTS = 64  # boots whose chain is kept
_EVERY = 64  # of a boot's chain each key of so many is kept
_STEPS = 1_000_000  # of a boot: names have six digits


class EvidenceKey:
    """The private key, and the public one in the form that devices are configured with.

    public  33 bytes, compressed (SEC 1)
    id      the 8 bytes that segments name it by
    """

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )
        self.id = clip.key_id(self.public)
        self._chains: dict[bytes, list[bytes]] = {}

    def segment_key(self, header: clip.Header) -> bytes:
        """Return the 32 bytes that a segment is encrypted with.

        UserError when the segment is for another evidence key, or its header cannot be right.
        """
        if header.recipient != self.id:
            raise UserError(
                f"the segment is for the evidence key {header.recipient.hex()}, this one is {self.id.hex()}; "
                "give the key that was in the device's configuration then"
            )
        if header.step >= _STEPS:
            raise UserError(f"the segment says that it is step {header.step} of a boot; its header is damaged")
        kept = self._chain(bytes(header.ephemeral))
        at = min(header.step // _EVERY, len(kept) - 1)
        key = kept[at]
        for step in range(at * _EVERY + 1, header.step + 1):
            key = clip.next_key(key)
            if step == len(kept) * _EVERY:
                kept.append(key)
        found: bytes = clip.segment_key(key)
        return found

    def _chain(self, ephemeral: bytes) -> list[bytes]:
        """Return the chain keys of a boot that are known yet: those of step 0, _EVERY, 2 * _EVERY, ..."""
        if ephemeral not in self._chains:
            try:
                public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), ephemeral)
            except ValueError:
                raise UserError("the segment's boot key is not on P-256; its header is damaged") from None
            if len(self._chains) == _BOOTS:
                del self._chains[next(iter(self._chains))]
            shared = self._private.exchange(ec.ECDH(), public)
            self._chains[ephemeral] = [clip.first_key(shared, ephemeral, self.public)]
        return self._chains[ephemeral]


def load(path: Path) -> EvidenceKey:
    """Return the key of a PEM file. UserError names the file and what is wrong with it, never the key."""
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name the file of the evidence key, or {_MAKE}") from None
    try:
        private = serialization.load_pem_private_key(data, None)
    except TypeError:
        raise UserError(f"{path}: the key is under a password; take it off with `openssl ec`") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(f"{path}: no private key in PEM; {_MAKE}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise UserError(f"{path}: the evidence key has to be on P-256, this one is another; {_MAKE}")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        print(f"warning: {path} can be read by others; run `chmod 600 {path}`", file=sys.stderr)
    return EvidenceKey(private)


def new(path: Path) -> EvidenceKey:
    """Make a key, write it to `path` (mode 0600) and return it. UserError when that is there or cannot be written."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as f:
            f.write(pem)
            f.flush()
            os.fsync(f.fileno())
    except FileExistsError:
        raise UserError(f"{path}: is there already, and what was recorded for it needs it; name another file") from None
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a file that can be written") from None
    return EvidenceKey(private)
