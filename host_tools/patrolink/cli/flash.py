"""Write an image to devices: one port, several, or all that USB lists, at the same time.

The identity of each device is read again right before the first write. A device that fails is tried again and does not
stop the others. With --recover, the tool waits for a board that does not start any more, until it was switched off and
on: its configuration, key and counters stay. With --web, a page on loopback flashes one device from a browser.

With --provision each device also gets a row of a table, as of `patrolink provision`: the row that names its unique id,
else the next free one, in the order of the ports. Its configuration and key are written over the same cable, and each
step is entered in the ledger. After an interruption, --resume finishes what is missing; no row is used twice.

Exit code 0: every device holds the image, and its configuration; 1: at least one was refused or failed.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.cli._arguments import positive_count
from patrolink.core import boards, clock, notes
from patrolink.core.errors import DeviceError, UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.signals import StopSignal
from patrolink.core.text import plural, printable
from patrolink.flash import flash_image, ports, screen, ssh_link
from patrolink.flash.device_flow import ENDED, State
from patrolink.flash.fleet import Device, Fleet, Options
from patrolink.flash.ledger import FAILED, OK, Event, Ledger
from patrolink.flash.methods.selection import METHODS, default_method, method_factory
from patrolink.flash.records import Port

if TYPE_CHECKING:
    from patrolink.flash.batch import Batch

EXAMPLES = (
    "patrolink flash agent.plimg /dev/ttyUSB0 --trust release.pem",
    "patrolink flash agent.plimg --all --trust release.pem --dry-run",
    "patrolink flash camera.plimg root@camera-7 root@camera-8 --trust release.pem",
    "PATROLINK_FLASH_TRUST=release.pem patrolink flash platform.plimg --all --jobs 8 --json",
    "patrolink flash --recover /dev/ttyUSB0 agent.plimg --trust release.pem",
    "patrolink flash agent.plimg --web --trust release.pem",
    "patrolink flash agent.plimg --all --trust release.pem --batch monday --provision radios.csv --labels labels.pdf",
)
_JOBS, _RETRIES = 16, 2
_LOOK_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="image file (.plimg)")
    parser.add_argument(
        "ports",
        metavar="PORT",
        nargs="*",
        help="serial port, drive of an RP2040, or address of a camera",
    )
    parser.add_argument("--all", action="store_true", help="all serial ports on USB")
    parser.add_argument("--trust", metavar="FILE", help="public release keys (PEM) that may sign the image")
    parser.add_argument("--unverified", action="store_true", help="do not verify the signature: for a bench")
    parser.add_argument(
        "--ledger", metavar="FILE", help="enter what was done to each device in this ledger; nothing with --dry-run"
    )
    parser.add_argument("--board", metavar="NAME", help="refuse an image that is for another board")
    parser.add_argument("--method", choices=METHODS, help="default: console or ssh for an agent, loader for a platform")
    parser.add_argument(
        "--jobs", metavar="N", type=positive_count, default=_JOBS, help=f"devices at the same time (default: {_JOBS})"
    )
    parser.add_argument(
        "--retries", metavar="N", type=_count, default=_RETRIES, help=f"further attempts (default: {_RETRIES})"
    )
    parser.add_argument("--dry-run", action="store_true", help="identify devices and plan; write nothing")
    parser.add_argument(
        "--recover", metavar="PORT", help="write to the board on this port, which does not start any more"
    )
    parser.add_argument("--web", action="store_true", help="serve a page that flashes one device from a browser")
    group = parser.add_argument_group("provisioning")
    group.add_argument("--batch", default="", metavar="NAME", help="name of the job, for the ledger")
    group.add_argument("--provision", metavar="DEVICES", help="give each device a row of this table, a CSV file")
    group.add_argument("--site", metavar="SITE", help="the site file (default: site.toml beside the table)")
    group.add_argument(
        "--labels", action="append", default=[], metavar="FILE",
        help="write labels of all devices of the batch: .pdf for A4 sheets, .zpl for label printers; can be repeated",
    )  # fmt: skip
    group.add_argument("--label-font", metavar="FILE", help="TrueType or OpenType font, for other than Latin letters")
    group.add_argument("--resume", action="store_true", help="finish a batch that was interrupted")


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}: must be 0 or more")
    return value


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    image = flash_image.load(Path(args.image))
    if args.trust:
        flash_image.check_signature(image, Path(args.trust))
    elif not args.unverified:
        raise UserError(
            f"{args.image}: nothing tells who may sign it; name the release keys with --trust, or use --unverified "
            "on a bench"
        )
    board = boards.find(image.header.board)
    if args.board and args.board != board.name:
        raise UserError(f"{args.image}: the image is for board {board.name}, not {args.board}; use an image for it")
    if args.web:
        return _serve_page(args, image, board)
    method = args.method or default_method(image, board)
    if method == "uf2" and args.all:
        raise UserError("drives of boot loaders are no ports; name the folders at which they are mounted")
    if method == "linux":
        if args.all:
            raise UserError("cameras are not on USB; name their addresses for ssh, such as root@camera-7")
        for name in args.ports:
            ssh_link.check_target(name)
    targets = _targets([*args.ports, *filter(None, [args.recover])], args.all, ports.list_ports())
    options = Options(args.jobs, args.retries, args.dry_run)
    _check_provisioning(args, method)
    if args.recover:
        _check_recovery(args, method)
    with contextlib.ExitStack() as stack:
        make_method = stack.enter_context(method_factory(method, image, board, bool(args.recover)))
        batch = _open_batch(args, image, stack) if args.provision else None
        entries = None
        if args.ledger and not args.dry_run and batch is None:
            entries = stack.enter_context(Ledger(Path(args.ledger), clock.unix_ms))

        def changed(device: Device) -> None:
            screen.report_change(device)
            if batch is not None:
                batch.note(device)
            elif entries is not None and device.state in ENDED - {State.CANCELLED}:
                entries.append([_event(device, image, args.batch)])

        assign = batch.assign if batch is not None else None
        fleet = Fleet(targets, make_method, ports.list_ports, options, changed, assign=assign)
        try:
            with screen.shown(fleet.devices):
                fleet.run()
            if batch is not None:
                batch.write_labels()
        finally:
            _print_results(fleet.devices, batch, args)
    return 0 if all(device.good for device in fleet.devices) else 1


def _serve_page(args: argparse.Namespace, image: flash_image.FlashImage, board: boards.Board) -> int:
    """Serve the web flasher until a stop signal."""
    from patrolink.flash.image import release_key  # needs cryptography
    from patrolink.flash.web.server import FlasherServer, served_files

    others = (args.ports, args.all, args.recover, args.ledger, args.dry_run, args.json, args.method)
    if any(others) or args.provision or args.batch or not args.trust:
        raise UserError(
            "--web needs --trust, and the device is chosen in the browser; leave out ports, --all, --recover, "
            "--ledger, --method, --provision, --batch, --dry-run and --json"
        )
    with method_factory("serial", image, board):  # refuses what has no slots to go into
        pass
    trust_pem = release_key.load_trust_store(Path(args.trust)).pem().encode()
    files = served_files(image.header_bytes + image.content, trust_pem)
    with contextlib.suppress(StopSignal), FlasherServer(files) as server, server.running() as thread:
        print(f"serving {image.label} at {server.url}: open it in Chrome or Edge; Ctrl-C ends", flush=True)
        while thread.is_alive():
            time.sleep(_LOOK_S)
    return 0


def _check_recovery(args: argparse.Namespace, method: str) -> None:
    """Say what to do with the board. Raises UserError if other options do not fit."""
    if args.ports or args.provision:
        raise UserError("--recover writes to one board and keeps its configuration; leave out other ports, --provision")
    if method != "serial":
        raise UserError(f"--recover takes agent images; the method {method} reaches a board in its boot loader without")
    notes.note(f"waiting for the board on {args.recover}; if nothing happens, switch it off and on")


def _check_provisioning(args: argparse.Namespace, method: str) -> None:
    """Raise UserError if the options of provisioning do not fit each other."""
    if not args.provision:
        for name in ("site", "labels", "label_font", "resume"):
            if getattr(args, name):
                raise UserError(f"--{name.replace('_', '-')} belongs to --provision DEVICES; name the table of devices")
        return
    if not args.batch:
        raise UserError("--provision needs a name for the job, by which --resume finds it; give one with --batch NAME")
    if method not in ("serial", "linux"):
        raise UserError(
            f"the method {method} does not reach the file system of a device; flash the platform first, then repeat "
            "with an agent image"
        )


def _open_batch(args: argparse.Namespace, image: flash_image.FlashImage, stack: contextlib.ExitStack) -> "Batch":
    """Return the batch, after keys and members are in the files of the hub; its ledger is open in `stack`."""
    from patrolink.flash import batch as batches
    from patrolink.flash import ledger
    from patrolink.flash.provision.provision_site import ProvisionSite

    table = Path(args.provision)
    site = ProvisionSite(Path(args.site) if args.site else table.parent / "site.toml")
    path = Path(args.ledger) if args.ledger else site.ledger_path
    if args.dry_run:
        content, append = ledger.read(path), _append_nothing
    else:
        book = stack.enter_context(Ledger(path, clock.unix_ms))
        content, append = book.content, book.append
    for text in content.torn:
        notes.warn(f"ledger: {text}")
    font = Path(args.label_font) if args.label_font else None
    labels = [Path(name) for name in args.labels]
    options = batches.Options(args.batch, table, path, labels, font, args.resume, args.dry_run)
    batch = batches.Batch(site, image, options, content.events, append)
    if batch.prepare():
        notes.note("restart the hub: it reads keys and members when it starts")
    return batch


def _append_nothing(events: Sequence[Event]) -> None:
    """Append events of a dry run: there are none."""


def _event(device: Device, image: flash_image.FlashImage, batch: str) -> Event:
    """Return the entry of the ledger for a device that has ended."""
    return Event(
        device="",
        step="verify" if device.state is State.UNCHANGED else "flash",
        result=OK if device.good else FAILED,
        batch=batch,
        serial=device.port.usb_serial,
        unique_id=device.identity.unique_id if device.identity else "",
        usb_path=device.port.location or device.path,
        version=image.header.version,
        sha256=image.header.sha256.hex(),
        reason=device.reason,
    )


def _targets(names: list[str], every: bool, listing: list[Port]) -> list[Port]:
    """Return the ports of the devices.

    Raises:
        UserError: No port is named, or one twice.
        DeviceError: There is no port on USB.
    """
    if every == bool(names):
        raise UserError("name the ports of the devices, or use --all for all on USB; `patrolink devices` lists them")
    if every:
        on_usb = [port for port in listing if port.usb_id]
        if not on_usb:
            raise DeviceError("no serial port on USB; connect devices with cables that carry data, then repeat")
        return on_usb
    real = [os.path.realpath(name) for name in names]
    for name, path in zip(names, real, strict=True):
        if real.count(path) > 1:
            raise UserError(f"{name} is named twice; name each port once")
    return [ports.find(name, listing) for name in names]


def _print_results(devices: list[Device], batch: "Batch | None", args: argparse.Namespace) -> None:
    """Print a line for each device that ended, what is missing of a batch, and the summary."""
    counts = {state: sum(device.state is state for device in devices) for state in sorted(ENDED, key=lambda s: s.value)}
    for device in devices:
        if args.json:
            print_record("flashed_device", _fields(device))
        else:
            print(screen.line(device))
    missing = batch.missing() if batch is not None and not args.dry_run else []
    if args.json:
        summary = {"devices": len(devices), **{f"{state.value}_devices": n for state, n in counts.items()}}
        print_summary({**summary, "unprovisioned": missing} if batch is not None else summary)
    else:
        ends = ", ".join(f"{n} {state.value}" for state, n in counts.items() if n)
        print(f"{plural(len(devices), 'device')}: {ends}")
        if missing:
            print(printable(f"batch {args.batch}: not done yet: {', '.join(missing)}; repeat with --resume"))


def _fields(device: Device) -> dict[str, Any]:
    identity, plan = device.identity, device.plan
    ended = device.start_s is not None and device.end_s is not None
    return {
        "port": device.path,
        "usb_location": device.port.location or None,
        "usb_serial": device.port.usb_serial or None,
        "unique_id": (identity.unique_id or None) if identity else None,
        "device": device.assignment.device if device.assignment else None,
        "serial": device.assignment.serial if device.assignment else None,
        "board": (identity.board or None) if identity else None,
        "chip": (identity.chip or None) if identity else None,
        "flash_state": device.state.value,
        "why": device.reason or None,
        "plan": plan.text if plan else None,
        "image_bytes": plan.bytes if plan else None,
        "attempts": device.attempts,
        "duration_s": round((device.end_s or 0.0) - (device.start_s or 0.0), 3) if ended else None,
    }
