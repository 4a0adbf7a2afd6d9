"""Export clips for playback and as documents: a film with subtitles, the track, a contact sheet and an evidence sheet.

H.264 is copied bit for bit, JPEG pictures are re-encoded; each picture keeps its time. The verdict and the hash of each
file are written next to them. All files of a clip are written, or none. A clip that is tampered with or unverifiable is
refused; with --anyway it is exported, its sheets show the verdict, and the exit code is 1. Altered segments are never
shown.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from patrolink.cli import clip
from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record
from patrolink.core.posix import user_name
from patrolink.core.progress import Progress
from patrolink.core.text import printable

EXAMPLES = ("patrolink clip export clips/vest-07 --evidence-key evidence.pem --out export",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    clip.add_place(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the exported files")
    parser.add_argument("--by", metavar="NAME", help="who exports, for the sheet (default: the current user)")
    parser.add_argument(
        "--anyway", action="store_true", help="also export clips that are tampered with or unverifiable"
    )


def run(args: argparse.Namespace) -> int:
    """Export the clips."""
    from patrolink.evidence import export, export_bundle

    key, folder = clip.require_evidence_key(args), Path(args.out)
    results = [result for device in clip.verify_place(args) for result in device.clips]
    code = clip.exit_code(result.verdict for result in results)
    for result in results:
        export.check_exportable(result, args.anyway)
        export_bundle.check_not_exported(result, folder)
    who = args.by or _user()
    for result in results:
        try:
            with Progress(result.title, unit="segments") as progress:
                now_ms = time.time_ns() // 1_000_000
                bundle = export_bundle.write_bundle(result, key, folder, who, now_ms, progress.update)
        except export.NothingToShowError as e:
            if len(results) == 1:
                raise
            code = 1  # the other clips are exported
            facts = result.fields()
            notes.warn(str(e))
        else:
            facts = export.facts(bundle)
            if not args.json:
                print(summary(facts), *bundle.files, sep="\n  ")
        if args.json:
            print_record("clip", facts)
        clip.print_findings(result)
    if args.json:
        clip.print_verdict_summary(results)
    return code


def _user() -> str:
    name = user_name()
    if name is None:
        raise UserError("the current user has no name; give the name of who exports with --by NAME")
    return name


def summary(facts: dict[str, Any]) -> str:
    """Return the facts of an exported clip in one line."""
    return printable(
        "{device} clip {clip}: {verdict}; {trigger}, pictures: {pictures} in {duration_s:.1f} s, "
        "positions: {fixes}".format(**facts)
    )
