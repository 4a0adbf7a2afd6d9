"""The site's evidence key: a P-256 private key in a PEM file. It decrypts what devices recorded."""

import threading
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from patrolink_protocol import clip

from patrolink.core import durable_files
from patrolink.core.errors import UserError
from patrolink.core.posix import warn_readable_by_others

_CREATE_HINT = "create one with `patrolink hub --new-evidence-key FILE`"
_CACHED_BOOTS_MAX = 64
_CACHE_INTERVAL = 64  # steps between two cached chain keys of a boot
_STEPS_MAX = 1_000_000  # of a boot: file names have six digits


class EvidenceKey:
    """An evidence key. Threads may share it.

    Attributes:
        public: The public key that devices are configured with: 33 bytes, compressed (SEC 1, 2.3.3).
        id: The 8 bytes that name the key in segments.

    Args:
        private: The private key.
    """

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )
        self.id = clip.key_id(self.public)
        self._chains: dict[bytes, list[bytes]] = {}  # boot key: chain keys of steps 0, _CACHE_INTERVAL, ...
        self._lock = threading.Lock()

    def segment_key(self, header: clip.SegmentHeader) -> bytes:
        """Return the 32-byte AES key of a segment (CLIP.md, "Keys").

        Raises:
            UserError: The segment is encrypted for another evidence key, or its header is not valid.
        """
        if header.recipient != self.id:
            raise UserError(
                f"the segment is encrypted for the evidence key {header.recipient.hex()}, this one is {self.id.hex()}; "
                "use the key that the device was configured with at that time"
            )
        if header.step >= _STEPS_MAX:
            raise UserError(f"the header says step {header.step} of a boot, which is not possible; it is damaged")
        with self._lock:
            chain = self._chain(bytes(header.ephemeral))
            index = min(header.step // _CACHE_INTERVAL, len(chain) - 1)
            chain_key = chain[index]
            for step in range(index * _CACHE_INTERVAL + 1, header.step + 1):
                chain_key = clip.next_chain_key(chain_key)
                if step == len(chain) * _CACHE_INTERVAL:
                    chain.append(chain_key)
        key: bytes = clip.segment_key(chain_key)
        return key

    def _chain(self, ephemeral: bytes) -> list[bytes]:
        """Return the cached chain keys of a boot."""
        if ephemeral not in self._chains:
            try:
                public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), ephemeral)
            except ValueError:
                raise UserError("the boot key in the header is not a point on P-256; the header is damaged") from None
            if len(self._chains) == _CACHED_BOOTS_MAX:
                del self._chains[next(iter(self._chains))]
            shared = self._private.exchange(ec.ECDH(), public)
            self._chains[ephemeral] = [clip.first_chain_key(shared, ephemeral, self.public)]
        return self._chains[ephemeral]


def load(path: Path) -> EvidenceKey:
    """Read a key from a PEM file, with a warning when others can read it.

    Raises:
        UserError: The file is not a valid evidence key. The text never holds the key.
    """
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; give the file of the evidence key, or {_CREATE_HINT}") from None
    try:
        private = serialization.load_pem_private_key(data, None)
    except TypeError:
        raise UserError(f"{path}: the key is protected by a password; remove it with `openssl ec`") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(f"{path}: not a private key in PEM format; {_CREATE_HINT}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise UserError(f"{path}: the evidence key must be a key on the curve P-256; {_CREATE_HINT}")
    warn_readable_by_others(path, mode)
    return EvidenceKey(private)


def create(path: Path) -> EvidenceKey:
    """Create a key and write it to a new file with mode 0600.

    Raises:
        UserError: The file exists or cannot be written.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        durable_files.create(path, pem)
    except FileExistsError:
        raise UserError(f"{path}: the file exists, and recordings may need the key in it; give another file") from None
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; give a file that can be written") from None
    return EvidenceKey(private)
