"""Members of groups as the site defines them: standing groups in the site file, dynamic groups, private groups."""

from collections.abc import Mapping
from typing import Any

from patrolink.hub.config import MemberConfig, Site


def dynamic_members(definition: Mapping[str, Any], devices: list[str]) -> MemberConfig:
    """Return the membership of devices in a dynamic group."""
    return MemberConfig(devices=devices, priority=definition["priority"], rights=["talk", "emergency"])


def private_members(site: Site, device: str) -> MemberConfig:
    """Return the membership of a device in its private group."""
    return MemberConfig(devices=[device], priority=site.private_priority, rights=["talk", "emergency"])


def memberships_of(
    device: str, site: Site, dynamic: Mapping[int, Mapping[str, Any]], private: Mapping[str, int]
) -> dict[int, MemberConfig]:
    """Return the memberships of a device by group number, also in groups of other hubs.

    Args:
        device: Id of the device.
        site: The site file.
        dynamic: Definitions of dynamic groups, by number.
        private: Numbers of private groups, by device.
    """
    members = {
        group.id: entry.model_copy(update={"devices": [device]})
        for group in site.group
        for entry in group.member
        if device in entry.devices
    }
    for number, definition in dynamic.items():
        if device in definition["devices"]:
            members[number] = dynamic_members(definition, [device])
    if device in private:
        members[private[device]] = private_members(site, device)
    return members
