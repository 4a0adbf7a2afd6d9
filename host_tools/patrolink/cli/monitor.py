"""Watch devices: a broker (mqtt://host:port, mqtts://...), a serial port, a PTY, or a capture.

A terminal shows a live view: events and errors first, then a line per device. Otherwise there is a line per frame, or
with --json every row as JSON. --record writes every received frame to a capture, verified or not, as evidence. Of a
frame that is not verified, only the claimed device, type, counter and size are shown, never its content. A serial port
is opened for this program alone; its frames carry no device id, so each belongs to the device whose key verifies it.
Ctrl-C, --for or --count ends it with a summary. Exit code 1 if frames were refused, damaged or dropped, 3 if another
program has opened the port.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.cli._arguments import non_negative_seconds, positive_count
from patrolink.cli._summary import summary_text
from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.signals import StopSignal
from patrolink.core.text import plural, printable

if TYPE_CHECKING:
    from patrolink.core.capture import CaptureWriter, Record
    from patrolink.core.decoder import Decoder, DecoderStats
    from patrolink.report.device_table import DeviceTable
    from patrolink.transport import Transport

EXAMPLES = (
    "patrolink monitor /dev/ttyUSB0",
    "patrolink monitor mqtts://broker.example --keys keys.toml",
    "patrolink monitor patrol.plcap --json",
)
_FINDINGS = ("damaged", "truncated", "dropped")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("source", metavar="SOURCE", help="broker URL, serial port, PTY or capture")
    parser.add_argument("--record", metavar="FILE", help="write every received frame to this capture")
    parser.add_argument("--force", action="store_true", help="let --record replace an existing file")
    parser.add_argument("--keys", metavar="FILE", help="device keys (default: PATROLINK_KEYS, else SOURCE.keys.toml)")
    parser.add_argument(
        "--for", dest="seconds", type=non_negative_seconds, metavar="SECONDS", help="stop after this time"
    )
    parser.add_argument("--count", type=positive_count, metavar="N", help="stop after N frames")
    parser.add_argument(
        "--device",
        metavar="ID",
        help="device id for a serial line, whose frames carry none (default: found by its key)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from rich.live import Live

    from patrolink.core import keys
    from patrolink.core.decoder import Decoder
    from patrolink.report.device_table import DeviceTable
    from patrolink.transport import open_transport

    path = Path(args.source) if os.path.isfile(args.source) else None
    device_keys = keys.find(args.keys, path)
    decoder = Decoder(device_keys)
    transport = open_transport(args.source, args.device, device_keys)
    if not device_keys:
        notes.note("no device keys: frames are counted but not shown; name a keys file with --keys")
    with contextlib.ExitStack() as stack:
        stack.callback(transport.close)
        writer = _open_record(args, path, stack)
        # Printed after the live view has closed, also if the source fails.
        stack.callback(_print_summary, decoder.stats, transport.counts, args.json)
        table = None
        if not args.json and sys.stdout.isatty():
            table = DeviceTable(args.source)
            stack.enter_context(Live(table, refresh_per_second=4))
        with contextlib.suppress(StopSignal):
            _watch(args, transport, decoder, writer, table)
    return 0 if decoder.stats.clean and not any(transport.counts().get(name) for name in _FINDINGS) else 1


def _print_summary(stats: "DecoderStats", counts: Callable[[], dict[str, int]], as_json: bool) -> None:
    if as_json:
        print_summary({**stats.summary(), **counts()})
    else:
        notes.note(summary_text(stats, counts()))


def _open_record(args: argparse.Namespace, source: Path | None, stack: contextlib.ExitStack) -> "CaptureWriter | None":
    """Return the writer of --record. Raises UserError if it cannot be written, exists, or is the capture being read."""
    from patrolink.core.capture import CaptureWriter

    record = args.record
    if record is None:
        return None
    path = Path(record)
    try:
        if source is not None and path.exists() and path.samefile(source):
            raise UserError(f"{record}: this is the capture itself; name another file with --record")
        if path.is_file() and not args.force:
            raise UserError(f"{record}: exists already; name another file with --record, or replace it with --force")
        writer = CaptureWriter(path, args.force)
    except OSError as e:
        raise UserError(f"{record}: {e.strerror}; name a writable file with --record") from None
    stack.callback(writer.close)
    return writer


def _watch(
    args: argparse.Namespace,
    transport: "Transport",
    decoder: "Decoder",
    writer: "CaptureWriter | None",
    table: "DeviceTable | None",
) -> None:
    """Process records until the source ends, the time is over or --count frames were received."""
    deadline_s = None if args.seconds is None else time.monotonic() + args.seconds
    for record in transport.records():
        if record is not None:
            if writer is not None:
                writer.write(record)
            rows = decoder.rows(record)
            if table is not None:
                table.update(record, rows, decoder.stats)
            elif args.json:
                for row in rows or _rejection(record, decoder.reject_reason):
                    print_record(row["record"], row)
            else:
                print(f"{record.device}: {_line(record, rows, decoder.reject_reason)}", flush=True)
        if deadline_s is not None and time.monotonic() >= deadline_s:
            return
        if args.count and decoder.stats.frames >= args.count:
            return


def _rejection(record: "Record", reason: str) -> list[dict[str, Any]]:
    """Return a row about a rejected frame: unverified header fields only. Empty if `reason` is empty."""
    from patrolink_protocol import frame
    from patrolink_protocol.errors import RejectError

    if not reason:
        return []
    row = {"record": "rejected", "device": record.device, "reason": reason, "type": None, "counter": None}
    with contextlib.suppress(RejectError):
        row["type"], _, row["counter"] = frame.parse_header(record.frame)
    return [{**row, "bytes": len(record.frame)}]


def _line(record: "Record", rows: list[dict[str, Any]], reason: str) -> str:
    """Return the text for one frame."""
    for rejection in _rejection(record, reason):
        header = "" if rejection["type"] is None else f", type {rejection['type']}, counter {rejection['counter']}"
        why = "no key" if reason == "key" else reason
        return f"refused ({why}): unverified{header}, {plural(rejection['bytes'], 'byte')}"
    if not rows:
        return f"repeated, {plural(len(record.frame), 'byte')}"
    if rows[0]["record"] == "position":
        last = rows[-1]
        position = "no fix" if last["lat_deg"] is None else f"{last['lat_deg']:.6f} {last['lon_deg']:.6f}"
        return f"{plural(len(rows), 'fix')} to {last['time']}  {position}"
    fields = {k: v for k, v in rows[0].items() if k not in ("record", "device", "counter", "time") and v is not None}
    line = f"{rows[0]['record']} " + " ".join(f"{k}={v}" for k, v in fields.items())
    return printable(line)
