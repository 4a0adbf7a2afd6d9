"""A certificate authority for emulated brokers: made for one run, forgotten after it."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme
from cryptography.x509 import load_pem_x509_certificate

_SERIAL_BITS = 152  # with more, DER needs 20 bytes


@dataclass(frozen=True)
class Certificates:
    """Files of one run: `ca` for devices, `cert` (with its key in it) for the broker, `client` likewise for devices."""

    ca: Path
    cert: Path
    client: Path | None = None


def make(folder: Path, host: str, client: str | None = None, expired: bool = False) -> Certificates:
    """Make an authority and a certificate for `host`, and one for `client`, in `folder`; keys have mode 0600.

    expired  the host's ended a day ago
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))

    def issue(name: str, file: str, expired: bool = False) -> Path:
        path = folder / file
        path.touch(mode=0o600)
        end = datetime.now(timezone.utc) - timedelta(days=1) if expired else None
        made = authority.issue_cert(name, key_type=trustme.KeyType.RSA, not_after=end)
        while not _full(made):
            made = authority.issue_cert(name, key_type=trustme.KeyType.RSA, not_after=end)
        made.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    return Certificates(ca, issue(host, "broker.pem", expired), issue(client, "client.pem") if client else None)


def _full(made: trustme.LeafCert) -> bool:
    """True when its random serial number takes its 20 bytes: handshakes are as long in every run then."""
    certificate = load_pem_x509_certificate(made.cert_chain_pems[0].bytes())
    return certificate.serial_number.bit_length() > _SERIAL_BITS
