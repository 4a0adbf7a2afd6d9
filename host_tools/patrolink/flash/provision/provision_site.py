"""A site as provisioning sees it: the site file with its table [provision], and the files that it names."""

import time
from pathlib import Path

from cryptography import x509

from patrolink.core import boards
from patrolink.core.errors import UserError
from patrolink.evidence import evidence_key
from patrolink.flash.provision import device_row, keys_file, site_secret
from patrolink.flash.provision.configuration import ConfigurationBuilder
from patrolink.flash.provision.device_table import Names
from patrolink.flash.provision.site_secret import SiteSecret
from patrolink.hub import config
from patrolink.hub.config import ProvisionConfig
from patrolink.hub.infra import bar_file

EXAMPLE = Path(__file__).with_name("provision.toml")
LEDGER_FILE = "ledger.jsonl"
_CA_MAX_BYTES = 65_536


class ProvisionSite:
    """A site whose devices are provisioned.

    Args:
        path: The site file.

    Attributes:
        site: The site file, without the members that earlier runs have written.
        provision: Its table [provision].
        keys_path: The keys file.
        members_path: The file of members.
        secret_path: The site secret.
        ledger_path: The ledger, unless another one is named.
        state_path: Folder of the state of the hubs.
        bars: The barred devices.

    Raises:
        UserError: The site file is invalid, or has no table [provision].
    """

    def __init__(self, path: Path) -> None:
        self.site = config.load_site_file(path)
        if self.site.provision is None:
            raise UserError(f"{path}: there is no table [provision]; `patrolink provision --example` prints one")
        self.provision: ProvisionConfig = self.site.provision
        self._path, self._base = path, path.parent
        self.keys_path = self._base / self.site.keys
        self.members_path = self._base / self.provision.members
        self.secret_path = self._base / self.provision.secret
        self.ledger_path = self._base / LEDGER_FILE
        self.state_path = self._base / self.site.state
        self.bars = bar_file.load(self.state_path / bar_file.FILE)
        unknown = sorted(self.provision.board.keys() - set(boards.names()))
        if unknown:
            raise UserError(
                f"{path}: provision.board.{unknown[0]}: unknown board; boards are {', '.join(boards.names())}"
            )

    @property
    def consent(self) -> str:
        """Version of the consent that wearers have given."""
        return self.provision.consent

    @property
    def folder(self) -> Path:
        """Folder of the site file."""
        return self._base

    def names(self) -> Names:
        """Return what rows of a table may refer to.

        Raises:
            UserError: Two groups have one name.
        """
        groups: dict[str, int] = {}
        for group in self.site.group:
            name = device_row.normalize(group.name)
            if name in groups:
                raise UserError(f"{self._path}: two groups are named {name!r}; give them different names")
            groups[name] = group.id
        return Names(groups, boards.names())

    def read_keys(self) -> bytes:
        """Return the content of the keys file."""
        return keys_file.read(self.keys_path)

    def load_secret(self) -> SiteSecret:
        """Return the site secret. Raises UserError if it cannot be used."""
        return site_secret.load(self.secret_path)

    def load_ca(self) -> bytes:
        """Return the CA certificates of the broker, PEM; empty if devices connect without TLS.

        Raises:
            UserError: The file is no certificate, is too large, holds a private key, or a certificate has expired.
        """
        if not self.provision.broker_ca:
            return b""
        path = self._base / self.provision.broker_ca
        try:
            with path.open("rb") as f:
                data = f.read(_CA_MAX_BYTES + 1)
        except OSError as e:
            raise UserError(f"{path}: {e.strerror}; correct `broker_ca` in [provision]") from None
        if len(data) > _CA_MAX_BYTES:
            raise UserError(
                f"{path}: more than {_CA_MAX_BYTES} bytes, which devices cannot hold; name the certificate of the "
                "broker's CA alone"
            )
        if b"PRIVATE KEY" in data:
            raise UserError(f"{path}: holds a private key, which devices must not get; name the certificate alone")
        try:
            certificates = x509.load_pem_x509_certificates(data)
        except ValueError:
            raise UserError(f"{path}: no certificate in PEM format; correct `broker_ca` in [provision]") from None
        for number, certificate in enumerate(certificates, 1):
            if certificate.not_valid_after_utc.timestamp() < time.time():
                which = f"certificate {number}" if len(certificates) > 1 else "the certificate"
                raise UserError(
                    f"{path}: {which} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it, or remove it"
                )
        return data

    def configurations(self) -> ConfigurationBuilder:
        """Return what builds the configurations. Raises UserError if the evidence key cannot be used."""
        public = evidence_key.load(self._base / self.site.evidence_key).public if self.site.evidence_key else b""
        return ConfigurationBuilder(self.site.name, self.provision, public)

    def members_by_hand(self, group: int) -> set[str]:
        """Return the devices that the site file itself has in a group."""
        entries = (entry for entry in self.site.group if entry.id == group)
        return {device for entry in entries for members in entry.member for device in members.devices}
