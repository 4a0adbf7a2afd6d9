"""Encode a track as position batches, as a device sends them, and print the size.

IN is a track (.csv with time,lat_deg,lon_deg and any of alt_m,speed_mps,course_deg,hacc_m,sats,battery_pct; or .gpx) or
an NMEA log (.nmea, .log, .txt). OUT is a capture for `decode` and `monitor`; its key is generated and written to
OUT.keys.toml.
"""

import argparse
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_summary
from patrolink.core.progress import Progress
from patrolink.core.text import plural

if TYPE_CHECKING:
    from patrolink_protocol import track_encoder

    from patrolink.core import track_packer

EXAMPLES = (
    "patrolink pack walk.csv walk.plcap",
    "patrolink pack walk.gpx walk.plcap --resolution 1e-5 --batch 120",
)
_RESOLUTIONS = {"1e-5": 5, "1e-6": 6, "1e-7": 7}
_OPTIONAL_COLUMNS = ("alt", "speed", "course", "hacc", "sats", "battery")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("track", metavar="IN", help="track or NMEA log")
    parser.add_argument("capture", metavar="OUT", help="capture to write (.plcap)")
    parser.add_argument(
        "--resolution",
        choices=tuple(_RESOLUTIONS),
        default="1e-6",
        help="of latitude and longitude, degrees (default: 1e-6)",
    )
    parser.add_argument("--batch", metavar="N", type=int, default=60, help="fixes per frame, 1 to 255 (default: 60)")
    parser.add_argument("--baseline", action="store_true", help="fixed-width coding only, without the profile rice")
    parser.add_argument(
        "--omit",
        metavar="COLUMNS",
        default="",
        help=f"columns to leave out, comma-separated: any of {', '.join(_OPTIONAL_COLUMNS)}",
    )
    parser.add_argument("--device", metavar="ID", default="pack", help="device id (default: pack)")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from patrolink_protocol import frame

    from patrolink.core import keys, track_packer
    from patrolink.core.capture import CaptureWriter, Record

    if not keys.DEVICE_ID.fullmatch(args.device):
        raise UserError(f"--device {args.device}: a device id has 1 to 32 of A-Z a-z 0-9 _ -")
    encoder = _encoder(args)
    fixes = track_packer.read(Path(args.track))
    first = next(fixes, None)  # before the output is created: the input may hold no track
    if first is None:
        raise UserError(f"{args.track}: no fix with a time; an NMEA log needs RMC or ZDA sentences")
    out = Path(args.capture)
    if os.path.realpath(out) == os.path.realpath(args.track):
        raise UserError(f"{out}: this is the input; name another file")
    try:
        writer = CaptureWriter(out)
        channel = frame.Channel(keys.create(keys.sidecar(out), args.device), args.device.encode())
    except OSError as e:
        raise UserError(f"{out}: {e.strerror}; name a writable file") from None
    packer = track_packer.TrackPacker(channel, encoder)
    with Progress("pack", unit="fixes") as progress:
        for time_ms, data in packer.frames(itertools.chain([first], fixes)):
            writer.write(Record(time_ms, args.device, data))
            progress.done = packer.counts.fixes
    writer.close()
    summary = packer.counts.summary(_RESOLUTIONS[args.resolution])
    if args.json:
        print_summary(summary)
    else:
        _print_summary(packer.counts, summary)
    return 0


def _encoder(args: argparse.Namespace) -> "track_encoder.TrackEncoder":
    from patrolink_protocol import track_encoder

    omit = tuple(filter(None, args.omit.split(",")))
    for name in omit:
        if name not in _OPTIONAL_COLUMNS:
            raise UserError(f"--omit {name}: unknown column; choose from {', '.join(_OPTIONAL_COLUMNS)}")
    try:
        return track_encoder.TrackEncoder(args.batch, _RESOLUTIONS[args.resolution], not args.baseline, omit)
    except track_encoder.RangeError as e:
        raise UserError(f"--batch {args.batch}: {e}") from None


def _print_summary(counts: "track_packer.PackCounts", summary: dict[str, object]) -> None:
    print(
        f"{plural(counts.fixes, 'fix')} in {plural(counts.frames, 'frame')}, {plural(counts.bytes, 'byte')}: "
        f"{summary['bytes_per_fix']} bytes per fix, {summary['bytes_per_fix_without_overhead']} without header and tag"
    )
    if counts.left_out:
        notes.note(f"{plural(counts.left_out, 'fix')} left out: the protocol cannot encode the time")
    if counts.unstorable:
        notes.note(f"{plural(counts.unstorable, 'value')} out of range, encoded as unknown")
