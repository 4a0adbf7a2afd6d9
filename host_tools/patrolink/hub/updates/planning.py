"""Which devices a campaign updates, in which order, and whether its images fit together."""

import hashlib
import math
from collections.abc import Iterable, Sequence

from patrolink.core.errors import UserError
from patrolink.hub.config import Site
from patrolink.hub.updates.campaign_file import CampaignImage

_SAMPLE = b"patrolink update sample "


def devices_of_groups(site: Site, names: Iterable[str]) -> set[str]:
    """Return the devices of talk groups, each given by its name or number.

    Raises:
        UserError: There is no such group.
    """
    devices: set[str] = set()
    for name in names:
        named = [group for group in site.group if name in (group.name, str(group.id))]
        if not named:
            known = ", ".join(group.name for group in site.group)
            raise UserError(f"the site has no talk group {name!r}; it has {known}")
        devices.update(device for group in named for members in group.member for device in members.devices)
    return devices


def ordered(devices: Iterable[str], percent: float) -> list[str]:
    """Return a part of the devices, at least one, in the order of their updates.

    The order follows from the names alone: a sample is part of each larger one, and devices of all kinds are in it.
    """
    every = sorted(devices, key=lambda device: hashlib.sha256(_SAMPLE + device.encode()).digest())
    return every[: math.ceil(len(every) * percent / 100)]


def wave_ends(count: int, percents: Sequence[float]) -> list[int]:
    """Return the number of devices up to the end of each wave, ascending, without the last wave: all devices."""
    ends = sorted({math.ceil(count * percent / 100) for percent in percents})
    return [end for end in ends if 0 < end < count]


def check_images(images: Sequence[CampaignImage]) -> None:
    """Check that all images of a board lead to the same agent.

    Raises:
        UserError: They do not.
    """
    first: dict[str, CampaignImage] = {}
    for image in images:
        other = first.setdefault(image.board, image)
        for field, title in (("content", "content"), ("version", "version"), ("rollback", "rollback number")):
            values = getattr(other, field), getattr(image, field)
            if values[0] != values[1]:
                raise UserError(
                    f"two images for board {image.board} have the {title} {values[0]} and {values[1]}; a campaign has "
                    "one new agent per board: give its deltas and its full image, and plan other agents separately"
                )
