"""One run of provisioning: everything is computed and checked, staged, and then committed together."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from patrolink.core.errors import UserError
from patrolink.flash import ledger
from patrolink.flash.ledger import Event, Ledger
from patrolink.flash.provision import configuration, device_table, labels, plan
from patrolink.flash.provision.file_transaction import FileTransaction
from patrolink.flash.provision.plan import Plan, PlannedDevice
from patrolink.flash.provision.provision_site import ProvisionSite


class Options(NamedTuple):
    """What a run is asked for.

    Attributes:
        table: The table of devices.
        out: Folder of the configurations.
        labels: Files of labels.
        label_font: Font of the labels; None: the built-in one.
        batch: Name of the job, for the ledger.
        rotate: Ids of devices that get a new key.
    """

    table: Path
    out: Path
    labels: Sequence[Path] = ()
    label_font: Path | None = None
    batch: str = ""
    rotate: Sequence[str] = ()


class Result(NamedTuple):
    """What a run has done.

    Attributes:
        devices: The devices, in the order of the table.
        delimiter: Name of the delimiter of the table.
        files: Files that were written.
        events: Events that were added to the ledger.
    """

    devices: list[PlannedDevice]
    delimiter: str
    files: list[Path]
    events: list[Event]


def provision(site: ProvisionSite, options: Options, book: Ledger) -> Result:
    """Provision the devices of a table. All files are written, or none.

    Raises:
        UserError: The table or a file of the site is wrong, or storage failed. Nothing has changed.
    """
    table = device_table.load(options.table, site.names())
    history = ledger.progress(book.content.events)
    planned = plan.make(site, table, book.content.events, options.rotate)
    check_barred(planned, options.table)
    shown = [labels.of_device(device.table) for device in planned.devices]
    files = planned.files(site, options.out)
    for path in options.labels:
        if path.resolve() in {used.resolve() for used in files}:
            raise UserError(f"--labels {path}: the file has another purpose; name another one")
        files[path] = labels.render(shown, path, options.label_font)
    codes = {label.device: label.code for label in shown} if options.labels else {}
    events = plan.new_events(planned, history, codes, options.batch, site.consent)
    try:
        with FileTransaction() as transaction:
            for path, data in files.items():
                transaction.stage(path, data)
            check_configurations(planned, lambda name: transaction.staged_path(options.out / name / configuration.FILE))
            transaction.commit(lambda: book.append(events))
            return Result(planned.devices, table.delimiter, transaction.paths, events)
    except OSError as e:
        where = e.filename or options.out
        raise UserError(
            f"{where}: {e.strerror}; nothing was provisioned. Free some space, or name a folder that can be written"
        ) from None


def check_barred(planned: Plan, table: Path) -> None:
    """Raise UserError if a device of the table is barred and gets no new key."""
    if planned.barred:
        raise UserError("\n".join(f"{table}: {text}" for text in planned.barred.values()))


def check_configurations(planned: Plan, path_of: Callable[[str], Path]) -> None:
    """Raise UserError if the agent does not accept a configuration.

    Args:
        planned: The devices.
        path_of: Returns the path of the configuration of a device.
    """
    paths = {device.name: path_of(device.name) for device in planned.devices}
    errors = dict(zip(paths, configuration.check(list(paths.values())), strict=True))
    if any(errors.values()):
        raise UserError("\n".join(_describe(errors, planned)))


def _describe(errors: Mapping[str, str], planned: Plan) -> list[str]:
    """Return a line for each error that devices have, with the devices: those of a board mostly have the same one."""
    owners: dict[tuple[str, str], list[str]] = {}
    for device in planned.devices:
        if errors[device.name]:
            owners.setdefault((device.table.row.board, errors[device.name]), []).append(device.name)
    return [
        f"the configuration of {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''} is not valid: {error}; "
        f"correct [provision.config] or [provision.board.{board}] in the site file"
        for (board, error), names in owners.items()
    ]
