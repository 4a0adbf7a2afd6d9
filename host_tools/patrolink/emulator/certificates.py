"""A certificate authority for emulated brokers: made for one run, forgotten after it."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files of one run: `ca` for devices, `cert` (with its key in it) for the broker on `host`."""

    ca: Path
    cert: Path


def make(folder: Path, host: str) -> Certificates:
    """Make an authority and a certificate for `host` in `folder` (keys with mode 0600)."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    made = Certificates(folder / "ca.pem", folder / "broker.pem")
    authority.cert_pem.write_to_path(str(made.ca))
    made.cert.touch(mode=0o600)
    authority.issue_cert(host, key_type=trustme.KeyType.RSA).private_key_and_cert_chain_pem.write_to_path(
        str(made.cert)
    )
    return made
