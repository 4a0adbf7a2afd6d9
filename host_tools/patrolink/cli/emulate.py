"""Run a device on an emulated board. Receiver, modem and radio are emulated; agent, broker and decoder are real.

An emulated receiver sends a track (.csv, .gpx) as NMEA, or replays a log (.log, .nmea). --out keeps the capture, its
keys, GeoJSON, a picture, a map and summary.json. Exit code 1 if a fix was lost or duplicated.

--count runs several boards at once with one broker. Each has its own receiver, modem, seed and device id: the number at
the end of --device is counted up. --out gets one folder per device. A board that fails ends alone; its error shows the
end of its console.

--hours runs everything on a virtual clock: hours pass in seconds, and a seed repeats a run. A board with a firmware
image (mps2_an385) runs that firmware in lock-step, any other board the agent on CPython. Unless --no-faults is given,
power, modem, SIM, carrier, broker, storage and clock fail at random, besides the network. The report lists what was
recorded, delivered, duplicated, thinned and lost.

--district N runs a whole district on the virtual clock: N devices with modem or network stack, receiver and wearer, the
broker, the real hub, and dispatchers who answer alarms, talk and send commands. Devices, networks, broker and hub fail
at random. Invariants are checked all the time: every SOS reaches a dispatcher and its answer the wearer, one talker in
a group, no acknowledged frame lost or counted twice, no number used twice under a key. A violation is printed with the
shortest run of the seed that was found to show it; the exit code is 1. The search takes no longer than the run.
`trace_sha256` in the report is a hash of all events: runs with the same hash are the same. --follow ID writes a log of
one device, d0000 to the last, to ID.log in the folder of --out: each frame from its storage to the hub, and its agent's
log.

SIGINT or SIGTERM stops a run early: progress is printed, and the exit code is 130 or 143.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.posix import require_posix
from patrolink.core.progress import Progress
from patrolink.core.signals import StopSignal
from patrolink.core.text import plural

if TYPE_CHECKING:
    from patrolink.emulator.scenarios.fleet import Outcome
    from patrolink.emulator.scenarios.patrol import Plan

EXAMPLES = (
    "patrolink emulate --out build/patrol",
    "patrolink emulate --board mps2_an385 --network city --speed 10",
    "patrolink emulate --district 10 --hours 0.05 --seed 7",
    "patrolink emulate --count 3 --broker mqtt://127.0.0.1:1883",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--board", default="unix", help="board to emulate, or path of a board.toml (default: unix)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--track", metavar="FILE", help="track to follow: .csv or .gpx (default: a recorded walk)")
    source.add_argument("--log", metavar="FILE", help="NMEA log to replay")
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="factor of real time (default: 1)")
    parser.add_argument("--fixes", type=int, metavar="N", help="stop after N epochs")
    parser.add_argument("--batch", type=int, default=60, metavar="N", help="fixes per frame, 1 to 255 (default: 60)")
    parser.add_argument(
        "--broker", default="auto", metavar="URL", help="auto starts one; or mqtt://host:port of a running broker"
    )
    parser.add_argument("--device", default="emulated-1", metavar="ID", help="device id")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="number of boards, 1 to 64 (default: 1)")
    parser.add_argument(
        "--modem",
        default="quectel",
        choices=("quectel", "simcom", "none"),
        help="AT dialect of the modem; none: the board's own sockets (default: quectel)",
    )
    parser.add_argument(
        "--network", default="city", metavar="PROFILE", help="city, village, lift, handover or dead (default: city)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of all random numbers (default: 1)")
    parser.add_argument("--hours", type=float, metavar="H", help="simulate this many hours on a virtual clock")
    parser.add_argument("--district", type=int, metavar="N", help="with --hours: simulate a district of N devices")
    parser.add_argument("--follow", metavar="ID", help="with --district: write a log of this device to DIR of --out")
    parser.add_argument("--no-faults", action="store_true", help="with --hours: no faults but those of the network")
    parser.add_argument("--out", metavar="DIR", help="folder for the results")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    require_posix("emulate")
    from patrolink.core import boards, keys
    from patrolink.emulator.network.carrier import PROFILES
    from patrolink.emulator.scenarios import fleet

    if args.district is not None:
        from patrolink.cli import _district

        return _district.run(args)
    if not 1 <= args.count <= 64:
        raise UserError("--count must be from 1 to 64")
    if not all(keys.DEVICE_ID.fullmatch(name) for name in fleet.names(args.device, args.count)):
        raise UserError(f"--device {args.device!r}: a device id has 1 to 32 of A-Z a-z 0-9 _ -, its number included")
    if args.network not in PROFILES:
        raise UserError(f"--network {args.network}: unknown profile; choose from {', '.join(PROFILES)}")
    boards.find(args.board).check_emulated()
    if args.hours is not None:
        return _simulate(args)
    if not args.speed > 0 or not 1 <= args.batch <= 255 or (args.fixes is not None and args.fixes < 1):
        raise UserError("--speed must be above 0, --batch from 1 to 255, --fixes at least 1")
    with contextlib.ExitStack() as stack:
        out = Path(args.out or stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-")))
        outcome = fleet.run(_plan(args, out))
        if args.out:
            for patrol, summary in zip(outcome.patrols, outcome.summaries, strict=True):
                _write_results(patrol.out, patrol.rows, summary)
    _print_outcome(args, outcome)
    for name, progress in outcome.unfinished.items():
        notes.warn(f"{name}: stopped before the end: {progress}")
    for name, failure in outcome.failures.items():
        notes.error(f"{name}: {failure}")
    if outcome.stopped is not None:
        return outcome.stopped.exit_code
    if outcome.failures:
        return next(iter(outcome.failures.values())).exit_code
    return 0 if not any(s["fixes_lost"] or s["fixes_duplicated"] for s in outcome.summaries) else 1


def _counts(summary: dict[str, Any]) -> str:
    """Return the numbers of fixes sent, decoded, lost and duplicated."""
    counted = ", ".join(f"{summary[f'fixes_{name}']} {name}" for name in ("decoded", "lost", "duplicated"))
    return f"{plural(summary['fixes_sent'], 'fix')} sent, {counted}"


def _plan(args: argparse.Namespace, out: Path) -> "Plan":
    from patrolink.emulator.scenarios.patrol import Plan

    return Plan(
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
        # The live view needs a terminal; otherwise standard output holds the results only.
        live=sys.stdout.isatty() and not args.json,
        quiet=args.quiet,
        network=args.network,
        modem=args.modem,
        seed=args.seed,
    )


def _print_outcome(args: argparse.Namespace, outcome: "Outcome") -> None:
    """Print a line per board, and the sums if there are several."""
    total = outcome.total()
    if args.json:
        for summary in outcome.summaries:
            print_record("patrol", summary)
        for name, failure in outcome.failures.items():
            print_record("error", {"device": name, "text": str(failure), "exit_code": failure.exit_code})
        print_summary(total)
        return
    for summary in outcome.summaries:
        print(
            f"{summary['device']}: {_counts(summary)}; {summary['bytes_per_fix']} bytes per fix; "
            f"{summary['runtime']}, {summary['broker']}"
        )
    if args.count > 1:
        print(f"{plural(total['boards'], 'board')}, {total['failed']} failed: {_counts(total)}")
    if args.out:
        print(f"results written to {args.out}")


def _simulate(args: argparse.Namespace) -> int:
    from patrolink.core import boards
    from patrolink.emulator.network.carrier import PROFILES
    from patrolink.emulator.scenarios import environment, shift
    from patrolink.emulator.scenarios.outcome import NO_FAULTS, Faults
    from patrolink.emulator.scenarios.simulation import Simulation

    if not 0 < args.hours <= 10_000 or args.modem == "none" or args.count > 1:
        raise UserError("--hours must be above 0 and at most 10000, and needs a --modem and a --count of 1")
    board = boards.find(args.board)
    profile, faults = PROFILES[args.network], NO_FAULTS if args.no_faults else Faults()
    simulation: Simulation | shift.Shift
    if board.image:
        simulation = shift.Shift(board, profile, args.seed, args.modem, faults, args.network)
    else:
        simulation = Simulation(profile, args.seed, args.modem, faults, name=args.network)

    try:
        with Progress("emulate", args.hours, "hours") as progress:
            report = simulation.run(args.hours, lambda hour: progress.update(hour, args.hours))
    except StopSignal as e:
        hours = simulation.scheduler.now / environment.HOUR_MS
        notes.warn(f"stopped by {e} after {hours:.1f} of {args.hours:g} simulated hours")
        _print_report(args, simulation.finish(round(hours, 2)).json())
        raise
    _print_report(args, report.json())
    return 0 if report.clean else 1


def _print_report(args: argparse.Namespace, report: dict[str, Any]) -> None:
    if args.json:
        print_summary(report)
    else:
        for name, value in report.items():
            print(f"{name:<31} {value}")


def _write_results(out: Path, rows: list[dict[str, object]], summary: dict[str, object]) -> None:
    from patrolink.report import formats, track

    with (out / "track.geojson").open("w", encoding="utf-8") as f:
        formats.write_geojson(rows, f)
    title = f"{summary['device']} on {summary['board']}"
    track.write_png(rows, out / "track.png", title)
    track.write_html(rows, out / "map.html", title, summary)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
