"""Provision the devices of a table: keys, talk groups, configurations, labels and the ledger.

SITE is the site file of the hub with a table [provision] (--example prints one), DEVICES a CSV file in UTF-8 with a row
per device: serial, device, circle (a talk group), board, and optionally groups (more talk groups, separated by |) and
unique_id. Both are checked as a whole; every error is listed with its row, and then nothing is written.

Keys are derived from the site secret, which --new-secret creates once. New keys are added to the keys file of the hub,
memberships go into its file of members, and DIR gets a folder per device with config.json and the CA certificate of the
broker; all of them are readable by their owner only. The configurations are checked with the code of the agent. All
files are written, or none. Running the command again changes nothing; restart the hub to let it read new keys.

Exit codes: 0 done, or --check found no difference; 1 --check found differences; 2 the input is wrong or storage
failed, and nothing was changed unless the message says so; 4 the device of --revoke is barred on storage and in the
ledger, but a running hub has not applied it in time.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.cli import _barring
from patrolink.core import clock, notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.posix import require_posix
from patrolink.core.text import plural, printable

# Modules of hub/ and flash/ need libraries. They are imported where they are used, so that help works without.
if TYPE_CHECKING:
    from patrolink.flash.provision.plan import PlannedDevice
    from patrolink.flash.provision.provision_site import ProvisionSite
    from patrolink.hub.infra.bar_file import BarFile, Entry

EXAMPLES = (
    "patrolink provision --example >> site.toml",
    "patrolink provision site.toml --new-secret",
    "patrolink provision site.toml devices.csv --out devices --labels labels.pdf",
    "patrolink provision site.toml devices.csv --out devices --check",
    'patrolink provision site.toml --revoke vest-1 --reason "lost at the pier"',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("site", nargs="?", metavar="SITE", help="the site file")
    parser.add_argument("devices", nargs="?", metavar="DEVICES", help="the table of devices, a CSV file")
    parser.add_argument("--out", metavar="DIR", help="folder for the configurations, one folder per device")
    parser.add_argument(
        "--labels", action="append", default=[], metavar="FILE",
        help="write labels: .pdf for A4 sheets of 24, .zpl for label printers; can be repeated",
    )  # fmt: skip
    parser.add_argument("--label-font", metavar="FILE", help="TrueType or OpenType font, for other than Latin letters")
    parser.add_argument("--ledger", metavar="FILE", help="the ledger (default: ledger.jsonl beside the site file)")
    parser.add_argument("--batch", default="", metavar="NAME", help="name of the job, for the ledger")
    parser.add_argument("--check", action="store_true", help="print differences of table, keys, files and ledger only")
    parser.add_argument(
        "--rotate", action="append", default=[], metavar="DEVICE", help="give this device a new key; can be repeated"
    )
    parser.add_argument("--revoke", metavar="DEVICE", help="bar this device, as `patrolink hub bar` does")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, with --revoke")
    parser.add_argument("--new-secret", action="store_true", help="create the site secret")
    parser.add_argument("--example", action="store_true", help="print a table [provision] for a site file")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    require_posix("provision")
    from patrolink.flash.provision.provision_site import EXAMPLE, ProvisionSite

    if args.example:
        example = EXAMPLE.read_text(encoding="utf-8")
        if args.json:
            print_record("example", {"text": example})
        else:
            print(example, end="")
        return 0
    if not args.site:
        raise UserError("no site file; name that of the hub (--example prints what it needs for provisioning)")
    site = ProvisionSite(Path(args.site))
    if args.new_secret:
        return _new_secret(site, args.json)
    if args.revoke:
        return _revoke(args, site)
    if not args.devices:
        raise UserError("no table of devices; name a CSV file after the site file")
    if args.check:
        return _check(args, site)
    if not args.out:
        raise UserError("no folder for the configurations; name it with --out DIR")
    return _provision(args, site)


def _new_secret(site: "ProvisionSite", as_json: bool) -> int:
    from patrolink.flash.provision import site_secret

    site_secret.create(site.secret_path)
    if as_json:
        print_record("site_secret", {"file": str(site.secret_path)})
    else:
        print(f"created {site.secret_path}", flush=True)
    notes.note("keep it secret, with a backup: the keys of all devices are derived from it")
    return 0


def _ledger_path(args: argparse.Namespace, site: "ProvisionSite") -> Path:
    return Path(args.ledger) if args.ledger else site.ledger_path


# --- provisioning -----------------------------------------------------------------------------------------------------


def _provision(args: argparse.Namespace, site: "ProvisionSite") -> int:
    from patrolink.flash.ledger import Ledger
    from patrolink.flash.provision.run import Options, provision

    font = Path(args.label_font) if args.label_font else None
    labels = [Path(path) for path in args.labels]
    options = Options(Path(args.devices), Path(args.out), labels, font, args.batch, args.rotate)
    with Ledger(_ledger_path(args, site), clock.unix_ms) as book:
        for text in book.content.torn:
            notes.warn(f"ledger: {text}")
        result = provision(site, options, book)
    if result.delimiter != "commas":
        notes.note(f"{args.devices}: the columns are separated by {result.delimiter}")
    for device in result.devices:
        if args.json:
            print_record("provisioned", _fields(device))
        else:
            print(_line(device))
    counts = {state: sum(device.state == state for device in result.devices) for state in ("new", "rotated", "kept")}
    summary = {
        "devices": len(result.devices), "keys_new": counts["new"], "keys_rotated": counts["rotated"],
        "keys_kept": counts["kept"], "files": [str(path) for path in result.files], "events": len(result.events),
    }  # fmt: skip
    if args.json:
        print_summary(summary)
    else:
        keys = f"{counts['new']} new, {counts['rotated']} rotated, {counts['kept']} kept"
        print(
            f"{plural(len(result.devices), 'device')}: keys {keys}; {plural(len(result.files), 'file')} written",
            flush=True,
        )
    _print_notes(site, result.devices, {site.keys_path, site.members_path} & set(result.files))
    return 0


def _fields(device: "PlannedDevice") -> dict[str, Any]:
    row = device.table.row
    return {
        "device": row.device, "serial": row.serial, "unique_id": row.unique_id, "circle": row.circle,
        "board": row.board, "group_ids": list(device.table.groups), "key_epoch": device.key.epoch,
        "key_state": device.state,
    }  # fmt: skip


def _line(device: "PlannedDevice") -> str:
    row = device.table.row
    groups = ", ".join(map(str, device.table.groups))
    key = f"key {device.state}" + (f", epoch {device.key.epoch}" if device.key.epoch else "")
    return printable(f"{row.device}: serial {row.serial}, board {row.board}, groups {groups}, {key}")


def _print_notes(site: "ProvisionSite", devices: "list[PlannedDevice]", hub_files: set[Path]) -> None:
    """Say what remains to be done."""
    if hub_files:
        notes.note("restart the hub: it reads keys and members when it starts")
    for device in devices:
        if device.name in site.bars.devices:
            notes.warn(
                f"{device.name} is still barred; admit it with `patrolink hub unbar {device.name} --reason TEXT`"
            )


# --- checks and revocation --------------------------------------------------------------------------------------------


def _check(args: argparse.Namespace, site: "ProvisionSite") -> int:
    from patrolink.flash import ledger
    from patrolink.flash.provision import device_table, differences, plan

    table = device_table.load(Path(args.devices), site.names())
    content = ledger.read(_ledger_path(args, site))
    for text in content.torn:
        notes.warn(f"ledger: {text}")
    planned = plan.make(site, table, content.events, ())
    result = differences.find(site, planned, content, Path(args.out) if args.out else None)
    for difference in result:
        if args.json:
            print_record("difference", difference._asdict())
        else:
            print(printable(": ".join(filter(None, difference))))
    if args.json:
        print_summary({"devices": len(planned.devices), "differences": len(result)})
    else:
        print(f"{plural(len(planned.devices), 'device')}, {plural(len(result), 'difference')}")
    return 1 if result else 0


def _revoke(args: argparse.Namespace, site: "ProvisionSite") -> int:
    from patrolink.core import keys
    from patrolink.flash import ledger
    from patrolink.flash.ledger import Event, Ledger

    def bar(content: "BarFile", device: str, entry: "Entry") -> "BarFile":
        return content.with_bar(device, entry)

    with Ledger(_ledger_path(args, site), clock.unix_ms) as book:

        def enter() -> None:
            key = keys.load(site.keys_path)[args.revoke]
            steps = ledger.progress(book.content.events).get(args.revoke, {})
            if "revoke" in steps and steps["revoke"].epoch == key.epoch:
                return
            done = steps.get("provision", Event(args.revoke, "provision"))
            event = Event(
                args.revoke, "revoke", batch=args.batch, serial=done.serial, unique_id=done.unique_id,
                epoch=key.epoch, reason=args.reason.strip(),
            )  # fmt: skip
            try:
                book.append([event])
            except UserError as e:
                raise UserError(f"{args.revoke} is barred on storage, but {e}; then repeat the command") from None

        outcome = _barring.apply_change(Path(args.site), args.revoke, args.reason, bar, enter)
    _barring.print_outcome(args.revoke, outcome, args.json)
    return 0
