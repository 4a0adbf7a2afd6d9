"""A site whose emulated boards are flashed and provisioned in batches, and a small agent image for them."""

from collections.abc import Sequence
from pathlib import Path

from patrolink.cli import main
from patrolink.flash import ledger
from patrolink.flash.image import romfs

from tests.support.flash_images import write_signed_image
from tests.support.provision_site import ProvisionedSite
from tests.support.release_keys import TRUST

BOARD = "mps2_an385"
# The texts make the configuration too large for the metadata of littlefs: it needs a block of its own.
_WIRING = f"""[provision.config]
status_texts = {[f"{i} " + "x" * 230 for i in range(8)]}
[provision.board.{BOARD}]
gps_uart = 1
modem = {{ uart = 2, apn = "internet" }}
watchdog = 60000
"""
# An agent that only says who it is.
_START = b"""import json
import time


def start(path, load_hal, log, slot=None, safe=False):
    with open(path) as f:
        print("agent of %s runs" % json.load(f)["device"])
    while True:
        time.sleep_ms(20)
"""


def small_agent(padding: bytes = b"") -> bytes:
    """Return the content of an agent image that starts within a moment."""
    return romfs.write({"app/start.py": _START, "padding": padding})


class BatchSite(ProvisionedSite):
    """A site with a table of boards, and an image for them.

    Args:
        folder: Folder of the site file.
        devices: Number of rows.
        content: Content of the image.
        unique_ids: Unique ids by row, for rows that name one.

    Attributes:
        image: The image.
        labels_path: File of the labels.
    """

    def __init__(
        self, folder: Path, devices: int, content: bytes | None = None, unique_ids: dict[int, str] | None = None
    ) -> None:
        super().__init__(folder, _WIRING)
        named = unique_ids or {}
        self.write_table(*(self.row(i, named.get(i, "")) for i in range(1, devices + 1)))
        self.image = write_signed_image(folder / "agent.plimg", small_agent() if content is None else content)
        self.labels_path = folder / "labels.pdf"

    @staticmethod
    def row(i: int, unique_id: str = "") -> str:
        """Return the row of device number `i`."""
        return f"SN-{i:04d},radio-{i},Harbour circle,{BOARD},,{unique_id}\n"

    def words(self, ports: Sequence[str], *options: str) -> list[str]:
        """Return the command line that flashes the boards on ports as the batch `monday`."""
        named = ["--trust", str(TRUST), "--batch", "monday", "--provision", str(self.folder / "devices.csv")]
        place = ["flash", str(self.image), *ports, "--labels", str(self.labels_path)]
        return [*place, *named, "--retries", "0", *options]

    def flash(self, ports: Sequence[str], *options: str) -> int:
        """Flash the batch; return the exit code."""
        return main(self.words(ports, *options))

    def check(self) -> int:
        """Compare table, keys and ledger; return the exit code."""
        return main(["provision", str(self.folder / "site.toml"), str(self.folder / "devices.csv"), "--check"])

    def units(self) -> dict[str, str]:
        """Return the unique id of each device, from the ledger."""
        return ledger.units(self.history().events)
