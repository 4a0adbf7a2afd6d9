"""A certificate authority for emulated brokers: made for one run, forgotten after it."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files of one run: `ca` for devices, `cert` (with its key in it) for the broker, `client` likewise for devices."""

    ca: Path
    cert: Path
    client: Path | None = None


def make(folder: Path, host: str, client: str | None = None) -> Certificates:
    """Make an authority and a certificate for `host`, and one for `client`, in `folder`; keys have mode 0600."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))

    def issue(name: str, file: str) -> Path:
        path = folder / file
        path.touch(mode=0o600)
        made = authority.issue_cert(name, key_type=trustme.KeyType.RSA)
        made.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    return Certificates(ca, issue(host, "broker.pem"), issue(client, "client.pem") if client else None)
