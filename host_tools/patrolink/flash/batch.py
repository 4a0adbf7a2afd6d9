"""A batch: devices are flashed, get the rows of a table, their configurations and labels, as one resumable transaction.

The ledger and the devices themselves are its memory. In this order, each on storage before the next:

1. keys and members of all rows, in the files of the hub
2. for each device: `assign` in the ledger, before anything is written to it
3. the image, read back: `flash` (or `verify`, if the device held it already)
4. configuration and key, read back: `provision`
5. the labels of all devices of the batch, when the others have ended: `label`

After an interruption at any point, the same command finishes what is missing: a step is repeated only if the device, or
a file, does not hold its result.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from patrolink.core.errors import UserError
from patrolink.flash import ledger
from patrolink.flash.batch_rows import BatchRows
from patrolink.flash.device_flow import State
from patrolink.flash.flash_image import FlashImage
from patrolink.flash.fleet import Device
from patrolink.flash.ledger import FAILED, OK, Event
from patrolink.flash.provision import configuration, device_table, labels, plan
from patrolink.flash.provision.file_transaction import FileTransaction
from patrolink.flash.provision.plan import PlannedDevice
from patrolink.flash.provision.provision_site import ProvisionSite
from patrolink.flash.provision.run import check_barred, check_configurations
from patrolink.flash.records import Assignment, RefusedError

_SCRATCH = ".provision-check"  # beside the site file: it holds keys


class Options(NamedTuple):
    """What a batch is.

    Attributes:
        name: Its name in the ledger.
        table: The table of devices.
        ledger: The ledger, for messages.
        labels: Files of labels.
        label_font: Font of the labels; None: the built-in one.
        resume: Whether it goes on.
        dry_run: Write nothing.
    """

    name: str
    table: Path
    ledger: Path
    labels: Sequence[Path] = ()
    label_font: Path | None = None
    resume: bool = False
    dry_run: bool = False


class Batch:
    """A batch that is under way.

    Args:
        site: The site.
        image: The image.
        options: Settings.
        events: The events of the ledger.
        append: Appends events to the ledger, or does nothing in a dry run.

    Raises:
        UserError: The table or a file of the site is wrong, or the batch is not what the ledger says. Nothing has
            changed.
    """

    def __init__(
        self,
        site: ProvisionSite,
        image: FlashImage,
        options: Options,
        events: Sequence[Event],
        append: Callable[[Sequence[Event]], None],
    ) -> None:
        self._site, self._image, self._options, self._append = site, image, options, append
        self._events = list(events)
        self._check_resume()
        table = device_table.load(options.table, site.names())
        self._plan = plan.make(site, table, self._events, ())
        check_barred(self._plan, options.table)
        self._units = ledger.units(self._events)
        self._rows = BatchRows(self._plan.devices, self._units, image.header.board)
        self._check_labels()

    def prepare(self) -> bool:
        """Check the configurations with the code of the agent, and enter keys and members in the files of the hub.

        Returns:
            Whether a file of the hub has changed.

        Raises:
            UserError: A configuration is not valid, or storage failed. Nothing has changed.
        """
        self._check_configurations()
        if self._options.dry_run:
            return False
        with self._storage("nothing was provisioned"), FileTransaction() as transaction:
            for path, data in self._plan.hub_files(self._site).items():
                transaction.stage(path, data)
            transaction.commit(lambda: None)
            return bool(transaction.paths)

    def assign(self, device: Device, in_order: bool) -> Assignment | None:
        """Return the row of a device, after the ledger has it.

        Args:
            device: The device.
            in_order: Whether all devices before it have their rows; None is returned if it needs a free one, else.

        Raises:
            RefusedError: There is none for it.
            UserError: The ledger cannot be written.
        """
        assert device.identity is not None
        planned = self._rows.take(device.port.path, device.identity, in_order)
        if planned is None:
            return None
        unit = device.identity.unique_id
        self._check_state(planned, device)
        if self._units.get(planned.name) != unit:
            self._enter(self._event("assign", planned, device))
            self._units[planned.name] = unit
        return Assignment(planned.name, planned.table.row.serial, planned.files(self._plan.ca))

    def note(self, device: Device) -> None:
        """Enter in the ledger what the last change of a device's state says.

        Raises:
            UserError: The ledger cannot be written.
        """
        planned = self._planned(device)
        if device.state is State.PROVISIONING and planned is not None:
            self._enter(self._flash_event(planned, device))
        elif device.state in (State.RELEASING, State.UNCHANGED) and planned is not None:
            self._enter(self._event("provision", planned, device))
        elif device.state in (State.REFUSED, State.FAILED):
            step = "provision" if device.step is State.PROVISIONING else "flash"
            self._enter(self._failure(step, planned, device))

    def write_labels(self) -> int:
        """Write the labels of all devices of the batch that are provisioned; returns their number.

        Raises:
            UserError: A font lacks a character, or storage failed.
        """
        if self._options.dry_run or not self._options.labels:
            return 0
        done = self._done()
        shown = [labels.of_device(device.table, event.usb_path) for device, event in done]
        if not shown:
            return 0
        events = [
            replace(event, step="label", version=label.code, sha256="", epoch=-1, consent="")
            for (_, event), label in zip(done, shown, strict=True)
        ]
        with self._storage("no labels were written"), FileTransaction() as transaction:
            for path in self._options.labels:
                transaction.stage(path, labels.render(shown, path, self._options.label_font))
            transaction.commit(lambda: self._enter(*events))
        return len(shown)

    def missing(self) -> list[str]:
        """Return the ids of the devices of the table that this batch has not provisioned, in the order of the table."""
        done = {device.name for device, _ in self._done()}
        return [
            device.name
            for device in self._plan.devices
            if device.name not in done and device.table.row.board == self._image.header.board
        ]

    def _done(self) -> list[tuple[PlannedDevice, Event]]:
        """Return the devices that the batch has provisioned over the cable, with that event."""
        events = {event.device: event for event in self._written() if event.batch == self._options.name}
        return [
            (_with_unit(device, events[device.name].unique_id), events[device.name])
            for device in self._plan.devices
            if device.name in events and events[device.name].result == OK
        ]

    def _written(self) -> Iterator[Event]:
        """Yield the events of configurations that were written over a cable: `patrolink provision` names no port."""
        return (event for event in self._events if event.step == "provision" and event.usb_path)

    def _planned(self, device: Device) -> PlannedDevice | None:
        name = device.assignment.device if device.assignment else ""
        return next((planned for planned in self._plan.devices if planned.name == name), None)

    def _check_resume(self) -> None:
        name, path = self._options.name, self._options.ledger
        events = [event for event in self._events if event.batch == name]
        if events and not self._options.resume:
            raise UserError(
                f"batch {name!r} has entries in {path}; finish it with --resume, or give this job another --batch name"
            )
        for event in events:
            written = event.step in ("flash", "verify") and event.result == OK
            if written and event.sha256 != self._image.header.sha256.hex():
                raise UserError(
                    f"batch {name!r} has written {event.version} ({event.sha256[:12]}), not this image; use that "
                    "image, or give this job another --batch name"
                )

    def _check_labels(self) -> None:
        """Raise UserError if a label cannot be drawn: before anything is written."""
        shown = [labels.of_device(device.table) for device in self._plan.devices]
        used = {path.resolve() for path in self._plan.hub_files(self._site)}
        for path in self._options.labels:
            if path.resolve() in used:
                raise UserError(f"--labels {path}: the file has another purpose; name another one")
            labels.render(shown, path, self._options.label_font)

    def _check_configurations(self) -> None:
        scratch = self._site.folder / _SCRATCH
        with self._storage("nothing was provisioned"):
            shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
            try:
                with FileTransaction() as transaction:
                    for path, data in self._plan.device_files(scratch).items():
                        transaction.stage(path, data)
                    check_configurations(
                        self._plan, lambda name: transaction.staged_path(scratch / name / configuration.FILE)
                    )
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def _check_state(self, planned: PlannedDevice, device: Device) -> None:
        """Raise RefusedError if the counters of a device are lost: with its key they would repeat."""
        assert device.identity is not None
        this = (planned.name, device.identity.unique_id, OK)
        epochs = [event.epoch for event in self._written() if (event.device, event.unique_id, event.result) == this]
        if device.identity.configured is False and max(epochs, default=-1) >= planned.key.epoch:
            raise RefusedError(
                f"{device.port.path}: the file system of {planned.name} was erased since it was provisioned, and its "
                f"counters with it; give it a new key with `patrolink provision SITE TABLE --out DIR --rotate "
                f"{planned.name}`, then repeat"
            )

    # --- events -------------------------------------------------------------------------------------------------------

    def _event(self, step: str, planned: PlannedDevice, device: Device) -> Event:
        assert device.identity is not None
        row, unit, place = planned.table.row, device.identity.unique_id, device.port.location or device.port.path
        if step == "provision":
            event = planned.event(self._options.name, self._site.consent)
            return replace(event, unique_id=unit, usb_path=place)
        epoch = planned.key.epoch if step == "assign" else -1
        return Event(row.device, step, OK, self._options.name, row.serial, unit, place, epoch=epoch)

    def _flash_event(self, planned: PlannedDevice, device: Device) -> Event:
        assert device.plan is not None
        step, header = "verify" if device.plan.unchanged else "flash", self._image.header
        return replace(self._event(step, planned, device), version=header.version, sha256=header.sha256.hex())

    def _failure(self, step: str, planned: PlannedDevice | None, device: Device) -> Event:
        header = self._image.header
        return Event(
            planned.name if planned else "",
            step,
            FAILED,
            self._options.name,
            planned.table.row.serial if planned else "",
            device.identity.unique_id if device.identity else "",
            device.port.location or device.port.path,
            header.version,
            header.sha256.hex(),
            reason=device.reason,
        )

    def _enter(self, *events: Event) -> None:
        """Append events, except for those that the batch has already: a second run adds nothing."""
        history = ledger.progress(self._events, self._options.name)
        new = [event for event in events if not _is_known(event, history.get(event.device, {}))]
        self._append(new)
        self._events += new

    @contextlib.contextmanager
    def _storage(self, outcome: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            where = e.filename or self._site.folder
            raise UserError(f"{where}: {e.strerror}; {outcome}. Free some space, or correct the owner") from None


def _with_unit(device: PlannedDevice, unique_id: str) -> PlannedDevice:
    row = device.table.row.model_copy(update={"unique_id": unique_id})
    return device._replace(table=device.table._replace(row=row))


def _is_known(event: Event, steps: Mapping[str, Event]) -> bool:
    """Return whether a batch has an event already.

    Args:
        event: The event.
        steps: The last event of each step of this device in the batch.
    """
    earlier = steps.get(event.step)
    if event.step == "verify" and event.result == OK:
        done = [steps[step] for step in ("flash", "verify") if step in steps and steps[step].result == OK]
        return any((one.sha256, one.unique_id) == (event.sha256, event.unique_id) for one in done)
    if earlier is None or event.result == FAILED or event.step == "flash":
        return False
    if event.step == "provision":
        return plan.same_content(earlier, event)
    return (earlier.result, earlier.version, earlier.unique_id) == (OK, event.version, event.unique_id)
