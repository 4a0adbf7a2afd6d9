"""A site with [provision], its secret and a table of devices, in a folder."""

import json
import os
from pathlib import Path

from patrolink.cli import main
from patrolink.flash import ledger
from patrolink.flash.provision import site_secret

SECRET = bytes(range(32))
SITE = """name = "harbour.example"
keys = "keys.toml"
broker = "{broker}"
{top}
[[hub]]
host = "127.0.0.1"
listen = "127.0.0.1"
floor_port = {floor}
media_port = {media}
[[group]]
id = 1
name = "Harbour circle"
[[group]]
id = 3
name = "Old town, night"
[[group.member]]
devices = ["police-1"]
priority = 100
[provision]
broker_host = "127.0.0.1"
broker_port = {port}
consent = "2026-01"
{provision}
[provision.board.linux]
gps_uart = "{gps}"
[provision.board.lilygo_t_a7670]
modem = {{ apn = "cmnet" }}
"""
HEADER = "serial,device,circle,board,groups,unique_id\n"
ROWS = (
    'S-1,vest-1,Harbour circle,linux,"Old town, night",24:6f:28:aa:bb:cc\n',
    "S-2,vest-2,Harbour circle,lilygo_t_a7670,,\n",
)
POLICE_KEY = "ab" * 32


class ProvisionedSite:
    """The site and what a run writes.

    Attributes:
        folder: Folder of the site file.
        out: Folder of the configurations.
    """

    def __init__(self, folder: Path, provision: str = "", top: str = "", port: int = 1883, **values) -> None:
        self.folder, self.out = folder, folder / "out"
        facts = {"broker": f"mqtt://127.0.0.1:{port}", "floor": 5004, "media": 5006, "gps": "/dev/ttyS1", **values}
        text = SITE.format(provision=provision, top=top, port=port, **facts)
        (folder / "site.toml").write_text(text, encoding="utf-8")
        self.write_secret("keys.toml", f'# by hand\n[devices]\n"police-1" = "{POLICE_KEY}"  # the station\n')
        self.write_secret("site.secret", SECRET.hex() + "\n")
        self.write_table(*ROWS)

    def write_secret(self, name: str, text: str) -> None:
        """Write a file that only its owner can read."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(text)

    def write_table(self, *rows: str) -> None:
        """Write the table of devices."""
        (self.folder / "devices.csv").write_text(HEADER + "".join(rows), encoding="utf-8")

    def run(self, *options: str) -> int:
        """Run `patrolink provision` with the table; return its exit code."""
        place = [str(self.folder / "site.toml"), str(self.folder / "devices.csv")]
        return main(["provision", *place, "--out", str(self.out), *options])

    def revoke(self, device: str, *options: str) -> int:
        """Run `patrolink provision --revoke`; return its exit code."""
        return main(["provision", str(self.folder / "site.toml"), "--revoke", device, *options])

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace text in a file."""
        path = self.folder / name
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    def labels(self) -> list[str]:
        """Return the options for labels of both kinds."""
        return [word for name in ("labels.pdf", "labels.zpl") for word in ("--labels", str(self.folder / name))]

    def config(self, device: str) -> dict:
        """Return the configuration of a device."""
        return json.loads((self.out / device / "config.json").read_bytes())

    def history(self) -> ledger.Content:
        """Return the ledger."""
        return ledger.read(self.folder / "ledger.jsonl")

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Return mode and content of all files by path, and the folders."""
        return {
            str(path.relative_to(self.folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in sorted(self.folder.rglob("*"))
        }


def key_of(device: str, epoch: int = 0):
    """Return the key that the secret gives a device."""
    return site_secret.SiteSecret(SECRET).device_key(device, epoch)
