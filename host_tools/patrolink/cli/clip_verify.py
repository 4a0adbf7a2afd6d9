"""Verify that clips are what devices recorded: files, chain, signatures; with the evidence key also their content.

The verdicts are valid, valid with gaps (each gap is listed), tampered, unverifiable (protocol/CLIP.md). The exit code
is 1 for the last two, with --strict for gaps too.
"""

import argparse
from typing import TYPE_CHECKING

from patrolink.cli import clip
from patrolink.core.json_lines import print_record
from patrolink.core.text import plural

if TYPE_CHECKING:
    from patrolink.evidence.verify import ClipVerdict


EXAMPLES = (
    "patrolink clip verify clips/vest-07",
    "patrolink clip verify clips --evidence-key evidence.pem",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    clip.add_place(parser)
    parser.add_argument("--strict", action="store_true", help="exit with code 1 for gaps too")


def run(args: argparse.Namespace) -> int:
    """Verify the clips and print the verdicts."""
    return print_results(
        [result for device in clip.verify_place(args) for result in device.clips], args.json, args.strict
    )


def print_results(results: "list[ClipVerdict]", as_json: bool, strict: bool = False) -> int:
    """Print verdicts on standard output and findings on standard error; return the exit code."""
    code = clip.exit_code((result.verdict for result in results), strict)
    for result in results:
        if as_json:
            print_record("clip", result.fields())
        else:
            depth = "content decrypted" if result.decrypted else "files, chain and signature only"
            segments = plural(len(result.manifest.segments), "segment")
            print(f"{result.title}: {result.verdict} ({segments}; {depth})")
        clip.print_findings(result)
    if as_json:
        clip.print_verdict_summary(results)
    return code
