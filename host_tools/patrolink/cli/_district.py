"""`patrolink emulate --district`: a whole district on a virtual clock."""

import argparse
import math
from typing import TYPE_CHECKING

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.progress import Progress

if TYPE_CHECKING:
    from patrolink.emulator.scenarios.district.simulation import District

_DEVICES_MAX = 1124
_HOURS_MAX = 1000


def run(args: argparse.Namespace) -> int:
    """Run a district, print its report and violations, and return the exit code."""
    if not 2 <= args.district <= _DEVICES_MAX or args.hours is None or not 0 < args.hours <= _HOURS_MAX:
        raise UserError(f"--district must be from 2 to {_DEVICES_MAX}, and needs --hours above 0, up to {_HOURS_MAX}")
    district = _make(args, args.hours)
    with Progress("emulate", args.hours, "hours") as progress:
        report = district.run(lambda part: progress.update(part * args.hours, args.hours))
    for violation in district.violations:
        if args.json:
            print_record("violation", violation._asdict())
        else:
            notes.error(f"{violation.rule} at {violation.at_s:.3f} s: {violation.text}")
    if report["violations"]:
        minutes = _shortest_prefix_min(args)
        command = f"patrolink emulate --district {args.district} --hours {minutes / 60!r} --seed {args.seed}"
        notes.error(f"seed {args.seed} breaks an invariant; the shortest run that shows one: {command}")
    if args.json:
        print_summary(report)
    else:
        for name, value in report.items():
            print(f"{name:<31} {value}")
    return 1 if report["violations"] else 0


def _make(args: argparse.Namespace, hours: float) -> "District":
    from patrolink.emulator.scenarios.district.faults import NO_FAULTS, DistrictFaults
    from patrolink.emulator.scenarios.district.simulation import District

    return District(args.district, hours, args.seed, NO_FAULTS if args.no_faults else DistrictFaults())


def _shortest_prefix_min(args: argparse.Namespace) -> int:
    from patrolink.emulator.scenarios.district.prefix import shortest_prefix_min

    def fails(minutes: int) -> bool:
        return bool(_make(args, minutes / 60).run()["violations"])

    return shortest_prefix_min(fails, math.ceil(args.hours * 60))
