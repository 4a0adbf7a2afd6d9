"""Verify a ledger, and list which devices are done up to which step.

FILE is the ledger that `patrolink provision`, `flash` and `selftest` write: one event a line. Lines that were removed,
altered or lost are found; a line that a crash has cut short is reported and not counted. With --batch, only the events
of one job are listed; a device is done if the last event of each step is ok. The exit code is 1 if the ledger is
damaged.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.text import plural, printable

# Modules of flash/ need libraries. They are imported where they are used, so that help works without.
if TYPE_CHECKING:
    from patrolink.flash.ledger import Event

EXAMPLES = (
    "patrolink ledger ledger.jsonl",
    "patrolink ledger ledger.jsonl --batch monday --json",
    "patrolink ledger ledger.jsonl --csv ledger.csv",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("ledger", metavar="FILE", help="the ledger")
    parser.add_argument("--batch", default="", metavar="NAME", help="list only what this job has done")
    parser.add_argument("--csv", metavar="FILE", help="write the events as CSV, for a spreadsheet")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from patrolink.flash import ledger

    path = Path(args.ledger)
    if not path.exists():
        raise UserError(f"{path}: there is no such file; name the ledger that `patrolink provision` has written")
    content = ledger.read(path)
    for text in content.torn:
        notes.warn(text)
    for text in content.damage:
        notes.error(text)
    if args.csv:
        entries = [entry for entry in content.entries if args.batch in ("", entry.event.batch)]
        _write(Path(args.csv), ledger.export_csv(entries))
    devices = ledger.progress(content.events, args.batch)
    for name, steps in devices.items():
        _print(name, steps, args.json)
    for event in ledger.unidentified(content.events, args.batch):
        _print_unidentified(event, args.json)
    if args.json:
        print_summary(
            {
                "events": len(content.entries), "devices": len(devices), "torn": len(content.torn),
                "damage": content.damage, "csv": args.csv,
            }
        )  # fmt: skip
    else:
        state = "damaged" if content.damage else "intact"
        print(f"{plural(len(content.entries), 'event')}, {plural(len(devices), 'device')}; {state}")
    return 1 if content.damage else 0


def _print(name: str, steps: "dict[str, Event]", as_json: bool) -> None:
    from patrolink.flash import ledger

    done = ledger.done_steps(steps)
    failed = {step: event.reason for step, event in steps.items() if step not in done}
    if as_json:
        events = list(steps.values())
        identity = steps.get("provision", events[-1])
        device = next((event.device for event in events if event.device), "")
        print_record(
            "ledger_device",
            {
                "device": device, "serial": identity.serial, "unique_id": identity.unique_id, "steps_done": done,
                "steps_failed": failed,
            },
        )  # fmt: skip
        return
    print(printable(f"{name}: {_describe(done, failed)}"))


def _print_unidentified(event: "Event", as_json: bool) -> None:
    from patrolink.flash import ledger

    done = ledger.done_steps({event.step: event})
    failed = {} if done else {event.step: event.reason}
    if as_json:
        print_record("ledger_unidentified", {"port": event.usb_path, "steps_done": done, "steps_failed": failed})
    else:
        print(printable(f"unidentified device on port {event.usb_path or '?'}: {_describe(done, failed)}"))


def _describe(done: list[str], failed: dict[str, str]) -> str:
    parts = [", ".join(done)] if done else []
    return "; ".join(parts + [f"{step} failed ({reason})" for step, reason in failed.items()])


def _write(path: Path, data: bytes) -> None:
    from patrolink.core import durable_files

    try:
        durable_files.replace(path, data)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a file that can be written with --csv") from None
