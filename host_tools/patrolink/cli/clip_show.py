"""Show what clips contain: verdict, trigger, pictures and positions. --out writes their contact sheets.

A clip that is tampered with or unverifiable is reported, and the exit code is 1. Its content is read with --anyway
only.
"""

import argparse
from pathlib import Path

from patrolink.cli import clip
from patrolink.cli.clip_export import summary
from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record
from patrolink.core.progress import Progress

EXAMPLES = ("patrolink clip show clips/vest-07",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    clip.add_place(parser)
    parser.add_argument("--out", metavar="DIR", help="folder for the contact sheets")
    parser.add_argument("--anyway", action="store_true", help="also read clips that are tampered with or unverifiable")


def run(args: argparse.Namespace) -> int:
    """Print what the clips contain."""
    from patrolink.evidence import export

    key = clip.require_evidence_key(args)
    results = [result for device in clip.verify_place(args) for result in device.clips]
    code = clip.exit_code(result.verdict for result in results)
    for result in results:
        facts, text = result.fields(), f"{result.title}: {result.verdict}"
        try:
            export.check_exportable(result, args.anyway)
            with Progress(result.title, unit="segments") as progress:
                preview = export.preview(result, key, progress.update)
        except UserError as e:
            code = max(code, 1)
            notes.warn(str(e))
        else:
            if args.out:
                with export.writing_to(folder := Path(args.out)):
                    folder.mkdir(parents=True, exist_ok=True)
                    preview.files.append(export.write_contact_sheet(preview, folder))
            facts = export.facts(preview)
            text = summary(facts)
        if args.json:
            print_record("clip", facts)
        else:
            print(text, *facts.get("files", ()), sep="\n  ")
        clip.print_findings(result)
    if args.json:
        clip.print_verdict_summary(results)
    return code
