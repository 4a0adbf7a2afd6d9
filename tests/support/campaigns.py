"""Update campaigns for tests: plans, facts about devices, and a campaign with a clock and a model of its devices."""

from patrolink.hub.updates.campaign import Campaign, Devices, Status
from patrolink.hub.updates.campaign_file import CampaignImage, CampaignPlan, Limits
from patrolink.hub.updates.device_facts import DeviceFacts
from patrolink.hub.updates.target import Cancel, Offer, Stop

OLD, NEW, OTHER = (n.to_bytes(8, "big").hex() for n in (1, 2, 3))
BOARD = "mps2_an385"


def image(number: int, base: str | None = None, content: str = NEW, **fields) -> CampaignImage:
    """Return an image; `number` makes its id, and its size unless `fields` has one."""
    values = {"size": 1000 + number, "board": BOARD, "version": "2.0", "rollback": 5, "platform": 1, **fields}
    return CampaignImage(id=number.to_bytes(8, "big").hex(), content=content, base=base, **values)


FULL, DELTA = image(900), image(1, base=OLD)


def facts(content: str = OLD, floor: int = 1, platform: int = 1, board: str = BOARD) -> DeviceFacts:
    """Return what is known about a device."""
    return DeviceFacts(board, platform, content, floor, "1.0")


def plan(devices, images=(FULL, DELTA), **fields) -> CampaignPlan:
    """Return a campaign that runs; `fields` are those of the plan, or of its limits."""
    limits = {name: fields.pop(name) for name in Limits.model_fields if name in fields}
    values = {"requested": "running", "run": 1, "who": "chief", "time_ms": 0, **fields}
    return CampaignPlan(name="spring", images=list(images), devices=list(devices), limits=Limits(**limits), **values)


class Rig:
    """A campaign on a clock.

    Attributes:
        campaign: The campaign.
        now_ms: Time.
        facts, heard_ms, bars: Of its devices; all are online at the start.
        sent: Offers and cancellations so far.
    """

    def __init__(self, decided: CampaignPlan) -> None:
        self.now_ms = 1_000_000
        self.facts = {device: facts() for device in decided.devices}
        self.heard_ms = dict.fromkeys(decided.devices, self.now_ms)
        self.bars: set[str] = set()
        self.sent: list[Offer | Cancel] = []
        self._command = 0
        self.campaign = Campaign(decided, {}, Stop(), self._allocate)

    def _allocate(self) -> int:
        self._command += 1
        return self._command

    def take(self, effects) -> list:
        """Keep the messages among effects, and return all."""
        effects = list(effects)
        self.sent += [effect for effect in effects if isinstance(effect, (Offer, Cancel))]
        return effects

    def step(self, ms: int = 1000, online: bool = True) -> list:
        """Let time pass, in steps as the hub makes them; `online` devices send frames meanwhile."""
        effects = []
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            self.now_ms = min(self.now_ms + 1000, end_ms)
            if online:
                self.heard_ms = dict.fromkeys(self.facts, self.now_ms)
            effects += self.take(self.campaign.step(self.now_ms, Devices(self.facts, self.heard_ms, self.bars)))
        return effects

    def report(self, device: str, state: str, reason: str = "", content: str = OLD, command: int | None = None) -> list:
        """Deliver a status of a device under its command."""
        number = self.campaign.targets[device].command if command is None else command
        return self.take(self.campaign.status_received(device, Status(number, state, reason, content, "")))

    def update(self, device: str, end: str = "confirmed") -> None:
        """Let a device go through all states to its end."""
        for state in ("fetching", "installed"):
            self.report(device, state)
        self.report(device, end, content=NEW if end == "confirmed" else OLD)

    def offers(self) -> list[str]:
        """Return the devices that were sent a command to install, and forget the messages."""
        sent, self.sent = self.sent, []
        return [message.device for message in sent if isinstance(message, Offer)]

    def state(self, device: str) -> str:
        """Return the state of a device."""
        return self.campaign.targets[device].state

    def reason(self, device: str) -> str:
        """Return why a device waits or has ended."""
        target = self.campaign.targets[device]
        return target.deferral or target.reason
