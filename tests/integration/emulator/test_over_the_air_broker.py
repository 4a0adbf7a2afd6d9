"""The emulated board updates over the air in real time: a real broker, and the campaigns of the hub."""

import itertools

import pytest
from patrolink.core.clock import SystemClock
from patrolink.core.keys import DeviceKey
from patrolink.emulator.peripherals import flash, nmea
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.infra import shared_file
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.downlink import Downlink
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.updates import campaign_file, image_store
from patrolink.hub.updates.campaign_file import CampaignFile
from patrolink.hub.updates.service import UpdateFiles, UpdateService

from tests.support import agent_images, campaigns
from tests.support.agent_images import BOARD
from tests.support.device_rig import DeviceRig, walk
from tests.support.polling import TIMEOUT_S
from tests.support.slot_board import SlotBoard

pytestmark = pytest.mark.skipif(
    bool(BOARD.missing_packages()), reason="the packages of board mps2_an385 are not installed"
)


class Hub:
    """The campaigns of a hub behind a broker.

    Args:
        rig: The device and a subscriber at the broker.
        folder: Folder of the site.
        image: Packed image for the device.
    """

    def __init__(self, rig: DeviceRig, folder, image: bytes) -> None:
        self._rig = rig
        self._row = 0
        self._downlink = Downlink({rig.device_id: DeviceKey(rig.key)})
        files = UpdateFiles(folder / campaign_file.FILE, folder / campaign_file.IMAGE_FOLDER, folder / "hub")
        files.state.mkdir(parents=True)
        image_store.ImageStore(files.images).add(image)
        plan = campaigns.plan([rig.device_id], [image_store.describe(image)])
        shared_file.save(files.campaigns, CampaignFile(revision=1, campaigns=[plan]))
        clock, metrics = SystemClock(), Metrics()
        audit, commands = AuditLog(folder / "audit.jsonl", clock, metrics), itertools.count(1).__next__
        self.updates = UpdateService(files, (), self, commands, Broadcaster(metrics), audit, clock, metrics)

    def send(self, device: str, kind: int, values: dict) -> None:
        """Publish a message to the device."""
        self._rig.transport.publish(device, self._downlink.seal(device, kind, values))

    def has_confirmed(self) -> bool:
        """Process what has come from the device; return whether its update is confirmed."""
        rows, self._row = self._rig.rows[self._row :], len(self._rig.rows)
        for row in rows:
            self.updates.frame_received(row["device"])
            if row["record"] == "hello":
                self.updates.hello_received(row)
            elif row["record"] == "firmware_status":
                self.updates.status_received(row)
            elif row["record"] == "firmware_request":
                self.updates.request_received(row)
        self.updates.poll()
        (campaign,) = self.updates.rows(10)
        return campaign["update_states"] == {"confirmed": 1}


@pytest.mark.long(30)
def test_board_installs_a_delta_through_a_real_broker(broker, tmp_path):
    agent = agent_images.build_agent()
    newer = agent_images.with_file(agent, "notes.txt", b"version 2")
    chip = tmp_path / "device" / "flash.bin"
    chip.parent.mkdir()
    flash.provision(chip, BOARD.image.flash_kb, "/config.json", b"{}")
    slots = SlotBoard(BOARD, chip)
    slots.install(agent.payload, 1, confirmed=True)
    rig = DeviceRig(tmp_path, BOARD.name, broker, nmea.speak(walk(60)), 1, modem="quectel")
    with rig.stack:
        hub = Hub(rig, tmp_path / "site", agent_images.packed(agent, newer).pack())
        rig.receiver.start()
        rig.listen(hub.has_confirmed, 3 * TIMEOUT_S)
    assert slots.journal.state.slots[1].confirmed and slots.journal.state.floor == 2
    hello = [row for row in rig.rows if row["record"] == "hello"][-1]
    assert hello["content"] == newer.header.sha256[:8].hex()
