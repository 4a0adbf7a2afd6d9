"""Watch devices: a broker (mqtt://host:port, mqtts://...), a serial port, a PTY, or a capture.

On a terminal a live table; otherwise a line a frame, or with --json every row as JSON. --record writes a capture of
all that comes, verified or not: it is evidence. Of a frame that does not verify only the device it claims, its type,
counter and size are told, never its content. Exit code 1 when there were such frames, or some were damaged or dropped.
"""

import argparse
import contextlib
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.core.errors import UserError
from patrolink.core.signals import StopSignal

if TYPE_CHECKING:
    from patrolink.core.capture import CaptureWriter, Record
    from patrolink.core.decoder import Decoder
    from patrolink.report.device_table import DeviceTable
    from patrolink.transport import Transport

HELP = "watch a broker, serial port, PTY or capture"
_FINDINGS = ("damaged", "truncated", "dropped")


def seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"{text}: seconds have to be 0 or more")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: has to be 1 or more")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="broker URL, serial port, PTY or capture")
    parser.add_argument("--record", metavar="FILE", help="write a capture of every frame that comes")
    parser.add_argument("--keys", metavar="FILE", help="device keys (default: PATROLINK_KEYS, else beside a capture)")
    parser.add_argument("--for", dest="seconds", type=seconds, metavar="SECONDS", help="stop after this time")
    parser.add_argument("--count", type=count, metavar="N", help="stop after N frames")
    parser.add_argument(
        "--device", default="serial", metavar="ID", help="device id on a serial line, which does not tell it"
    )


def run(args: argparse.Namespace) -> int:
    from patrolink.core import keys
    from patrolink.core.decoder import Decoder
    from patrolink.report.device_table import DeviceTable
    from patrolink.transport import open_transport

    path = Path(args.source) if os.path.isfile(args.source) else None
    known = keys.find(args.keys, path)
    if not known:
        print("no device keys: frames are counted but not shown; name a keys file with --keys", file=sys.stderr)
    decoder = Decoder(known)
    transport = open_transport(args.source, args.device)
    with contextlib.ExitStack() as stack:
        stack.callback(transport.close)
        writer = _recorder(args.record, path, stack)
        # Told after the table is gone, and also when the source goes away.
        stack.callback(lambda: print(json.dumps(_summary(decoder, transport)), file=sys.stderr))
        table = None if args.json or not sys.stdout.isatty() else stack.enter_context(DeviceTable(args.source))
        with contextlib.suppress(StopSignal):
            _watch(args, transport, decoder, writer, table)
    return 0 if decoder.stats.clean and not any(transport.counts().get(name) for name in _FINDINGS) else 1


def _summary(decoder: "Decoder", transport: "Transport") -> dict[str, Any]:
    return {**decoder.stats.summary(), **transport.counts()}


def _recorder(record: str | None, source: Path | None, stack: contextlib.ExitStack) -> "CaptureWriter | None":
    """Return the writer of --record. UserError when it cannot be written, or is the capture that is being read."""
    from patrolink.core.capture import CaptureWriter

    if record is None:
        return None
    path = Path(record)
    try:
        if source is not None and path.exists() and path.samefile(source):
            raise UserError(f"{record}: that is the capture itself; name another file with --record")
        writer = CaptureWriter(path)
    except OSError as e:
        raise UserError(f"{record}: {e.strerror}; name a file that can be written with --record") from None
    stack.callback(writer.close)
    return writer


def _watch(
    args: argparse.Namespace,
    transport: "Transport",
    decoder: "Decoder",
    writer: "CaptureWriter | None",
    table: "DeviceTable | None",
) -> None:
    """Take records until the source ends, the time is over or enough have come."""
    deadline = None if args.seconds is None else time.monotonic() + args.seconds
    for record in transport.records():
        if record is not None:
            if writer is not None:
                writer.write(record)
            rows = decoder.rows(record)
            if table is not None:
                table.take(record, rows, decoder.stats)
            elif args.json:
                for row in rows or _refusal(record, decoder.reject_reason):
                    print(json.dumps(row), flush=True)
            else:
                print(f"{record.device}: {_line(record, rows, decoder.reject_reason)}", flush=True)
        if deadline is not None and time.monotonic() >= deadline:
            return
        if args.count and decoder.stats.frames >= args.count:
            return


def _refusal(record: "Record", reason: str) -> list[dict[str, Any]]:
    """Return what may be told of a refused frame: header fields only, and those unverified."""
    from patrolink_protocol import frame
    from patrolink_protocol.errors import RejectError

    if not reason:
        return []
    row = {"message": "refused", "device": record.device, "reason": reason, "type": None, "counter": None}
    with contextlib.suppress(RejectError):
        row["type"], _, row["counter"] = frame.peek(record.frame)
    return [{**row, "bytes": len(record.frame)}]


def _line(record: "Record", rows: list[dict[str, Any]], reason: str) -> str:
    for told in _refusal(record, reason):
        header = "" if told["type"] is None else f", type {told['type']}, counter {told['counter']}"
        why = "no key" if reason == "key" else reason
        return f"refused ({why}): unverified{header}, {told['bytes']} bytes"
    if not rows:
        return f"repeated, {len(record.frame)} bytes"
    if rows[0]["message"] == "position":
        last = rows[-1]
        where = "no fix" if last["lat_deg"] is None else f"{last['lat_deg']:.6f} {last['lon_deg']:.6f}"
        return f"{len(rows)} fixes to {last['time']}  {where}"
    facts = {k: v for k, v in rows[0].items() if k not in ("message", "device", "counter", "time") and v is not None}
    line = f"{rows[0]['message']} " + " ".join(f"{k}={v}" for k, v in facts.items())
    # A device's text must not steer the terminal.
    return "".join(c if c.isprintable() else "\ufffd" for c in line)
