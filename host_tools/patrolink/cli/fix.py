"""NMEA to fixes, by the device's own receiver code.

Each line has time (RFC 3339 UTC or null), lat, lon (degrees or null), alt (metres above mean sea level or null), mode
(1 none, 2 2D, 3 3D), speed (m/s), course (degrees), hdop, hacc (m), sats, systems, and the flags date_suspect,
estimated and differential.
"""

import argparse
import contextlib
import csv
import json
import subprocess
import sys
from collections.abc import Iterable
from datetime import date
from typing import BinaryIO

from patrolink import home
from patrolink.errors import DeviceError, UserError

HELP = "NMEA log to fixes with the device's own code"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", metavar="LOG", help="NMEA log, or - for standard input")
    parser.add_argument(
        "--runtime", choices=("cpython", "micropython"), default="cpython", help="interpreter of the device code"
    )
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="form of the output")
    parser.add_argument("--date-floor", metavar="YYYY-MM-DD", help="flag earlier dates as suspect (GPS week rollover)")


def run(args: argparse.Namespace) -> int:
    command = [*home.interpreter(args.runtime), str(home.root() / "device" / "fix.py"), "-"]
    if args.date_floor:
        try:
            command.append(str((date.fromisoformat(args.date_floor) - date(1970, 1, 1)).days))
        except ValueError:
            raise UserError(f"--date-floor {args.date_floor}: not a date; write YYYY-MM-DD") from None
    with contextlib.ExitStack() as stack:
        # Opened here, so that a pipe serves as well as a file: the device code inherits no other descriptor.
        log = stack.enter_context(_opened(args.log)) if args.log != "-" else None
        process = stack.enter_context(
            subprocess.Popen(command, stdin=log, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        )
        assert process.stdout is not None
        try:
            _copy(process.stdout, args.format)
        except BaseException:
            # Nobody reads on: end the device code before its pipe breaks under it.
            process.kill()
            raise
    if process.returncode:
        raise DeviceError(f"the device code ended with exit code {process.returncode} under {args.runtime}")
    return 0


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as e:
        raise UserError(f"{path}: {str(e.strerror).lower()}; name an NMEA log, or - for standard input") from None


def _copy(lines: Iterable[str], form: str) -> None:
    writer = None
    for line in lines:
        if form == "jsonl":
            sys.stdout.write(line)
            continue
        row = json.loads(line)
        row["systems"] = " ".join(row["systems"])
        if writer is None:
            writer = csv.DictWriter(sys.stdout, row.keys(), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
