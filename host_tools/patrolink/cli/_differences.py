"""The option --diff of `patrolink validate`: codecs side by side on the frames of a capture."""

import argparse
from pathlib import Path

from patrolink.conformance import differential, target
from patrolink.conformance.case import CODEC
from patrolink.conformance.profile import complete
from patrolink.conformance.testee.testee import TesteeFaultError
from patrolink.core import clock, keys, notes
from patrolink.core.capture import CaptureReader
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.text import json_text, plural, printable


def run(args: argparse.Namespace) -> int:
    """Print each frame that the codecs read differently; return the exit code: 1 if there is one, 2 for no frame."""
    path = Path(args.diff)
    known = keys.find(args.keys, path)
    if not known:
        raise UserError(f"{path}: no keys; name a keys file with --keys")
    profile = complete(CODEC)
    testees = {
        text: target.testee(target.parse(text), CODEC, profile, clock.monotonic_ms, args.timeout)
        for text in args.target
    }
    frames = differences = 0
    with path.open("rb") as source:
        reader = CaptureReader(source, str(path))
        try:
            for difference in differential.compare(reader, known, testees):
                frames += 1
                if difference is not None:
                    differences += 1
                    _print(difference, args.json)
        except TesteeFaultError as e:
            raise UserError(f"a codec cannot be started: {e.detail}") from None
    damaged = reader.damaged + reader.truncated
    if damaged:
        notes.warn(f"{path}: {plural(damaged, 'part')} of it could not be read: it was damaged or cut off")
    if not frames:
        notes.error(f"{path}: no frame of a device with a known key; name another capture, or its keys with --keys")
    if args.json:
        print_summary({"frames": frames, "differences": differences})
    else:
        print(f"{plural(frames, 'frame')} compared, {plural(differences, 'difference')}")
    if not frames:
        return 2
    return 1 if differences else 0


def _print(difference: differential.Difference, as_json: bool) -> None:
    if as_json:
        fields = {"frame_number": difference.number, "device": difference.device, "frame_hex": difference.frame}
        print_record("difference", {**fields, "readings": difference.readings, "text": difference.where})
        return
    print(printable(f"frame {difference.number} of {difference.device}: {difference.where}"))
    for name, reading in difference.readings.items():
        print(printable(f"  {name}: {json_text(reading)[:300]}"))
