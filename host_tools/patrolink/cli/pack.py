"""Pack a track into position batches, as a device would send them, and say how many bytes that takes.

IN is a track (.csv with time,lat_deg,lon_deg and any of alt_m,speed_mps,course_deg,hacc_m,sats,battery_pct; or .gpx) or
a receiver's log (.nmea, .log, .txt). OUT is a capture for `decode` and `monitor`; its key, made for it, lies beside it
in OUT.keys.toml.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

from patrolink.core.errors import UserError

HELP = "track (csv, gpx, nmea) to a capture; bytes a fix"
_RESOLUTIONS = {"1e-5": 5, "1e-6": 6, "1e-7": 7}
_OMIT = ("alt", "speed", "course", "hacc", "sats", "battery")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("track", metavar="IN", help="track or receiver's log")
    parser.add_argument("capture", metavar="OUT", help="capture to write (.plcap)")
    parser.add_argument(
        "--resolution", choices=tuple(_RESOLUTIONS), default="1e-6", help="degrees of latitude and longitude (1e-6)"
    )
    parser.add_argument("--batch", metavar="N", type=int, default=60, help="fixes a frame, 1 to 255 (60)")
    parser.add_argument("--baseline", action="store_true", help="fixed-width columns only, without the profile rice")
    parser.add_argument(
        "--omit", metavar="COLUMNS", default="", help=f"leave columns out, as speed,course: any of {', '.join(_OMIT)}"
    )
    parser.add_argument("--device", metavar="ID", default="pack", help="device id (pack)")


def run(args: argparse.Namespace) -> int:
    from patrolink_protocol import frame, track_encoder

    from patrolink.core import keys, track_packer
    from patrolink.core.capture import CaptureWriter, Record

    omit = tuple(filter(None, args.omit.split(",")))
    for name in omit:
        if name not in _OMIT:
            raise UserError(f"--omit {name}: none of {', '.join(_OMIT)}")
    if not keys.DEVICE_ID.fullmatch(args.device):
        raise UserError(f"--device {args.device}: 1 to 32 of A-Z a-z 0-9 _ -")
    resolution = _RESOLUTIONS[args.resolution]
    try:
        encoder = track_encoder.TrackEncoder(args.batch, resolution, not args.baseline, omit)
    except track_encoder.RangeError as e:
        raise UserError(f"--batch {args.batch}: {e}") from None
    moments = track_packer.read(Path(args.track))
    first = next(moments, None)  # before anything is written: the input may be no track at all
    if first is None:
        raise UserError(f"{args.track}: no fix with a time; is it a receiver's log with RMC or ZDA sentences?")
    out = Path(args.capture)
    if out.resolve() == Path(args.track).resolve():
        raise UserError(f"{out}: that is the input; name another file")
    try:
        writer = CaptureWriter(out)
        channel = frame.Channel(keys.create(keys.sidecar(out), args.device), args.device.encode())
    except OSError as e:
        raise UserError(f"{out}: {e.strerror}; name a file that can be written") from None
    packer = track_packer.TrackPacker(channel, encoder)
    for time_ms, data in packer.frames(itertools.chain([first], moments)):
        writer.write(Record(time_ms, args.device, data))
    writer.close()
    summary = packer.counts.summary(resolution)
    if args.json:
        print(json.dumps(summary))
    else:
        _tell(summary)
    return 0


def _tell(summary: dict[str, object]) -> None:
    print(
        f"{summary['fixes']} fixes in {summary['frames']} frames, {summary['bytes']} bytes: {summary['bytes_per_fix']} "
        f"bytes a fix, {summary['bytes_per_fix_without_overhead']} without header and tag"
    )
    if summary["left_out"]:
        print(f"{summary['left_out']} fixes left out: their time cannot be stated", file=sys.stderr)
    if summary["unstorable"]:
        print(f"{summary['unstorable']} values are out of range and were sent as unknown", file=sys.stderr)
