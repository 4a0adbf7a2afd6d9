"""Decode a capture: verify every frame, drop repeated ones, write positions or all messages.

Frames that are not verified, damaged records and frames of devices without a key are counted on standard error and
never shown; exit code 1 reports that there were some. jsonl has every message, pcap every frame as received, the other
formats have positions. Control and bidirectional characters in texts of devices are escaped. In csv, a text that begins
with = + - @ has an apostrophe in front, so that no spreadsheet takes it for a formula.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from patrolink.cli._summary import summary_text
from patrolink.core import notes
from patrolink.core.capture import RECORD_OVERHEAD_BYTES
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_summary
from patrolink.core.progress import Progress

if TYPE_CHECKING:
    from patrolink.core.capture import Record
    from patrolink.core.decoder import DecoderStats
    from patrolink.core.keys import DeviceKey

EXAMPLES = (
    "patrolink decode patrol.plcap",
    "patrolink decode patrol.plcap --format csv --output patrol.csv",
    "patrolink decode - --keys keys.toml < patrol.plcap",
)
_TEXT = ("jsonl", "csv", "geojson", "gpx")
_TABLES = ("npz", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "capture", metavar="FILE", nargs="?", default="-", help="capture, or - for standard input (default)"
    )
    parser.add_argument(
        "--format", choices=(*_TEXT, *_TABLES, "pcap"), default="jsonl", help="output format (default: jsonl)"
    )
    parser.add_argument("--output", metavar="FILE", help="output file (default: standard output)")
    parser.add_argument("--keys", metavar="FILE", help="device keys (default: PATROLINK_KEYS, else FILE.keys.toml)")
    parser.add_argument(
        "--derive", action="store_true", help="compute speed and course from the positions where a device sent none"
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from patrolink.core import keys
    from patrolink.core.decoder import DecoderStats
    from patrolink.transport.file import open_capture

    if args.format not in _TEXT and not args.output:
        raise UserError(f"{args.format} is a binary format; name a file with --output")
    if args.derive and args.format not in _TEXT:
        raise UserError(f"--derive works with {', '.join(_TEXT)}; compute speed and course from the columns instead")
    if args.json and not args.output and args.format != "jsonl":
        raise UserError(f"--json prints JSON Lines, not {args.format}; name a file for the {args.format} with --output")
    path = None if args.capture == "-" else Path(args.capture)
    transport = open_capture(args.capture)
    device_keys = keys.find(args.keys, path)
    if not device_keys and args.format != "pcap":
        notes.note("no device keys: no frame can be verified or shown; name a keys file with --keys")
    stats = DecoderStats()
    with Progress("decode", _size(transport.source), "bytes", bool(args.output) or not sys.stdout.isatty()) as progress:
        records = _count_bytes(transport.records(), progress)
        if args.format in _TEXT:
            with _open_output(args.output, transport.source) as out:
                _write_text(args, records, device_keys, stats, out)
        else:
            _check_not_source(args.output, transport.source)
            try:
                _write_binary(args, records, device_keys, stats)
            except OSError as e:
                raise UserError(f"{args.output}: {e.strerror}; name a writable file with --output") from None
    transport.close()
    summary = {**stats.summary(), **transport.counts()}
    if args.json:
        print_summary(summary)
    else:
        notes.note(summary_text(stats, transport.counts()))
    return 0 if stats.clean and not summary["damaged"] and not summary["truncated"] else 1


def _size(source: BinaryIO) -> int | None:
    """Return the size of a source; None for a pipe."""
    try:
        return os.fstat(source.fileno()).st_size or None
    except OSError:
        return None


def _count_bytes(records: Iterator[Record | None], progress: Progress) -> Iterator[Record]:
    for record in records:
        if record is not None:
            progress.done += RECORD_OVERHEAD_BYTES + len(record.device) + len(record.frame)
            yield record


def _write_text(
    args: argparse.Namespace,
    records: Iterator[Record],
    device_keys: dict[str, DeviceKey],
    stats: DecoderStats,
    out: TextIO,
) -> None:
    # The package itself does without numpy.
    if args.format != "jsonl" and not args.derive and importlib.util.find_spec("numpy"):
        from patrolink.report import position_csv, position_maps, positions

        writers = {"csv": position_csv.write, "geojson": position_maps.write_geojson, "gpx": position_maps.write_gpx}
        writers[args.format](positions.read(records, device_keys, stats), out)
        return
    from patrolink.core.decoder import Decoder, add_motion
    from patrolink.report import formats

    decoder = Decoder(device_keys, stats=stats)
    rows = (row for record in records for row in decoder.rows(record))
    formats.WRITERS[args.format](add_motion(rows) if args.derive else rows, out)


def _check_not_source(path: str, source: BinaryIO) -> None:
    """Raise UserError if the output is the capture that is being read."""
    with contextlib.suppress(OSError):  # the output does not exist yet, or the source is no file
        if os.path.samestat(os.stat(path), os.fstat(source.fileno())):
            raise UserError(f"{path}: this is the capture itself; name another file with --output")


@contextlib.contextmanager
def _open_output(path: str | None, source: BinaryIO) -> Iterator[TextIO]:
    """Yield the output. Raises UserError if it cannot be written, or is the capture that is being read."""
    if path is None:
        yield sys.stdout
        return
    _check_not_source(path, source)
    try:
        with Path(path).open("w", encoding="utf-8", newline="") as out:
            yield out
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a writable file with --output") from None


def _write_binary(
    args: argparse.Namespace, records: Iterator[Record], device_keys: dict[str, DeviceKey], stats: DecoderStats
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
    from patrolink.report import positions, tables

    tables.WRITERS[args.format](positions.read(records, device_keys, stats), output)
