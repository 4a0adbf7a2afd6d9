"""One device of a campaign, and what a campaign wants to be done."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from patrolink.hub.updates.campaign_file import CampaignImage

OFFLINE, NO_HELLO = "offline", "no hello yet"  # deferrals that the hub decides on; others are reported by devices
IN_TRIAL = "another image is in its trial"


class Progress(str, Enum):
    """How far a device is."""

    PLANNED = "planned"
    OFFERED = "offered"
    FETCHING = "fetching"
    INSTALLED = "installed"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


ACTIVE = (Progress.OFFERED, Progress.FETCHING, Progress.INSTALLED)
OPEN = (Progress.PLANNED, *ACTIVE)
DEFERRED = "deferred"  # state of an open device that waits


class Target(NamedTuple):
    """State of one device.

    Attributes:
        progress: How far it is.
        deferral: Why it waits; empty: it does not.
        reason: Why it has failed, was skipped or cancelled.
        command: Id of its `firmware` command; 0: none.
        image: Id of the image that it gets; empty: none.
        run: Start of the campaign in which it ended.
        used_ms: Time that it has taken so far, of the limit.
        with_delta: False after the device has refused a delta.
        cancelling: The device has to be told that its command is cancelled.
    """

    progress: Progress = Progress.PLANNED
    deferral: str = ""
    reason: str = ""
    command: int = 0
    image: str = ""
    run: int = 0
    used_ms: int = 0
    with_delta: bool = True
    cancelling: bool = False

    @property
    def state(self) -> str:
        """The state for people: that of `progress`, or DEFERRED."""
        return DEFERRED if self.deferral and self.progress in OPEN else self.progress.value

    @property
    def is_counted(self) -> bool:
        """True if the device counts for the error threshold."""
        return self.progress in (Progress.CONFIRMED, Progress.FAILED)

    def record(self) -> dict[str, Any]:
        """Return the state as JSON-ready data; see `from_record`."""
        return {**self._asdict(), "progress": self.progress.value}


def from_record(record: Mapping[str, Any]) -> Target:
    """Return a target that was stored as `Target.record`."""
    return Target(**{**record, "progress": Progress(record["progress"])})


class Stop(NamedTuple):
    """A campaign stopped without a request: in which start, and why. Run 0: it has not."""

    run: int = 0
    reason: str = ""


class Changed(NamedTuple):
    """The state of a device has changed. It is stored, and shown; with `is_noted` it is also audited."""

    device: str
    is_noted: bool


class Stopped(NamedTuple):
    """The campaign has stopped without a request; its `stop` is stored and audited."""


class Offer(NamedTuple):
    """Request a device to install an image: for the first time, or again."""

    device: str
    command: int
    image: CampaignImage
    is_first: bool


class Cancel(NamedTuple):
    """Tell a device that a command is cancelled."""

    device: str
    command: int
    image: str


Effect = Changed | Stopped | Offer | Cancel
