"""Decode a capture: verify every frame, drop repeats, write positions or all messages.

Frames that do not verify, damaged records and frames of devices without a key are counted on standard error, never
shown. Exit code 1 tells that there were some. jsonl holds every message, pcap every frame as it came, the others
positions.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from patrolink.core.errors import UserError

if TYPE_CHECKING:
    from patrolink.core.capture import Record
    from patrolink.core.decoder import DecoderStats
    from patrolink.core.keys import DeviceKey

HELP = "capture to jsonl, csv, geojson, gpx, npz, parquet or pcap"
_TEXT = ("jsonl", "csv", "geojson", "gpx")
_TABLES = ("npz", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "capture", metavar="FILE", nargs="?", default="-", help="capture, or - for standard input (default)"
    )
    parser.add_argument("--format", choices=(*_TEXT, *_TABLES, "pcap"), default="jsonl", help="form of the output")
    parser.add_argument("--output", metavar="FILE", help="write there instead of to standard output")
    parser.add_argument("--keys", metavar="FILE", help="device keys (default: PATROLINK_KEYS, else FILE.keys.toml)")
    parser.add_argument(
        "--derive", action="store_true", help="fill in speed and course that were left out, from the positions"
    )


def _check(path: str, source: BinaryIO) -> None:
    """UserError when the output is the capture that is being read."""
    with contextlib.suppress(OSError):  # no such file yet, or a source that is no file
        if os.path.samestat(os.stat(path), os.fstat(source.fileno())):
            raise UserError(f"{path}: that is the capture itself; name another file with --output")


@contextlib.contextmanager
def _output(path: str | None, source: BinaryIO) -> Iterator[TextIO]:
    """Yield the open output. UserError when it cannot be written, or is the capture that is being read."""
    if path is None:
        yield sys.stdout
        return
    _check(path, source)
    try:
        with Path(path).open("w", encoding="utf-8", newline="") as handle:
            yield handle
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a file that can be written with --output") from None


def run(args: argparse.Namespace) -> int:
    from patrolink.core import keys
    from patrolink.core.decoder import Decoder, add_motion
    from patrolink.report import formats
    from patrolink.transport.file import open_capture

    if args.format not in _TEXT and not args.output:
        raise UserError(f"{args.format} is no text; name a file with --output")
    if args.derive and args.format not in _TEXT:
        raise UserError("--derive goes with jsonl, csv, geojson and gpx; compute it from the columns otherwise")
    path = None if args.capture == "-" else Path(args.capture)
    transport = open_capture(args.capture)
    known = keys.find(args.keys, path)
    if not known and args.format != "pcap":
        print(
            "no device keys: nothing can be verified, so nothing is shown; name a keys file with --keys",
            file=sys.stderr,
        )
    decoder = Decoder(known)
    records = (record for record in transport.records() if record)
    if args.format in _TEXT:
        rows = (row for record in records for row in decoder.rows(record))
        with _output(args.output, transport.source) as out:
            formats.WRITERS[args.format](add_motion(rows) if args.derive else rows, out)
    else:
        _check(args.output, transport.source)
        try:
            _binary(args, records, known, decoder.stats)
        except OSError as e:
            raise UserError(f"{args.output}: {e.strerror}; name a file that can be written with --output") from None
    transport.close()
    summary = {**decoder.stats.summary(), **transport.counts()}
    if args.json and args.output:
        print(json.dumps(summary))
    else:
        print(json.dumps(summary) if args.json else _tell(summary), file=sys.stderr)
    return 0 if decoder.stats.clean and not summary["damaged"] and not summary["truncated"] else 1


def _binary(
    args: argparse.Namespace, records: Iterator[Record], known: dict[str, DeviceKey], stats: DecoderStats
) -> None:
    output = Path(args.output)
    if args.format == "pcap":
        from patrolink.report import pcap

        def counted() -> Iterator[Record]:
            for record in records:
                stats.frames += 1
                stats.bytes += len(record.frame)
                yield record

        with output.open("wb") as out:
            pcap.write(out, counted())
        return
    from patrolink.report import tables

    tables.WRITERS[args.format](tables.read(records, known, stats), output)


def _tell(summary: dict[str, object]) -> str:
    parts = [f"{summary['frames']} frames", f"{summary['fixes']} fixes", f"{summary['duplicates']} repeated"]
    rejected = summary["rejected"]
    if isinstance(rejected, dict):
        parts += [f"{count} refused ({reason})" for reason, count in rejected.items()]
    if summary["damaged"]:
        parts.append(f"{summary['damaged']} damaged stretches stepped over")
    if summary["truncated"]:
        parts.append("the last record is cut off")
    return ", ".join(parts)
