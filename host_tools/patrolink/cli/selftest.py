"""Run the self-test of a device at hand-over, over its console, and print a card: passed or failed.

The device checks its key, the GPS receiver (valid sentences and a fix), the modem (SIM, registration, signal), the
indicator, the level of the microphone, and its storage. Parts that its configuration does not have are not fitted, and
do not count. Its agent is stopped meanwhile, and starts again afterwards. With --site the key is compared with that of
the hub; it is never read.

The operator is asked whether the indicator is on; --yes reads its output back instead. With --ledger the result is an
entry of the ledger. Exit codes: 0 passed; 1 a part has failed; 3 the device is not there; 4 it does not answer.
"""

import argparse
import contextlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.cli._arguments import non_negative_seconds
from patrolink.core import clock
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.text import printable

# Modules of hub/ and flash/ need libraries. They are imported where they are used, so that help works without.
if TYPE_CHECKING:
    from patrolink.core.keys import DeviceKey
    from patrolink.flash.ledger import Ledger
    from patrolink.flash.self_test import Result, SelfTestSession

EXAMPLES = (
    "patrolink selftest /dev/ttyUSB0",
    "patrolink selftest /dev/ttyUSB0 --site site.toml --ledger ledger.jsonl --batch monday",
    "patrolink selftest /dev/ttyUSB0 --yes --json",
)
_LIMIT_S = 90.0
_MARKS = {True: "PASS", False: "FAIL", None: "--"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("port", metavar="PORT", help="serial port of the device's console")
    parser.add_argument("--yes", action="store_true", help="do not ask whether the indicator is on")
    parser.add_argument(
        "--limit", metavar="S", type=non_negative_seconds, default=_LIMIT_S,
        help=f"seconds for a fix, and for the registration of the modem (default: {_LIMIT_S:.0f})",
    )  # fmt: skip
    parser.add_argument("--site", metavar="SITE", help="compare the key with that in the keys file of this site file")
    parser.add_argument("--ledger", metavar="FILE", help="enter the result in this ledger")
    parser.add_argument("--batch", default="", metavar="NAME", help="name of the job, for the ledger")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    if not args.yes and not sys.stdin.isatty():
        raise UserError("nobody can be asked whether the indicator is on: standard input is no terminal; use --yes")
    from patrolink.flash.fleet import locked
    from patrolink.flash.ledger import Ledger
    from patrolink.flash.methods.serial_console import BAUD
    from patrolink.flash.self_test import SelfTestSession
    from patrolink.flash.serial_link import SerialLink

    with contextlib.ExitStack() as stack:
        book = stack.enter_context(Ledger(Path(args.ledger), clock.unix_ms)) if args.ledger else None
        stack.enter_context(locked(args.port))
        link = stack.enter_context(contextlib.closing(SerialLink(args.port, BAUD, threading.Event())))
        session = SelfTestSession(link)
        stack.callback(session.end)
        key = _hub_key(Path(args.site), session.device) if args.site else None
        if not args.json:
            print(printable(f"{session.device or 'no device id'}, unit {session.unique_id}, board {session.board}"))
        results = []
        for result in session.run(args.limit, key, None if args.yes else _confirm):
            results.append(result)
            _print(result, args.json)
        if book is not None:
            _enter(book, session, results, args)
    passed = all(result.passed is not False for result in results)
    if args.json:
        print_summary({"device": session.device, "unique_id": session.unique_id, "all_passed": passed})
    else:
        failed = [result.part for result in results if result.passed is False]
        print(f"FAIL: {', '.join(failed)}" if failed else "PASS")
    return 0 if passed else 1


def _hub_key(site: Path, device: str) -> "DeviceKey":
    """Return the key that the hub has for a device."""
    from patrolink.core import keys
    from patrolink.flash.provision.provision_site import ProvisionSite

    path = ProvisionSite(site).keys_path
    known = keys.load(path)
    if device not in known:
        raise UserError(f"{path}: no key for {device or 'a device without configuration'}; provision the device first")
    return known[device]


def _confirm() -> bool:
    print("Is the indicator on? [y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print(result: "Result", as_json: bool) -> None:
    if as_json:
        print_record("selftest_part", {"part": result.part, "passed": result.passed, "text": result.text})
    else:
        print(printable(f"{_MARKS[result.passed]:4}  {result.part:10}  {result.text}"), flush=True)


def _enter(book: "Ledger", session: "SelfTestSession", results: "list[Result]", args: argparse.Namespace) -> None:
    from patrolink.flash import ledger

    steps = ledger.progress(book.content.events).get(session.device, {})
    earlier = steps.get("provision")
    failed = [f"{result.part}: {result.text}" for result in results if result.passed is False]
    event = ledger.Event(
        session.device, "selftest", ledger.FAILED if failed else ledger.OK, args.batch,
        earlier.serial if earlier else "", session.unique_id, args.port, reason="; ".join(failed),
    )  # fmt: skip
    book.append([event])
