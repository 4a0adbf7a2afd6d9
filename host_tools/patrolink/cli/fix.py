"""Decode an NMEA log to fixes with the device's own receiver code.

Each line has time (RFC 3339 UTC or null), lat_deg, lon_deg (degrees or null), alt_m (metres above mean sea level or
null), mode (1 none, 2 2D, 3 3D), speed_mps, course_deg, hdop, hacc_m, sats, systems, the flags date_suspect, estimated
and differential, and doubts: dead_reckoning, manual, simulated, contradictory (as many sentences deny the fix as
confirm it), implausible (a jump) and held (at rest). Positions are those that the receiver sent, whatever the doubts.
--json adds a last line with the receiver's counters.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from datetime import date

from patrolink.core import nmea_log, notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_summary
from patrolink.core.progress import Progress
from patrolink.core.text import csv_cell

EXAMPLES = (
    "patrolink fix receiver.nmea",
    "patrolink fix receiver.nmea --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("log", metavar="LOG", help="NMEA log, or - for standard input")
    parser.add_argument(
        "--runtime",
        choices=("cpython", "micropython"),
        default="cpython",
        help="interpreter of the device code (default: cpython)",
    )
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="output format (default: jsonl)")
    parser.add_argument("--date-floor", metavar="YYYY-MM-DD", help="flag dates before, or 20 years after, as suspect")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    date_floor = None
    if args.date_floor:
        try:
            date_floor = date.fromisoformat(args.date_floor)
        except ValueError:
            raise UserError(f"--date-floor {args.date_floor}: not a date; write YYYY-MM-DD") from None
    if args.json and args.format != "jsonl":
        raise UserError(f"--json prints JSON Lines, not {args.format}; leave out --json or --format")
    with (
        nmea_log.decode(args.log, args.runtime, date_floor) as lines,
        Progress("fix", unit="fixes", shown=not sys.stdout.isatty()) as progress,
    ):
        counts = _write(lines, args.format, progress)
    if args.json:
        print_summary(counts)
    else:
        notes.note(", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items()))
    return 0


def _write(lines: Iterable[str], output_format: str, progress: Progress) -> dict[str, int]:
    """Write fixes, and return the receiver's counters."""
    writer, counts = None, {}
    for line in lines:
        if line.startswith('{"record": "summary"'):
            counts = json.loads(line)
            del counts["record"]
            continue
        progress.advance(1)
        if output_format == "jsonl":
            sys.stdout.write(line)
            continue
        row = json.loads(line)
        del row["record"]
        row["systems"], row["doubts"] = " ".join(row["systems"]), " ".join(row["doubts"])
        row = {name: csv_cell(value) if isinstance(value, str) else value for name, value in row.items()}
        if writer is None:
            writer = csv.DictWriter(sys.stdout, row.keys(), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return counts
