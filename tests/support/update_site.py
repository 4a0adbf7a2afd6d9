"""A site whose hub updates devices over the air: a hub in the test's process, an image, and messages of devices."""

import contextlib
import random

import patrolink_messages as m
from patrolink.hub.infra import shared_file
from patrolink.hub.updates import campaign_file, image_store
from patrolink.hub.updates.campaign_file import CampaignFile
from patrolink.hub.updates.image_store import ImageStore
from patrolink_names import NAMES as VALUE_NAMES

from tests.support import campaigns
from tests.support.flash_images import write_image
from tests.support.hub_harness import HubHarness

CONTENT = random.Random(5).randbytes(2000)
OLD = bytes(7) + b"\1"
STATES = {name: code for code, name in VALUE_NAMES["firmware_status", "state"].items()}


class UpdateSite:
    """A site whose hub may be restarted, and an image in its store.

    Attributes:
        folder: Folder of the site.
        image: The image.
        hub: The hub that runs.
    """

    def __init__(self, folder, stack: contextlib.ExitStack) -> None:
        self.folder, self._stack = folder, stack
        data = write_image(folder / "new.plimg", CONTENT, rollback=3).read_bytes()
        (folder / "state").mkdir()
        self.image, self.data = image_store.describe(data), data
        ImageStore(folder / "state" / campaign_file.IMAGE_FOLDER).add(data)
        self._counters: dict[str, int] = {}
        self.hub = self.start()

    @property
    def path(self):
        return self.folder / "state" / campaign_file.FILE

    @property
    def journal(self):
        return self.folder / "state" / "shard-0" / "updates.jsonl"

    def start(self) -> HubHarness:
        """Start a hub, also a second one with the same state: a restart."""
        hub = HubHarness(self.folder, self.hub.clock if hasattr(self, "hub") else None)
        self._stack.callback(hub.close)
        hub._counters = self._counters  # of the devices, which do not restart
        self.hub = hub
        hub.poll_updates()
        hub.take_publications()
        return hub

    def change(self, function) -> None:
        """Change the file of campaigns, as a verb does."""
        shared_file.save(self.path, function(campaign_file.load(self.path)))
        self.hub.poll_updates()

    def run_campaign(self, devices=("vest-1", "vest-2"), **fields) -> None:
        """Start a campaign."""
        plan = campaigns.plan(devices, [self.image], **fields)
        self.change(lambda content: CampaignFile(revision=content.revision + 1, campaigns=[plan]))

    def say_hello(self, *devices: str, **fields) -> None:
        for device in devices:
            values = {"board": b"mps2_an385", "platform": 1, "content": OLD, "rollback_floor": 1, **fields}
            self.hub.send_hello(device, **values)

    def report(self, device: str, state: str, content: bytes = OLD, reason: int = 0, **fields) -> None:
        """Send a `firmware_status` of a device."""
        number = STATES[state]
        values = {"command_id": self.command(device), "state": number, "reason": reason, "content": content}
        self.hub.send(device, m.FIRMWARE_STATUS, {**values, "rollback_floor": 1, "text": b"", **fields})

    def command(self, device: str) -> int:
        return self.row(device)["command_id"] or 0

    def row(self, device: str) -> dict:
        (campaign,) = self.hub.service._updates.rows(100)
        (row,) = (row for row in campaign["targets"] if row["device"] == device)
        return row

    def states(self) -> dict[str, int]:
        (campaign,) = self.hub.service._updates.rows(100)
        return campaign["update_states"]

    def request(self, device: str, offset: int, n: int = 900, image: str = "") -> list[tuple]:
        """Request a block, and return the blocks that the hub sends: (device, offset, data)."""
        values = {"image": bytes.fromhex(image or self.image.id), "offset": offset, "max_bytes": n}
        self.hub.send(device, m.FIRMWARE_REQUEST, values)
        return self.blocks()

    def blocks(self) -> list[tuple]:
        messages = self.hub.take_publications()
        return [(device, v["offset"], v["data"]) for device, kind, v in messages if kind == m.FIRMWARE_BLOCK]

    def commands(self) -> list[tuple]:
        """Take the messages to devices, and return the commands: (device, action, command id)."""
        self.hub.poll_updates()
        messages = self.hub.take_publications()
        return [(device, v["action"], v["command_id"]) for device, kind, v in messages if kind == m.FIRMWARE]

    def update(self, device: str) -> None:
        """Update a device successfully."""
        for state in ("fetching", "installed"):
            self.report(device, state)
        self.report(device, "confirmed", bytes.fromhex(self.image.content))
