"""Release keys (P-256) sign images. Private keys are PEM files with mode 0600, trust stores are PEM public keys."""

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from patrolink_protocol import image_header
from patrolink_protocol.image_header import ImageHeader

from patrolink.core import durable_files
from patrolink.core.errors import UserError
from patrolink.core.posix import warn_readable_by_others

PASSPHRASE_VARIABLE = "PATROLINK_RELEASE_PASSPHRASE"  # noqa: S105 - the name of a variable
VALID, INVALID, UNKNOWN_KEY, UNSIGNED = "valid", "invalid", "unknown key", "unsigned"  # state of a signature
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_TRUST_BYTES_MAX = 65536
_KEY_BYTES_MAX = 4096
_END = b"-----END PUBLIC KEY-----"
_CREATE_HINT = "create one with `patrolink image key FILE`"


class TrustStore:
    """Public release keys.

    Args:
        keys: The keys.
    """

    def __init__(self, keys: list[ec.EllipticCurvePublicKey]) -> None:
        self._keys = {image_header.key_id(point(key)): key for key in keys}

    def points(self) -> set[bytes]:
        """Return the keys as `point` returns them."""
        return {point(key) for key in self._keys.values()}

    def pem(self) -> str:
        """Return the keys in PEM format, as `load_trust_store` reads them."""
        return "".join(map(public_pem, self._keys.values()))

    def check(self, header: ImageHeader) -> str:
        """Return the state of the signature of a header: VALID, INVALID, UNKNOWN_KEY or UNSIGNED."""
        if header.signature == image_header.UNSIGNED:
            return UNSIGNED
        key = self._keys.get(header.key_id)
        if key is None:
            return UNKNOWN_KEY
        r, s = (int.from_bytes(half, "big") for half in (header.signature[:32], header.signature[32:]))
        digest = image_header.signed_digest(image_header.pack(header))
        try:
            key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        except InvalidSignature:
            return INVALID
        return VALID


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the public key as devices hold it: 65 bytes, uncompressed (SEC 1, 2.3.3)."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def public_pem(key: ec.EllipticCurvePublicKey) -> str:
    """Return the public key in PEM format, as a trust store contains it."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(encoding, form).decode()


def sign(header: ImageHeader, private: ec.EllipticCurvePrivateKey) -> ImageHeader:
    """Return the header with key id and signature: of RFC 6979 where the library has it, with the lower s."""
    public = private.public_key()
    header = header._replace(key_id=image_header.key_id(point(public)), signature=image_header.UNSIGNED)
    digest = image_header.signed_digest(image_header.pack(header))
    r, s = signature_of(private, digest)
    return header._replace(signature=r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def signature_of(private: ec.EllipticCurvePrivateKey, digest: bytes) -> tuple[int, int]:
    """Return r and s of a signature over a SHA-256: of RFC 6979 where the library has it, with the lower s."""
    algorithm = utils.Prehashed(hashes.SHA256())
    try:
        signature = private.sign(digest, ec.ECDSA(algorithm, deterministic_signing=True))
    except (TypeError, UnsupportedAlgorithm):  # cryptography < 43, or its OpenSSL < 3.2
        signature = private.sign(digest, ec.ECDSA(algorithm))
    r, s = utils.decode_dss_signature(signature)
    return r, min(s, _ORDER - s)


def is_low(s: int) -> bool:
    """Return whether s is the lower one of the two that make a signature valid."""
    return 0 < s <= _ORDER // 2


def create(path: Path, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    """Create a key and write it to a new file with mode 0600.

    Raises:
        UserError: The file exists.
        OSError: The file cannot be written.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    try:
        durable_files.create(path, pem)
    except FileExistsError:
        raise UserError(f"{path}: the file exists, and images may need the key in it; give another file") from None
    return private


def load_private(path: Path, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey | None:
    """Read a private key; None if it needs a passphrase and none was given. Warns when others can read the file.

    Raises:
        UserError: The file is not a release key, or the passphrase is wrong. The text contains no part of them.
        OSError: The file cannot be read.
    """
    mode = path.stat().st_mode
    data = _read(path, _KEY_BYTES_MAX, "private key")
    encrypted = b"ENCRYPTED" in data
    if encrypted and not passphrase:
        return None
    try:
        private = serialization.load_pem_private_key(data, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = "the passphrase is wrong, or the key damaged" if encrypted else "not a private key in PEM format"
        raise UserError(f"{path}: {reason}; give the right one, or {_CREATE_HINT}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise UserError(f"{path}: a release key is on the curve P-256, this one is not; {_CREATE_HINT}")
    warn_readable_by_others(path, mode)
    return private


def load_trust_store(path: Path) -> TrustStore:
    """Read a trust store: public keys in PEM format, one after the other.

    Raises:
        UserError: The file has no public key, or one that is not valid.
        OSError: The file cannot be read.
    """
    data = _read(path, _TRUST_BYTES_MAX, "trust store")
    blocks = [block + _END for block in data.split(_END)[:-1]]
    keys = []
    for n, block in enumerate(blocks, 1):
        try:
            key = serialization.load_pem_public_key(block[max(block.find(b"-----BEGIN"), 0) :])
        except (ValueError, UnsupportedAlgorithm):
            raise UserError(f"{path}: key {n} is not a public key in PEM format; remove it or copy it again") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise UserError(f"{path}: key {n} is not on the curve P-256, as release keys are; remove it")
        keys.append(key)
    if not keys:
        raise UserError(f"{path}: no public key in PEM format; `patrolink image key` prints that of a new key")
    return TrustStore(keys)


def _read(path: Path, limit: int, what: str) -> bytes:
    with path.open("rb") as f:
        data = f.read(limit + 1)
    if len(data) > limit:
        raise UserError(f"{path}: more than {limit} bytes, which no {what} has; give the right file")
    return data
