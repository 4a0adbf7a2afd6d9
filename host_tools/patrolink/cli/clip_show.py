"""Show what clips contain: verdict, trigger, pictures and positions. --out writes their contact sheets.

A clip that is tampered with or unverifiable is reported, and the exit code is 1. Its content is read with --anyway
only.
"""

import argparse
import json
import sys
from pathlib import Path

from patrolink.cli import clip
from patrolink.cli.clip_export import progress_bar, summary
from patrolink.core.errors import UserError

EXAMPLES = ("patrolink clip show clips/vest-07",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    clip.add_place(parser)
    parser.add_argument("--out", metavar="DIR", help="folder for the contact sheets")
    parser.add_argument("--anyway", action="store_true", help="also read clips that are tampered with or unverifiable")


def run(args: argparse.Namespace) -> int:
    """Print what the clips contain."""
    from patrolink.evidence import export

    key, documents = clip.require_evidence_key(args), []
    results = [result for device in clip.verify_place(args) for result in device.clips]
    code = clip.exit_code(result.verdict for result in results)
    for result in results:
        facts, text = result.to_json(), f"{result.title}: {result.verdict}"
        try:
            export.check_exportable(result, args.anyway)
            with progress_bar(args.quiet, result.title) as progress:
                preview = export.preview(result, key, progress)
        except UserError as e:
            code = max(code, 1)
            print(e, file=sys.stderr)
        else:
            if args.out:
                with export.writing_to(folder := Path(args.out)):
                    folder.mkdir(parents=True, exist_ok=True)
                    preview.files.append(export.write_contact_sheet(preview, folder))
            facts = export.facts(preview)
            text = summary(facts)
        documents.append(facts)
        if not args.json:
            print(text, *facts.get("files", ()), sep="\n  ")
        clip.print_findings(result)
    if args.json:
        print(json.dumps(documents))
    return code
