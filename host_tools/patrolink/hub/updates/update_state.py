"""What the home hub keeps of update campaigns: facts about devices, decisions that it has applied, states of devices.

The records are in one journal in the folder of the hub's state, which `patrolink ota` reads.
"""

from collections.abc import Callable, Mapping

from patrolink.hub.infra.record_journal import Key, Record
from patrolink.hub.updates import device_facts, target
from patrolink.hub.updates.campaign import Campaign
from patrolink.hub.updates.campaign_file import CampaignPlan
from patrolink.hub.updates.device_facts import DeviceFacts
from patrolink.hub.updates.target import Stop, Target

STATE_FILE = "updates.jsonl"
_CAMPAIGN, _DEVICE, _TARGET = "campaign", "device", "target"

Records = Mapping[Key, Record]


def campaign_key(name: str) -> Key:
    """Return the key of the record of a campaign."""
    return _CAMPAIGN, name


def device_key(device: str) -> Key:
    """Return the key of the facts about a device."""
    return _DEVICE, device


def target_key(campaign: str, device: str) -> Key:
    """Return the key of a device in a campaign."""
    return _TARGET, campaign, device


def keys_of_campaign(records: Records, name: str) -> list[Key]:
    """Return the keys of all records of a campaign."""
    return [key for key in records if key[0] in (_CAMPAIGN, _TARGET) and key[1] == name]


def campaigns(records: Records) -> list[str]:
    """Return the names of the campaigns that have a record."""
    return [key[1] for key in records if key[0] == _CAMPAIGN]


def facts(records: Records) -> dict[str, DeviceFacts]:
    """Return what is known about devices, by name."""
    return {key[1]: device_facts.from_record(record) for key, record in records.items() if key[0] == _DEVICE}


def campaign_record(campaign: Campaign) -> Record:
    """Return the record of the decisions that a campaign has applied."""
    run, reason = campaign.stop
    return {"run": campaign.plan.run, "requested": campaign.plan.requested, "stop_run": run, "stop_reason": reason}


def restore(plan: CampaignPlan, records: Records, allocate_command: Callable[[], int | None]) -> Campaign:
    """Return a campaign as it was stored: with the decisions that were applied before those of `plan`."""
    targets: dict[str, Target] = {}
    for device in plan.devices:
        record = records.get(target_key(plan.name, device))
        if record is not None:
            targets[device] = target.from_record(record)
    stored = records.get(campaign_key(plan.name), {"run": 0, "requested": "planned", "stop_run": 0, "stop_reason": ""})
    applied = plan.model_copy(update={"run": stored["run"], "requested": stored["requested"]})
    return Campaign(applied, targets, Stop(stored["stop_run"], stored["stop_reason"]), allocate_command)
