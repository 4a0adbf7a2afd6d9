"""A certificate authority for emulated brokers, created for one run."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme
from cryptography.x509 import load_pem_x509_certificate

_SERIAL_BITS = 152  # with more bits, DER needs 20 bytes


@dataclass(frozen=True)
class Certificates:
    """Files of one authority.

    Attributes:
        ca: Certificate of the authority, for devices.
        cert: Certificate and key of the broker.
        client: Certificate and key of a client.
    """

    ca: Path
    cert: Path
    client: Path | None = None


def make(folder: Path, host: str, client: str | None = None, expired: bool = False) -> Certificates:
    """Create an authority and certificates in `folder`; key files have mode 0600.

    Args:
        folder: Existing folder for the files.
        host: Name in the certificate of the broker.
        client: Name in the certificate of a client; None for no client certificate.
        expired: Whether the certificate of the host ended a day ago.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))

    def issue(name: str, file: str, expired: bool = False) -> Path:
        path = folder / file
        path.touch(mode=0o600)
        end = datetime.now(timezone.utc) - timedelta(days=1) if expired else None
        certificate = authority.issue_cert(name, key_type=trustme.KeyType.RSA, not_after=end)
        while not _full(certificate):
            certificate = authority.issue_cert(name, key_type=trustme.KeyType.RSA, not_after=end)
        certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    return Certificates(ca, issue(host, "broker.pem", expired), issue(client, "client.pem") if client else None)


def _full(certificate: trustme.LeafCert) -> bool:
    """Return whether the serial number takes its full 20 bytes: handshakes then have the same length in every run."""
    parsed = load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes())
    return parsed.serial_number.bit_length() > _SERIAL_BITS
