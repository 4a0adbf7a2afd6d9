"""Watch devices: a broker (mqtt://host:port, mqtts://...), a serial port, a PTY, or a capture.

On a terminal a live table; otherwise a line a frame, or with --json every row as JSON. --record writes a capture of
all that comes, verified or not: it is evidence. What does not verify is counted and never shown.
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from patrolink.errors import UserError

HELP = "watch a broker, serial port, PTY or capture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="broker URL, serial port, PTY or capture")
    parser.add_argument("--record", metavar="FILE", help="write a capture of every frame that comes")
    parser.add_argument("--keys", metavar="FILE", help="device keys (default: PATROLINK_KEYS, else beside a capture)")
    parser.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="stop after this time")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N frames")
    parser.add_argument(
        "--device", default="serial", metavar="ID", help="device id on a serial line, which does not tell it"
    )


def run(args: argparse.Namespace) -> int:
    from patrolink import keys
    from patrolink.capture import CaptureWriter
    from patrolink.decoding import Decoder
    from patrolink.report.live import Table
    from patrolink.transport import open_transport

    path = Path(args.source) if Path(args.source).is_file() else None
    known = keys.find(args.keys, path)
    if not known:
        print("no device keys: frames are counted but not shown; name a keys file with --keys", file=sys.stderr)
    decoder = Decoder(known)
    transport = open_transport(args.source, args.device)
    deadline = None if args.seconds is None else time.monotonic() + args.seconds
    with contextlib.ExitStack() as stack:
        stack.callback(transport.close)
        writer = None
        if args.record:
            try:
                writer = CaptureWriter(Path(args.record))
            except OSError as e:
                raise UserError(f"{args.record}: {e.strerror}; name a file that can be written with --record") from None
            stack.callback(writer.close)
        table = None if args.json or not sys.stdout.isatty() else stack.enter_context(Table(args.source))
        with contextlib.suppress(KeyboardInterrupt):
            for record in transport.records():
                if record is not None:
                    if writer is not None:
                        writer.write(record)
                    refused = sum(decoder.stats.rejected.values())
                    rows = decoder.rows(record)
                    if table is not None:
                        table.take(record, rows, decoder.stats)
                    else:
                        _print(record.device, rows, sum(decoder.stats.rejected.values()) > refused, args.json)
                if (deadline and time.monotonic() >= deadline) or (args.count and decoder.stats.frames >= args.count):
                    break
    print(json.dumps(decoder.stats.summary()), file=sys.stderr)
    return 0 if decoder.stats.clean else 1


def _print(device: str, rows: list[dict[str, Any]], refused: bool, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json.dumps(row), flush=True)
    elif refused:
        print(f"{device}: a frame was refused", flush=True)
    elif rows and rows[0]["message"] == "position":
        last = rows[-1]
        where = "no fix" if last["lat_deg"] is None else f"{last['lat_deg']:.6f} {last['lon_deg']:.6f}"
        print(f"{device}: {len(rows)} fixes to {last['time']}  {where}", flush=True)
    elif rows:
        facts = {
            k: v for k, v in rows[0].items() if k not in ("message", "device", "counter", "time") and v is not None
        }
        print(f"{device}: {rows[0]['message']} " + " ".join(f"{k}={v}" for k, v in facts.items()), flush=True)
