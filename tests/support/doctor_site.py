"""`patrolink doctor` in this process, and a site for it to check."""

import datetime
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.command import run_command
from tests.support.console_site import free_port
from tests.support.hub_process import free_ports


def run(*arguments: object, **env: str) -> subprocess.CompletedProcess:
    """Run `patrolink doctor` with variables of the environment."""
    return run_command("doctor", *arguments, **env)


def make_certificate(path: Path, start_day: int, end_day: int) -> None:
    """Write a self-signed certificate that is valid between two days, counted from today, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub.example")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now + datetime.timedelta(days=start_day))
    certificate = builder.not_valid_after(now + datetime.timedelta(days=end_day)).sign(key, hashes.SHA256())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    no_password = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)
    path.with_name("key.pem").write_bytes(pem)
    path.with_name("key.pem").chmod(0o600)


def make_site(folder: Path, broker: str) -> Path:
    """Write a site file with a console that needs the certificate hub.pem, and a group with a device without a key."""
    floor, media = free_ports(2)
    (folder / "keys.toml").write_text(f'[devices]\n"vest-1" = "{"5a" * 32}"\n')
    (folder / "keys.toml").chmod(0o600)
    path = folder / "site.toml"
    path.write_text(
        f'name = "harbour.example"\nkeys = "keys.toml"\nbroker = "{broker}"\n'
        f'[[hub]]\nhost = "127.0.0.1"\nfloor_port = {floor}\nmedia_port = {media}\n'
        f'console = "127.0.0.1:{free_port()}"\n'
        'console_certificate = "hub.pem"\nconsole_key = "key.pem"\n'
        '[[group]]\nid = 1\nname = "one"\n[[group.member]]\ndevices = ["vest-1", "vest-2"]\n'
    )
    return path
