"""Plan a campaign: verify its images, store them for the hub, and show what each device would get. Nothing is sent.

Give the signed images of the new version: deltas for the agents that devices run, and the full image for all others
(`patrolink image diff --full`), for one or several boards. A device gets the smallest one that it can install. The
signatures must be of `release_keys` in the site file. Without --all, --group or --device nothing is planned.

With --percent only a part of the devices is updated, the same ones each time. They are updated in waves: by default
first 5 %, then 25 %, and the others when those have ended; with --waves 100 all at once. A campaign that was not
started can be planned again. The exit code is 2 when an image, a device or a limit is wrong.
"""

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.cli import _campaigns, _site_change
from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.text import plural, printable

# Modules of hub/ and flash/ need libraries. They are imported where they are used, so that help works without.
if TYPE_CHECKING:
    from patrolink.hub.config import HubContext
    from patrolink.hub.updates.campaign_file import CampaignFile, CampaignImage, CampaignPlan

EXAMPLES = (
    "patrolink ota plan spring delta.plimg full.plimg --all --percent 5",
    'patrolink ota plan spring delta.plimg full.plimg --group "Harbour circle" --waves 10,50',
    "patrolink ota plan spring full.plimg --device vest-1 --device vest-2 --json",
)
_MINUTE_S = 60
_RANGES = {
    "name": "NAME: give 1 to 40 of a-z 0-9 . - that begin with a letter or a digit",
    "parallel": "--parallel: give 1 to 10000",
    "error_pct": "--errors: give 0 to 100",
    "minimum": "--minimum: give at least 1",
    "device_s": "--limit: give 1 to 43200 minutes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    _campaigns.add_campaign(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="signed images of the new version")
    parser.add_argument("--all", action="store_true", help="all devices of the site")
    parser.add_argument("--group", action="append", default=[], metavar="GROUP", help="devices of a talk group")
    parser.add_argument("--device", action="append", default=[], metavar="DEVICE", help="one device")
    parser.add_argument("--percent", type=float, default=100, metavar="PCT", help="only this part of the devices")
    parser.add_argument(
        "--waves",
        default="5,25",
        metavar="PCT,...",
        help="ends of waves; the last is 100, and need not be given (default %(default)s)",
    )
    parser.add_argument("--parallel", type=int, default=20, metavar="N", help="devices at a time (default %(default)s)")
    parser.add_argument(
        "--errors",
        type=int,
        default=5,
        metavar="PCT",
        help="stop if more of the ended devices fail (default %(default)s)",
    )
    parser.add_argument(
        "--minimum", type=int, default=5, metavar="N", help="ended devices before it may stop (default %(default)s)"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=240,
        metavar="MIN",
        help="time limit of a device (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Plan the campaign."""
    from patrolink.hub.updates import planning
    from patrolink.hub.updates.image_store import ImageStore

    context = _campaigns.home(Path(args.site))
    images, files = _load_images(context, args.images)
    planning.check_images(images)
    plan = _plan(args, images, _select(context, args))
    store = ImageStore(context.images)

    def add(content: "CampaignFile") -> "CampaignFile":
        changed = content.with_plan(plan)
        for data in files:
            store.add(data)
        return changed

    _campaigns.change(context, add, lambda content: store.remove_others(content.images()))
    _show(context, plan, args.json)
    return 0


def _load_images(context: "HubContext", paths: list[str]) -> "tuple[list[CampaignImage], list[bytes]]":
    """Return the images and their files. Raises UserError if one must not be sent to devices."""
    from patrolink_protocol import image_header

    from patrolink.core import boards
    from patrolink.flash.image import image_file, release_key
    from patrolink.hub.updates import image_store

    if context.release_keys is None:
        raise UserError(
            "the site has no release keys; set `release_keys` in the site file to the PEM file with the public keys "
            "that sign your images (`patrolink image key` prints one)"
        )
    trust = release_key.load_trust_store(context.release_keys)
    images, files = [], []
    for path in paths:
        image = image_file.load(Path(path))
        header, state = image.header, trust.check(image.header)
        if header.kind == image_header.PLATFORM:
            raise UserError(f"{path}: a platform image; it is flashed by cable, give agent images")
        if header.kind != image_header.AGENT_DELTA:
            raise UserError(
                f"{path}: not packed for the air; pack it with `patrolink image diff --full`, and sign that"
            )
        if state != release_key.VALID:
            raise UserError(
                f"{path}: signature: {state}; sign it with a key of {context.release_keys} (`patrolink image sign`)"
            )
        board = boards.find(header.board)
        if board.architecture != header.architecture:
            raise UserError(
                f"{path}: for {header.architecture}, but board {board.name} runs {board.architecture}; build it again"
            )
        files.append(image.pack())
        images.append(image_store.describe(files[-1]))
    return images, files


def _select(context: "HubContext", args: argparse.Namespace) -> list[str]:
    """Return the devices in the order of their updates. Raises UserError."""
    from patrolink.hub.updates import planning

    if not (args.all or args.group or args.device):
        raise UserError("no devices; name some with --device or --group, or take --all")
    if not 0 < args.percent <= 100:
        raise UserError(f"--percent is {args.percent:g}; give more than 0 and at most 100")
    devices = set(context.keys) if args.all else {*args.device, *planning.devices_of_groups(context.site, args.group)}
    unknown = sorted(devices - context.keys.keys())
    if unknown:
        raise UserError(f"no device {unknown[0]!r} in {context.site.keys}; check its id")
    if not devices:
        raise UserError("no devices; the groups have no members, or the site has no keys")
    return planning.ordered(devices, args.percent)


def _plan(args: argparse.Namespace, images: "list[CampaignImage]", devices: list[str]) -> "CampaignPlan":
    from pydantic import ValidationError

    from patrolink.hub.updates import planning
    from patrolink.hub.updates.campaign_file import CampaignPlan, Limits

    try:
        percents = [float(part) for part in args.waves.split(",") if part.strip()]
    except ValueError:
        percents = [0]
    if not all(0 < percent <= 100 for percent in percents):
        raise UserError(f"--waves is {args.waves!r}; give per cents, such as 5,25")
    try:
        limits = Limits(
            waves=planning.wave_ends(len(devices), percents),
            parallel=args.parallel,
            error_pct=args.errors,
            minimum=args.minimum,
            device_s=args.limit * _MINUTE_S,
        )
        return CampaignPlan(
            name=args.campaign,
            images=images,
            devices=devices,
            limits=limits,
            who=_site_change.operator(),
            time_ms=time.time_ns() // 1_000_000,
        )
    except ValidationError as e:
        first = e.errors()[0]
        field = str(first["loc"][0])
        raise UserError(_RANGES.get(field, f"{field}: {first['msg']}")) from None


def _show(context: "HubContext", plan: "CampaignPlan", as_json: bool) -> None:
    """Print what each device would get now."""
    from patrolink.hub.infra import bar_file, record_journal
    from patrolink.hub.updates import update_state
    from patrolink.hub.updates.image_choice import Choice, choose
    from patrolink.hub.updates.target import NO_HELLO

    facts = update_state.facts(record_journal.load(context.state / update_state.STATE_FILE))
    bars = bar_file.load(context.bars)
    counts: Counter[str] = Counter()
    for device in plan.devices:
        if device in bars.devices:
            choice, state = Choice(None, "barred"), "cancelled"
        elif device not in facts:
            choice, state = Choice(None, NO_HELLO), "deferred"
        else:
            choice = choose(facts[device], plan.images)
            state = "planned" if choice.image else "skipped"
        image = choice.image
        counts[f"{state}: {_describe(image) if image else choice.reason}"] += 1
        if as_json:
            row = {"campaign": plan.name, "device": device, "update_state": state, "update_reason": choice.reason}
            version, number = (image.version, image.id) if image else (None, None)
            print_record("update_target", {**row, "firmware_version": version, "image_id": number, "command_id": None})
    if as_json:
        print_summary({"campaign": plan.name, "devices": len(plan.devices), "waves": plan.limits.waves})
        return
    waves = f", waves end at {', '.join(map(str, plan.limits.waves))}" if plan.limits.waves else ""
    print(f"{plan.name}: version {plan.images[0].version} for {plural(len(plan.devices), 'device')}{waves}")
    for text, n in counts.most_common():
        print(printable(f"{n:>6} {text}"))
    notes.note(f"nothing was sent; `patrolink ota start {plan.name}` starts the campaign")


def _describe(image: "CampaignImage") -> str:
    return f"{'full image' if image.base is None else 'delta'} of {plural(image.size, 'byte')}"
