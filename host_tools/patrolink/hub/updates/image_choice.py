"""Which image of a campaign a device gets, if any."""

from collections.abc import Iterable
from typing import NamedTuple

from patrolink.core.text import plural
from patrolink.hub.updates.campaign_file import CampaignImage
from patrolink.hub.updates.device_facts import DeviceFacts


class Choice(NamedTuple):
    """The image for a device, or None and the reason why it gets none."""

    image: CampaignImage | None
    reason: str = ""


def choose(facts: DeviceFacts, images: Iterable[CampaignImage], with_delta: bool = True) -> Choice:
    """Return the smallest image that a device can install: a delta for the agent that runs, or one without a base.

    Args:
        facts: What is known about the device.
        images: Those of the campaign.
        with_delta: False after the device has refused a delta.
    """
    if not facts.platform:
        return Choice(None, f"board {facts.board} has no slots; flash it by cable")
    fitting = [image for image in images if image.board == facts.board]
    if not fitting:
        return Choice(None, f"no image for board {facts.board}")
    first = fitting[0]
    if first.content == facts.content:
        return Choice(None, f"runs version {first.version} already")
    if first.rollback < facts.floor:
        return Choice(None, f"rollback number {first.rollback} is below {facts.floor} of the device")
    if facts.platform < first.platform:
        return Choice(
            None, f"needs platform {first.platform}, the device has {facts.platform}: flash the platform first"
        )
    usable = [image for image in fitting if image.base is None or (with_delta and image.base == facts.content)]
    if not usable:
        n = plural(len(fitting), "delta")
        return Choice(None, f"{n}, none for the agent that runs ({facts.content}); add the full image")
    return Choice(min(usable, key=lambda image: image.size))
