"""A patrol shift of real firmware whose hub updates the board over the air: campaigns of the hub on a virtual clock."""

import itertools
from dataclasses import dataclass

import patrolink_messages as m
from patrolink.core.boards import Board
from patrolink.core.capture import Record
from patrolink.core.decoder import Decoder, Row
from patrolink.emulator.network.carrier import Profile
from patrolink.emulator.peripherals import flash
from patrolink.emulator.scenarios.environment import DEVICE
from patrolink.emulator.scenarios.shift import Shift
from patrolink.flash.image.image_file import Image
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.infra import shared_file
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.updates import campaign_file, image_store
from patrolink.hub.updates.campaign_file import CampaignFile
from patrolink.hub.updates.service import UpdateFiles, UpdateService

from tests.support import campaigns
from tests.support.slot_board import SlotBoard

_POLL_MS = 500
_PUBLISH, _PUBACK = 55, 44  # bytes of a segment beside the payload of a frame: IPv4, TCP, MQTT


@dataclass
class _ShiftClock:
    shift: Shift

    def unix_ms(self) -> int:
        return self.shift.unix_ms()

    def unix_ns(self) -> int:
        return self.shift.unix_ms() * 1_000_000

    def monotonic_ms(self) -> int:
        return int(self.shift.scheduler.now)


class UpdateShift(Shift):
    """A shift with update campaigns.

    Attributes:
        slots: The slots of the board; its chip is removed after the run.
        rows: Decoded messages of the device with their times.
        command_ms: Time of the first firmware message to the device; None before it.
        confirmed_ms: When the hub got the status `confirmed`; None before it.
        air_bytes: Bytes of all segments with TCP and IP headers, up and down, between the two.
        track_bytes: Part of these in frames with positions, and their acknowledgements.
        update_bytes: Bytes of the messages of the update, up and down, with all headers and the acknowledgements.
        blocks: Bytes of images that were sent.
    """

    def __init__(self, board: Board, profile: Profile, seed: int, **named) -> None:
        super().__init__(board, profile, seed, **named)
        flash.provision(self._chip, board.image.flash_kb, "/config.json", b"{}")
        self.slots = SlotBoard(board, self._chip)
        self.rows: list[tuple[float, Row]] = []
        self.command_ms: float | None = None
        self.confirmed_ms: float | None = None
        self.air_bytes = self.track_bytes = self.update_bytes = self.blocks = 0
        self._decoder = Decoder({DEVICE: self.key})
        clock, metrics = _ShiftClock(self), Metrics()
        folder = self.work / "site"
        files = UpdateFiles(folder / campaign_file.FILE, folder / campaign_file.IMAGE_FOLDER, folder / "hub")
        files.state.mkdir(parents=True)
        self._files = files
        commands = itertools.count(1).__next__
        audit = AuditLog(folder / "audit.jsonl", clock, metrics)
        self.updates = UpdateService(files, (), self, commands, Broadcaster(metrics), audit, clock, metrics)
        on_publish = self.broker.on_publish

        def publish(device: str, payload: bytes) -> None:
            on_publish(device, payload)
            self._on_frame(device, payload)

        self.broker.on_publish = publish
        departure = self.network.departure

        def depart(direction: str, size: int) -> float:
            if self.command_ms is not None and not self.is_confirmed:
                self.air_bytes += size
            return departure(direction, size)

        self.network.departure = depart
        self.scheduler.after(_POLL_MS, self._poll)

    @property
    def is_confirmed(self) -> bool:
        return self.confirmed_ms is not None

    def statuses(self) -> list[tuple[str, str]]:
        return [(row["state"], row["reason"]) for _, row in self.rows if row["record"] == "firmware_status"]

    def plan(self, image: Image, at_ms: float) -> None:
        """Start a campaign with one image at a time."""
        data = image.pack()
        image_store.ImageStore(self._files.images).add(data)
        plan = campaigns.plan([DEVICE], [image_store.describe(data)])
        self.scheduler.at(
            at_ms, lambda: shared_file.save(self._files.campaigns, CampaignFile(revision=1, campaigns=[plan]))
        )

    def send(self, device: str, kind: int, values: dict) -> None:
        """Send a message of the campaign to the device."""
        if kind == m.FIRMWARE and self.command_ms is None:
            self.command_ms = self.scheduler.now
        self.blocks += len(values.get("data", b""))
        payload = self._downlink.seal(device, kind, values)
        self.update_bytes += len(payload) + _PUBLISH + _PUBACK
        self.broker.send(device, payload)

    def _poll(self) -> None:
        self.updates.poll()
        self.scheduler.after(_POLL_MS, self._poll)

    def _on_frame(self, device: str, payload: bytes) -> None:
        if self.command_ms is not None and payload[0] & 31 == m.POSITION_BATCH and not self.is_confirmed:
            self.track_bytes += len(payload) + _PUBLISH + _PUBACK
        if payload[0] & 31 in (m.FIRMWARE_REQUEST, m.FIRMWARE_STATUS):
            self.update_bytes += len(payload) + _PUBLISH + _PUBACK
        self.updates.frame_received(device)
        for row in self._decoder.rows(Record(self.unix_ms(), device, payload)):
            self.rows.append((self.scheduler.now, row))
            if row["record"] == "hello":
                self.updates.hello_received(row)
            elif row["record"] == "firmware_status":
                self.updates.status_received(row)
                if row["state"] == "confirmed" and self.confirmed_ms is None:
                    self.confirmed_ms = self.scheduler.now
            elif row["record"] == "firmware_request":
                self.updates.request_received(row)
