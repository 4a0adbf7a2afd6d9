"""Run a device on an emulated board: receiver, agent, 4G modem, broker and this tool, all real but for the air.

A track (.csv, .gpx) is spoken as NMEA by an emulated receiver; a log (.log, .nmea) is replayed as it is. With --out the
capture, its keys, GeoJSON, a picture, a map and summary.json are left in that folder. Exit code 1 when a fix was lost.

With --count so many boards run at once, each with its own receiver, modem and device id (the number at the end of
--device goes up, and so does the seed), at one broker; --out gets a folder a device. A board that fails ends alone, and
is told with its console's last words.

With --hours everything runs on a virtual clock: a patrol of so many hours passes in seconds, and a seed repeats it. On
a board with a firmware image (mps2_an385) that is the firmware itself, in lock-step; on others the agent on CPython.
Unless --no-faults, power, modem, SIM, carrier, broker, storage and clock misbehave besides the network's own ways; the
report ends with what was recorded, delivered, duplicated, thinned and lost.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.core.errors import UserError
from patrolink.core.signals import StopSignal

if TYPE_CHECKING:
    from patrolink.emulator.scenarios.fleet import Outcome

_COUNTS = "{fixes_sent} fixes sent, {fixes_decoded} decoded, {fixes_lost} lost, {fixes_doubled} doubled"
HELP = "run a device on an emulated board"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", default="unix", help="board to emulate, or the path of a board.toml")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--track", metavar="FILE", help="track to walk: .csv or .gpx (default: a recorded walk)")
    source.add_argument("--log", metavar="FILE", help="NMEA log to replay")
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="times faster than real")
    parser.add_argument("--fixes", type=int, metavar="N", help="stop after N epochs")
    parser.add_argument("--batch", type=int, default=60, metavar="N", help="fixes a frame, 1 to 255")
    parser.add_argument("--broker", default="auto", metavar="URL", help="auto, or mqtt://host:port of one that runs")
    parser.add_argument("--device", default="emulated-1", metavar="ID", help="device id")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="boards at once, 1 to 64")
    parser.add_argument(
        "--modem",
        default="quectel",
        choices=("quectel", "simcom", "none"),
        help="its dialect; none: \
the board's own sockets",
    )
    parser.add_argument("--network", default="city", metavar="PROFILE", help="city, village, lift, handover or dead")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all that is random")
    parser.add_argument("--hours", type=float, metavar="H", help="simulate so many hours on a virtual clock")
    parser.add_argument("--no-faults", action="store_true", help="with --hours: nothing misbehaves but the network")
    parser.add_argument("--out", metavar="DIR", help="leave the results there")
    parser.add_argument("--quiet", action="store_true", help="no live view")


def run(args: argparse.Namespace) -> int:
    from patrolink.core import boards, keys
    from patrolink.emulator.network.carrier import PROFILES
    from patrolink.emulator.scenarios import fleet
    from patrolink.emulator.scenarios.patrol import Plan

    if not 1 <= args.count <= 64:
        raise UserError("--count has to be from 1 to 64")
    if not all(keys.DEVICE_ID.fullmatch(name) for name in fleet.names(args.device, args.count)):
        raise UserError(f"--device {args.device!r}: 1 to 32 of A-Z a-z 0-9 _ -, its number included")
    if args.network not in PROFILES:
        raise UserError(f"--network {args.network}: {', '.join(PROFILES)}")
    boards.find(args.board).check_emulated()
    if args.hours is not None:
        return _simulate(args)
    if not args.speed > 0 or not 1 <= args.batch <= 255 or (args.fixes is not None and args.fixes < 1):
        raise UserError("--speed has to be above 0, --batch from 1 to 255, --fixes at least 1")
    with contextlib.ExitStack() as stack:
        out = Path(args.out or stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-")))
        plan = Plan(
            board=args.board,
            track=Path(args.track) if args.track else None,
            log=Path(args.log) if args.log else None,
            speed=args.speed,
            fixes=args.fixes,
            batch=args.batch,
            broker=args.broker,
            device=args.device,
            count=args.count,
            out=out,
            # The view is drawn on standard output, which belongs to the data when it is no terminal.
            live=sys.stdout.isatty() and not args.json,
            quiet=args.quiet,
            network=args.network,
            modem=args.modem,
            seed=args.seed,
        )
        outcome = fleet.run(plan)
        if args.out:
            for patrol, summary in zip(outcome.patrols, outcome.summaries, strict=True):
                _leave(patrol.out, patrol.rows, summary)
    _tell(args, outcome)
    for name, progress in outcome.unfinished.items():
        print(f"{name}: stopped before the end: {progress}", file=sys.stderr)
    for name, failure in outcome.failures.items():
        print(f"error: {name}: {failure}", file=sys.stderr)
    if outcome.stopped is not None:
        return outcome.stopped.exit_code
    if outcome.failures:
        return next(iter(outcome.failures.values())).exit_code
    return 0 if not any(s["fixes_lost"] or s["fixes_doubled"] for s in outcome.summaries) else 1


def _tell(args: argparse.Namespace, outcome: "Outcome") -> None:
    """One board's summary; of many a line each, and their sums."""
    total = outcome.total()
    if args.json:
        errors = {name: str(failure) for name, failure in outcome.failures.items()}
        whole = {"total": total, "boards": outcome.summaries, "errors": errors}
        single = args.count == 1 and outcome.summaries
        print(json.dumps(outcome.summaries[0] if single else whole))
        return
    for summary in outcome.summaries:
        print(
            f"{summary['device']}: {_COUNTS.format(**summary)}; {summary['bytes_per_fix']} bytes a fix; "
            f"{summary['runtime']}, {summary['broker']}"
        )
    if args.count > 1:
        print(f"{total['boards']} boards, {total['failed']} failed: {_COUNTS.format(**total)}")
    if args.out:
        print(f"results are in {args.out}")


def _simulate(args: argparse.Namespace) -> int:
    from patrolink.core import boards
    from patrolink.emulator.network.carrier import PROFILES
    from patrolink.emulator.scenarios import environment, shift
    from patrolink.emulator.scenarios.outcome import NO_FAULTS, Faults
    from patrolink.emulator.scenarios.simulation import Simulation

    if not 0 < args.hours <= 10_000 or args.modem == "none" or args.count > 1:
        raise UserError("--hours has to be above 0 and at most 10000, and needs a --modem and a --count of 1")
    board = boards.find(args.board)
    profile, faults = PROFILES[args.network], NO_FAULTS if args.no_faults else Faults()
    world: Simulation | shift.Shift
    if board.image:
        world = shift.Shift(board, profile, args.seed, args.modem, faults, args.network)
    else:
        world = Simulation(profile, args.seed, args.modem, faults, name=args.network)
    if not args.quiet:
        world.on_hour = lambda hour: print(f"{hour} of {args.hours:g} hours", file=sys.stderr)
    try:
        report = world.run(args.hours)
    except StopSignal as e:
        hours = world.scheduler.now / environment.HOUR_MS
        print(f"stopped by {e} after {hours:.1f} of {args.hours:g} simulated hours", file=sys.stderr)
        _print_report(args, world.finish(round(hours, 2)).json())
        raise
    _print_report(args, report.json())
    return 0 if report.clean else 1


def _print_report(args: argparse.Namespace, report: dict[str, Any]) -> None:
    if args.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:<31} {value}")


def _leave(out: Path, rows: list[dict[str, object]], summary: dict[str, object]) -> None:
    from patrolink.report import formats, track

    with (out / "track.geojson").open("w", encoding="utf-8") as f:
        formats.geojson(rows, f)
    title = f"{summary['device']} on {summary['board']}"
    track.write_png(rows, out / "track.png", title)
    track.write_html(rows, out / "map.html", title, summary)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
