"""The file of update campaigns, `campaigns.json` in the folder of a site's state; `patrolink ota` changes it.

It contains what people have decided: images, devices, limits, and whether a campaign runs. What has become of each
device is in the state of the home hub; see service.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from patrolink.core.errors import UserError
from patrolink.hub.infra import shared_file

FILE = "campaigns.json"
IMAGE_FOLDER = "updates"  # beside the file
CAMPAIGNS_MAX = 50

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,39}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # first 8 bytes of a SHA-256
Number = Annotated[int, Field(ge=0, lt=1 << 32)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CampaignImage(_Strict):
    """An image of a campaign.

    Attributes:
        id: Of the image file.
        size: Bytes of the image file.
        content: Of the agent that runs after the installation.
        base: Of the agent that a delta applies to; None: the image needs none.
    """

    id: Digest
    size: int = Field(gt=256)
    board: str
    version: str
    rollback: Number
    platform: int
    content: Digest
    base: Digest | None


class Limits(_Strict):
    """When a campaign waits, and when it stops.

    Attributes:
        waves: Numbers of devices, ascending: how many may be updated until those before have ended.
        parallel: Devices that are updated at the same time.
        error_pct: The campaign stops if more than this part of the ended devices has failed, ...
        minimum: ... as soon as so many devices have ended.
        device_s: Time that one device may take. Time without a connection does not count before the installation.
    """

    waves: list[int] = []
    parallel: int = Field(default=20, ge=1, le=10_000)
    error_pct: int = Field(default=5, ge=0, le=100)
    minimum: int = Field(default=5, ge=1)
    device_s: int = Field(default=14_400, ge=60, le=30 * 86_400)


class CampaignPlan(_Strict):
    """A campaign.

    Attributes:
        images: The images; all of one board lead to the same agent.
        devices: In the order in which they are updated.
        requested: What was decided last.
        run: Number of starts.
        who: Who decided.
        reason: Why, in words.
        time_ms: When, Unix time.
    """

    name: Name
    images: list[CampaignImage] = Field(min_length=1)
    devices: list[str] = Field(min_length=1)
    limits: Limits = Limits()
    requested: Literal["planned", "running", "paused"] = "planned"
    run: int = 0
    who: str = Field(max_length=200)
    reason: str = Field(default="", max_length=500)
    time_ms: int


class CampaignFile(_Strict):
    """Content of the file.

    Attributes:
        revision: Increases with every change.
        campaigns: In the order in which they were planned.
    """

    revision: int = 0
    campaigns: list[CampaignPlan] = []

    def find(self, name: str) -> CampaignPlan:
        """Return a campaign by name.

        Raises:
            UserError: There is none.
        """
        for plan in self.campaigns:
            if plan.name == name:
                return plan
        known = ", ".join(plan.name for plan in self.campaigns) or "none"
        raise UserError(f"no campaign {name!r}; planned are: {known}. `patrolink ota plan` makes one")

    def with_plan(self, plan: CampaignPlan) -> "CampaignFile":
        """Return the file with a campaign that replaces one of the same name.

        Raises:
            UserError: The campaign of this name has been started, or there are too many.
        """
        if any(other.name == plan.name and other.run for other in self.campaigns):
            raise UserError(f"campaign {plan.name} has been started and cannot be planned again; choose another name")
        others = [other for other in self.campaigns if other.name != plan.name]
        if len(others) >= CAMPAIGNS_MAX:
            raise UserError(f"there are {CAMPAIGNS_MAX} campaigns; remove one with `patrolink ota remove`")
        return self._changed([*others, plan])

    def started(
        self, name: str, who: str, reason: str, time_ms: int, is_open: Callable[[str, str], bool]
    ) -> "CampaignFile":
        """Return the file with a campaign started, also again after a pause or a stop.

        Args:
            name: The campaign.
            who: Who starts it.
            reason: Why.
            time_ms: Unix time.
            is_open: Whether a device of another campaign that runs has not ended there: (campaign, device).

        Raises:
            UserError: There is no such campaign, or a device is in another one that runs.
        """
        plan = self.find(name)
        for other in self.campaigns:
            if other is not plan and other.requested == "running":
                common = [device for device in set(plan.devices) & set(other.devices) if is_open(other.name, device)]
                if common:
                    raise UserError(
                        f"{min(common)} is also in campaign {other.name}, which runs; end that with "
                        f"`patrolink ota pause {other.name}`, or plan this one without the device"
                    )
        return self._with(plan, requested="running", run=plan.run + 1, who=who, reason=reason, time_ms=time_ms)

    def paused(self, name: str, who: str, reason: str, time_ms: int) -> "CampaignFile":
        """Return the file with a campaign paused; unchanged unless it runs. Raises UserError if there is none."""
        plan = self.find(name)
        if plan.requested != "running":
            return self
        return self._with(plan, requested="paused", who=who, reason=reason, time_ms=time_ms)

    def without(self, name: str) -> "CampaignFile":
        """Return the file without a campaign. Raises UserError if it runs or there is none."""
        plan = self.find(name)
        if plan.requested == "running":
            raise UserError(f"campaign {name} runs; end it with `patrolink ota pause {name}` first")
        return self._changed([other for other in self.campaigns if other is not plan])

    def images(self) -> set[str]:
        """Return the ids of all images that a campaign needs."""
        return {image.id for plan in self.campaigns for image in plan.images}

    def _with(self, plan: CampaignPlan, **fields: object) -> "CampaignFile":
        changed = plan.model_copy(update=fields)
        return self._changed([changed if other is plan else other for other in self.campaigns])

    def _changed(self, campaigns: list[CampaignPlan]) -> "CampaignFile":
        return CampaignFile(revision=self.revision + 1, campaigns=campaigns)


def load(path: Path) -> CampaignFile:
    """Read the file. A missing file has no campaigns. Raises UserError if it cannot be read or is invalid."""
    return shared_file.load(path, CampaignFile)
