"""Tell what clips are, as their pictures, positions and verdicts show; --out leaves their contact sheets.

A clip that is tampered with or unverifiable is told, and only looked into with --anyway; exit code 1.
"""

import argparse
import json
import sys
from pathlib import Path

from patrolink.cli import clip
from patrolink.cli.clip_export import key, line, progress
from patrolink.core.errors import UserError

HELP = "tell what clips are, and make their contact sheets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    clip.add_place(parser)
    parser.add_argument("--out", metavar="DIR", help="folder for the contact sheets")
    parser.add_argument("--anyway", action="store_true", help="also what is tampered with or unverifiable")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    from patrolink.evidence import export

    evidence, told_all = key(args), []
    found = [one for device in clip.verdicts(args) for one in device.clips]
    code = clip.code_of(one.verdict for one in found)
    for one in found:
        facts, words = one.facts(), f"{one.name}: {one.verdict}"
        try:
            export.refuse(one, args.anyway)
            with progress(args.quiet, one.name) as told:
                out = export.show(one, evidence, told)
        except UserError as e:
            code = max(code, 1)
            print(e, file=sys.stderr)
        else:
            if args.out:
                with export.writing(folder := Path(args.out)):
                    folder.mkdir(parents=True, exist_ok=True)
                    out.files.append(export.sheet(out, folder))
            facts = export.facts(out)
            words = line(facts)
        told_all.append(facts)
        if not args.json:
            print(words, *facts.get("files", ()), sep="\n  ")
        clip.tell(one)
    if args.json:
        print(json.dumps(told_all))
    return code
