"""`patrolink emulate --district`: a whole district on a virtual clock."""

import argparse
import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.progress import Progress

if TYPE_CHECKING:
    from patrolink.emulator.scenarios.district.simulation import District

_DEVICES_MAX = 1124
_HOURS_MAX = 1000

Log = Callable[[float, str, str], None]


def run(args: argparse.Namespace) -> int:
    """Run a district, print its report and violations, and return the exit code."""
    if not 2 <= args.district <= _DEVICES_MAX or args.hours is None or not 0 < args.hours <= _HOURS_MAX:
        raise UserError(f"--district must be from 2 to {_DEVICES_MAX}, and needs --hours above 0, up to {_HOURS_MAX}")
    with contextlib.ExitStack() as stack:
        district = _make(args, args.hours, _open_log(args, stack))
        progress = stack.enter_context(Progress("emulate", args.hours, "hours"))
        report = district.run(lambda part: progress.update(part * args.hours, args.hours))
    for violation in district.violations:
        if args.json:
            print_record("violation", violation._asdict())
        else:
            notes.error(f"{violation.rule} at {violation.at_s:.3f} s: {violation.text}")
    if report["violations"]:
        minutes = _shortest_prefix_min(args, district.violations[0].at_s)
        command = f"patrolink emulate --district {args.district} --hours {minutes / 60!r} --seed {args.seed}"
        notes.error(f"seed {args.seed} breaks an invariant; the shortest run that was found to show one: {command}")
    if args.json:
        print_summary(report)
    else:
        for name, value in report.items():
            print(f"{name:<31} {value}")
    return 1 if report["violations"] else 0


def _open_log(args: argparse.Namespace, stack: contextlib.ExitStack) -> Log | None:
    """Return what writes the log of the device that --follow names; None without it."""
    if args.follow is None:
        return None
    if not args.out or not re.fullmatch("d[0-9]{4}", args.follow) or int(args.follow[1:]) >= args.district:
        raise UserError(f"--follow needs --out DIR and the id of a device, d0000 to d{args.district - 1:04d}")
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    file = stack.enter_context((folder / f"{args.follow}.log").open("w", buffering=1, encoding="utf-8"))

    def write(seconds: float, device: str, text: str) -> None:
        if device == args.follow:
            print(f"{seconds:10.3f} {text}", file=file)

    return write


def _make(args: argparse.Namespace, hours: float, log: Log | None = None) -> "District":
    from patrolink.emulator.scenarios.district.faults import NO_FAULTS, DistrictFaults
    from patrolink.emulator.scenarios.district.simulation import District

    faults = NO_FAULTS if args.no_faults else DistrictFaults()
    return District(args.district, hours, args.seed, faults, log=log)


def _shortest_prefix_min(args: argparse.Namespace, shown_s: float) -> int:
    from patrolink.emulator.scenarios.district.prefix import shortest_prefix_min

    with Progress("emulate: shorter run", None, "minutes") as progress:

        def fails(tried: int) -> bool:
            progress.update(0, tried)
            district = _make(args, tried / 60)
            return bool(district.run(lambda part: progress.update(part * tried, tried))["violations"])

        return shortest_prefix_min(fails, args.hours * 60, shown_s / 60)
