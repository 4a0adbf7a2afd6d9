"""The file of members: which devices of the tables are in which talk groups. The hub adds them to its site file."""

import json
from collections import defaultdict

from patrolink.flash.provision.device_table import Table
from patrolink.flash.provision.provision_site import ProvisionSite
from patrolink.hub import config

HEADER = b"# Written by `patrolink provision`, which overwrites changes.\n"
_Terms = tuple[int, int, tuple[str, ...]]  # group, priority, rights


def load(site: ProvisionSite) -> list[config.MemberFileEntry]:
    """Return the entries of the file; none if it does not exist. Raises UserError if it cannot be used."""
    return config.load_members(site.members_path).member if site.members_path.exists() else []


def changed(site: ProvisionSite, table: Table) -> bytes:
    """Return the content of the file with the groups of a table's devices.

    Devices of other tables keep theirs. Members that the site file has itself, and groups that it no longer has, are
    left out.

    Raises:
        UserError: The earlier file cannot be used.
    """
    listed = {entry.row.device for entry in table.devices}
    members: dict[_Terms, set[str]] = defaultdict(set)
    for entry in load(site):
        members[(entry.group, entry.priority, tuple(entry.rights))] |= set(entry.devices) - listed
    priority, rights = site.provision.priority, tuple(site.provision.rights)
    for device in table.devices:
        for number in device.groups:
            members[(number, priority, rights)].add(device.row.device)
    known = {group.id for group in site.site.group}
    content = HEADER
    for terms, devices in sorted(members.items()):
        names = sorted(devices - site.members_by_hand(terms[0]))
        if names and terms[0] in known:
            content += _entry(terms, names)
    return content


def _entry(terms: _Terms, devices: list[str]) -> bytes:
    number, priority, rights = terms
    return (
        f"\n[[member]]\ngroup = {number}\ndevices = {json.dumps(devices)}\n"
        f"priority = {priority}\nrights = {json.dumps(rights)}\n"
    ).encode()
