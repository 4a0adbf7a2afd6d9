"""Rows about update campaigns, JSON-ready: for the console and `patrolink ota status`."""

from typing import Any

from patrolink.hub.updates.campaign import Campaign

Row = dict[str, Any]


def campaign_row(campaign: Campaign) -> Row:
    """Return the row of a campaign.

    `campaign_reason` says why it was started, paused or stopped, `update_states` counts devices by state.
    """
    plan = campaign.plan
    stopped = campaign.state == "stopped"
    return {
        "campaign": plan.name,
        "campaign_state": campaign.state,
        "campaign_reason": campaign.stop.reason if stopped else plan.reason,
        "who": "hub" if stopped else plan.who,
        "firmware_version": plan.images[0].version,
        "devices": len(plan.devices),
        "update_states": campaign.counts(),
    }


def device_row(campaign: Campaign, device: str) -> Row:
    """Return the row of a device. `update_reason` says why it waits, or why it ended like this."""
    target, image = campaign.targets[device], campaign.image_of(device)
    return {
        "campaign": campaign.plan.name,
        "device": device,
        "update_state": target.state,
        "update_reason": target.deferral or target.reason,
        "firmware_version": image.version if image else None,
        "image_id": target.image or None,
        "command_id": target.command or None,
    }
