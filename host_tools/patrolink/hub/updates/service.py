"""Update campaigns of a site, at its home hub: follows the file of campaigns, stores states, sends and answers.

A state is on storage before a device is sent what follows from it. A hub that was killed continues with what is stored,
and sends a command again whose arrival it does not know of.
"""

import asyncio
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from patrolink_messages import FIRMWARE
from patrolink_names import NAMES, TIMER_FIRMWARE_EXPIRY_MS

from patrolink.core.clock import Clock
from patrolink.core.decoder import Row
from patrolink.core.errors import UserError
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.infra import persistence, shared_file
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.record_journal import Key, Record, RecordJournal
from patrolink.hub.updates import campaign_file, device_facts, update_rows, update_state
from patrolink.hub.updates.block_server import BlockServer, Sender
from patrolink.hub.updates.campaign import Campaign, Devices, Status
from patrolink.hub.updates.campaign_file import CampaignPlan
from patrolink.hub.updates.image_store import ImageStore
from patrolink.hub.updates.target import Cancel, Changed, Effect, Offer, Stopped

APPLIED_FILE = "campaigns-applied.json"  # what this hub has applied; `patrolink ota` waits for it
_POLL_S = 0.5
_ACTIONS = {name: code for code, name in NAMES["firmware", "action"].items()}
_OPERATOR_BYTES_MAX = 40


class UpdateFiles(NamedTuple):
    """Where campaigns are.

    Attributes:
        campaigns: The file of campaigns.
        images: Folder of the images.
        state: Folder of the hub's state.
    """

    campaigns: Path
    images: Path
    state: Path


class UpdateService:
    """The campaigns.

    Args:
        files: Where they are.
        bars: Barred devices, which get no updates.
        sender: Sends messages to devices.
        new_command: Returns the id of a new command, or raises OSError.

    Raises:
        UserError: A file cannot be read.
    """

    def __init__(
        self,
        files: UpdateFiles,
        bars: Container[str],
        sender: Sender,
        new_command: Callable[[], int],
        dispatchers: Broadcaster,
        audit: AuditLog,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._files, self._sender, self._new_command = files, sender, new_command
        self._dispatchers, self._audit, self._clock, self._metrics = dispatchers, audit, clock, metrics
        self._journal = RecordJournal(files.state / update_state.STATE_FILE)
        self._store = ImageStore(files.images)
        self._blocks = BlockServer(self._store, sender, clock, metrics)
        self._facts = update_state.facts(self._journal.records)
        self._heard_ms: dict[str, int] = {}
        self._devices = Devices(self._facts, self._heard_ms, bars)
        self._campaigns: dict[str, Campaign] = {}
        self._stamp: shared_file.Stamp | None = None
        self._revision = self._applied_revision = -1  # the file is written at the start, for who waits for it
        for state in ("confirmed", "deferred", "failed"):
            metrics.gauges[f"update_{state}"] = _StateCount(self._campaigns, state)

    # --- messages of devices ------------------------------------------------------------------------------------------

    def frame_received(self, device: str) -> None:
        """Process the arrival of a frame: the device is online."""
        self._heard_ms[device] = self._clock.monotonic_ms()

    def hello_received(self, row: Row) -> None:
        """Process a `hello`."""
        device = row["device"]
        self._learn(device, device_facts.from_hello(self._facts.get(device), row))

    def status_received(self, row: Row) -> None:
        """Process a `firmware_status`."""
        device, known = row["device"], self._facts.get(row["device"])
        if known is not None:
            self._learn(device, device_facts.from_status(known, row))
        reason = "" if row["reason"] == "none" else str(row["reason"])
        status = Status(row["command_id"], str(row["state"]), reason, row["content"], row["text"])
        for campaign in self._campaigns.values():
            self._perform(campaign, campaign.status_received(device, status))

    def request_received(self, row: Row) -> None:
        """Process a `firmware_request`. Blocks are sent of the image only that a running campaign has assigned."""
        device, image = row["device"], row["image"]
        for campaign in self._campaigns.values():
            if campaign.may_fetch(device, image):
                self._perform(campaign, campaign.requested(device, image))
                self._blocks.request(device, image, row["offset"], row["max_bytes"])
                return
        self._metrics.refused["firmware request"] += 1

    def _learn(self, device: str, facts: device_facts.DeviceFacts) -> None:
        if facts != self._facts.get(device):
            self._facts[device] = facts
            self._put({update_state.device_key(device): facts.record()})

    # --- time ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self.poll()
            await asyncio.sleep(_POLL_S)

    def poll(self) -> None:
        """Apply what has changed in the file, and do what is due. What storage prevents is tried again."""
        self._put({})
        try:
            self._reload()
        except UserError:
            self._metrics.counts["campaign_file_unreadable"] += 1
        now_ms = self._clock.monotonic_ms()
        for campaign in self._campaigns.values():
            self._perform(campaign, campaign.step(now_ms, self._devices))
        self._blocks.serve()

    def _reload(self) -> None:
        """Read the file if it has changed. A file that has disappeared changes nothing. Raises UserError."""
        stamp = shared_file.stamp(self._files.campaigns)
        if self._revision < 0 or stamp not in (None, self._stamp):
            content = campaign_file.load(self._files.campaigns)
            for plan in content.campaigns:
                self._apply(plan)
            self._forget_others({plan.name for plan in content.campaigns})
            self._stamp, self._revision = stamp, content.revision
        if self._applied_revision != self._revision and self._journal.is_saved:
            try:
                persistence.save_json(self._files.state / APPLIED_FILE, {"revision": self._revision})
                self._applied_revision = self._revision
            except OSError:
                self._metrics.counts["storage_failed"] += 1

    def _apply(self, plan: CampaignPlan) -> None:
        campaign = self._campaigns.get(plan.name)
        if campaign is None or not campaign.plan.run:
            campaign = update_state.restore(plan, self._journal.records, self._allocate_command)
            self._campaigns[plan.name] = campaign
        before = campaign.plan
        if before == plan:
            return
        effects = campaign.decide(plan)
        if plan.run > before.run:
            effects += self._check_images(campaign)
        self._put({update_state.campaign_key(plan.name): update_state.campaign_record(campaign)})
        facts = {"campaign": plan.name, "run": plan.run, "devices": len(plan.devices), "reason": plan.reason}
        self._audit.note(plan.who, f"update {plan.requested}", **facts)
        self._perform(campaign, effects)
        self._show(campaign)

    def _check_images(self, campaign: Campaign) -> list[Effect]:
        try:
            for image in campaign.plan.images:
                self._store.check(image)
        except UserError as e:
            return campaign.halt(str(e))
        return []

    def _forget_others(self, names: set[str]) -> None:
        stored = update_state.campaigns(self._journal.records)
        for name in {*self._campaigns, *stored} - names:
            self._campaigns.pop(name, None)
            self._put(dict.fromkeys(update_state.keys_of_campaign(self._journal.records, name)))

    # --- effects ------------------------------------------------------------------------------------------------------

    def _perform(self, campaign: Campaign, effects: Iterable[Effect]) -> None:
        effects = list(effects)
        if not effects:
            return
        name, changes, noted = campaign.plan.name, dict[Key, Record | None](), dict[str, bool]()
        for effect in effects:
            if isinstance(effect, Changed):
                key = update_state.target_key(name, effect.device)
                changes[key] = campaign.targets[effect.device].record()
                noted[effect.device] = noted.get(effect.device, False) or effect.is_noted
            elif isinstance(effect, Stopped):
                changes[update_state.campaign_key(name)] = update_state.campaign_record(campaign)
        self._put(changes)
        for effect in effects:
            if isinstance(effect, Offer):
                self._offer(campaign, effect)
            elif isinstance(effect, Cancel):
                self._cancel(campaign, effect)
            elif isinstance(effect, Stopped):
                self._note_stop(campaign)
        for device, is_noted in noted.items():
            self._note(campaign, device, is_noted)
        if changes:
            self._show(campaign)

    def _put(self, changes: dict[Key, Record | None]) -> None:
        try:
            self._journal.put(changes)
        except OSError:
            self._metrics.counts["storage_failed"] += 1

    def _offer(self, campaign: Campaign, offer: Offer) -> None:
        """Send a command to install. One that is not on storage or in the audit log is not sent, but tried again."""
        if not self._journal.is_saved:
            return
        device, image, who = offer.device, offer.image, campaign.plan.who
        if offer.is_first:
            facts = {"command": offer.command, "image": image.id, "version": image.version}
            try:
                self._audit.write(who, "firmware", device=device, campaign=campaign.plan.name, **facts)
            except UserError:
                return
        values = {"action": _ACTIONS["install"], "image": bytes.fromhex(image.id), "bytes": image.size}
        floor = self._facts[device].floor
        self._send(campaign, device, offer.command, {**values, "version": image.version, "rollback_floor": floor})

    def _cancel(self, campaign: Campaign, cancel: Cancel) -> None:
        values = {"action": _ACTIONS["cancel"], "image": bytes.fromhex(cancel.image), "bytes": None, "version": ""}
        self._send(campaign, cancel.device, cancel.command, {**values, "rollback_floor": 0})

    def _send(self, campaign: Campaign, device: str, command: int, values: dict[str, Any]) -> None:
        operator = campaign.plan.who.encode()[:_OPERATOR_BYTES_MAX]
        times = {"expires_ms": self._clock.unix_ms() + TIMER_FIRMWARE_EXPIRY_MS, "operator": operator}
        version = values["version"].encode()
        self._sender.send(device, FIRMWARE, {**values, **times, "command_id": command, "version": version})
        self._metrics.counts["update_commands"] += 1

    def _note_stop(self, campaign: Campaign) -> None:
        name, reason = campaign.plan.name, campaign.stop.reason
        self._audit.note("hub", "update stopped", campaign=name, reason=reason)
        text = f"update campaign {name} has stopped: {reason}"
        self._dispatchers.broadcast({"type": "notice", "id": f"update {name}", "text": text})

    def _note(self, campaign: Campaign, device: str, is_noted: bool) -> None:
        """Inform dispatchers, and with `is_noted` the audit log, of the state of a device."""
        row = update_rows.device_row(campaign, device)
        if is_noted:
            facts = {"campaign": campaign.plan.name, "state": row["update_state"], "reason": row["update_reason"]}
            self._audit.note(device, "update", command=row["command_id"], **facts)
        self._dispatchers.broadcast({"type": "update", **row})

    def _show(self, campaign: Campaign) -> None:
        self._dispatchers.broadcast({"type": "campaign", **update_rows.campaign_row(campaign)})

    def _allocate_command(self) -> int | None:
        try:
            return self._new_command()
        except OSError:
            self._metrics.counts["storage_failed"] += 1
            return None

    # --- views --------------------------------------------------------------------------------------------------------

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """Return the rows of all campaigns, newest first, each with `targets`: rows of at most `limit` devices."""
        result = []
        for campaign in reversed(self._campaigns.values()):
            devices = campaign.plan.devices[:limit]
            targets = [update_rows.device_row(campaign, device) for device in devices]
            result.append({**update_rows.campaign_row(campaign), "targets": targets})
        return result


class _StateCount:
    """Gauge of the devices of all campaigns in a state."""

    def __init__(self, campaigns: dict[str, Campaign], state: str) -> None:
        self._campaigns, self._state = campaigns, state

    def __call__(self) -> int:
        return sum(campaign.counts().get(self._state, 0) for campaign in self._campaigns.values())
