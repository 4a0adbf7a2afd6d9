"""What provisioning changes: keys, memberships, configurations and events, computed before anything is written."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from patrolink.core import boards, keys
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.flash import ledger
from patrolink.flash.ledger import Event
from patrolink.flash.provision import configuration, keys_file, members_file
from patrolink.flash.provision.device_table import Table, TableDevice
from patrolink.flash.provision.provision_site import ProvisionSite
from patrolink.flash.provision.site_secret import SiteSecret
from patrolink.hub.infra import bar_file


class PlannedDevice(NamedTuple):
    """A device and what it gets.

    Attributes:
        table: Its row and groups.
        key: Its key.
        state: `new`, `rotated` or `kept`, for its key.
        config: Content of its configuration file.
    """

    table: TableDevice
    key: DeviceKey
    state: str
    config: bytes

    @property
    def name(self) -> str:
        """Id of the device."""
        return self.table.row.device

    def files(self, ca: bytes) -> dict[str, bytes]:
        """Return the files of the device by name, in the order in which they are written: it needs the first."""
        certificate = {configuration.CA_FILE: ca} if ca else {}
        return {**certificate, configuration.FILE: self.config}

    def event(self, batch: str, consent: str) -> Event:
        """Return the event that it was provisioned."""
        row = self.table.row
        return Event(
            row.device,
            "provision",
            batch=batch,
            serial=row.serial,
            unique_id=row.unique_id,
            version=row.board,
            sha256=hashlib.sha256(self.config).hexdigest(),
            epoch=self.key.epoch,
            consent=consent,
        )


class Plan(NamedTuple):
    """What a run writes.

    Attributes:
        devices: The devices, in the order of the table.
        keys: Content of the keys file.
        members: Content of the file of members.
        ca: Content of the CA certificate; empty if there is none.
        barred: Devices that are barred and get no new key, by id, with what to do.
    """

    devices: list[PlannedDevice]
    keys: bytes
    members: bytes
    ca: bytes
    barred: dict[str, str]

    def files(self, site: ProvisionSite, out: Path) -> dict[Path, bytes]:
        """Return the content of each file, the keys first: a hub must know a key before a device uses it."""
        return {**self.hub_files(site), **self.device_files(out)}

    def hub_files(self, site: ProvisionSite) -> dict[Path, bytes]:
        """Return the contents of the files of the hub."""
        return {site.keys_path: self.keys, site.members_path: self.members}

    def device_files(self, out: Path) -> dict[Path, bytes]:
        """Return the contents of the files of the devices, in a folder for each."""
        return {
            out / device.name / name: content
            for device in self.devices
            for name, content in device.files(self.ca).items()
        }


def make(site: ProvisionSite, table: Table, events: Sequence[Event], rotate: Collection[str]) -> Plan:
    """Return what provisioning a table changes.

    Args:
        site: The site.
        table: The devices. One without a unique id has that of the unit which the ledger says it is.
        events: The events of the ledger.
        rotate: Ids of devices that get a new key.

    Raises:
        UserError: A device to rotate is unknown, or a file of the site cannot be used.
    """
    history, units = ledger.progress(events), ledger.units(events)
    data = site.read_keys()
    known = keys.parse(site.keys_path, data)
    _check_rotate(rotate, table, known)
    secret = site.load_secret()
    builder, ca = site.configurations(), site.load_ca()
    devices: list[PlannedDevice] = []
    barred: dict[str, str] = {}
    for entry in table.devices:
        name, state = entry.row.device, "kept"
        key = known.get(name)
        if key is None:
            # A key that was lost with the keys file is made again.
            earlier = history.get(name, {}).get("provision")
            key, state = _usable_key(site, secret, name, max(0, earlier.epoch) if earlier else 0), "new"
        elif name in rotate:
            key, state = _usable_key(site, secret, name, key.epoch + 1), "rotated"
        if state != "rotated" and site.bars.is_barred(name, bar_file.fingerprint(key)):
            barred[name] = (
                f"row {entry.number}: device: {name} is barred; remove its row, or give it a new key with "
                f"--rotate {name} and admit it with `patrolink hub unbar`"
            )
        config = configuration.encode(builder.build(name, key, boards.find(entry.row.board)))
        devices.append(PlannedDevice(_with_unit(entry, units.get(name, "")), key, state, config))
    changes = {device.name: device.key for device in devices if device.state != "kept"}
    members = members_file.changed(site, table)
    return Plan(devices, keys_file.changed(site.keys_path, data, changes), members, ca, barred)


def _with_unit(entry: TableDevice, unique_id: str) -> TableDevice:
    if entry.row.unique_id or not unique_id:
        return entry
    return entry._replace(row=entry.row.model_copy(update={"unique_id": unique_id}))


def _usable_key(site: ProvisionSite, secret: SiteSecret, device: str, epoch: int) -> DeviceKey:
    """Return the key of the first epoch from `epoch` on whose key was not retired after a bar."""
    key = secret.device_key(device, epoch)
    while bar_file.fingerprint(key) in site.bars.retired.get(device, ()):
        key = secret.device_key(device, key.epoch + 1)
    return key


def _check_rotate(rotate: Collection[str], table: Table, known: Mapping[str, DeviceKey]) -> None:
    listed = {entry.row.device for entry in table.devices}
    for name in rotate:
        if name not in listed:
            raise UserError(f"--rotate {name}: there is no such device in the table; add its row, or correct the id")
        if name not in known:
            raise UserError(f"--rotate {name}: the device has no key yet; provision it without --rotate first")


def new_events(
    plan: Plan, history: Mapping[str, Mapping[str, Event]], labels: Mapping[str, str], batch: str, consent: str
) -> list[Event]:
    """Return the events that the ledger does not have yet, so that a second run adds nothing.

    Args:
        plan: The plan.
        history: The last event of each step by device.
        labels: Content of the label by device; empty if none are written.
        batch: Name of the job.
        consent: Version of the consent.
    """
    events = []
    for device in plan.devices:
        done = history.get(device.name, {})
        event = device.event(batch, consent)
        if "provision" not in done or not same_content(done["provision"], event):
            events.append(event)
        code = labels.get(device.name)
        if code and ("label" not in done or done["label"].version != code):
            row = device.table.row
            events.append(
                Event(row.device, "label", batch=batch, serial=row.serial, unique_id=row.unique_id, version=code)
            )
    return events


def same_content(one: Event, other: Event) -> bool:
    """Return whether two events say that a device was provisioned with the same result."""
    return _content(one) == _content(other)


def _content(event: Event) -> tuple[object, ...]:
    return event.result == ledger.OK, event.serial, event.unique_id, event.sha256, event.epoch, event.consent
