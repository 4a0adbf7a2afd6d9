"""Clips of devices as evidence: list, fetch, verify, show and export them.

PLACE is a folder: of one clip, of a device, or of a site's clips, as the hub stores them. The evidence key is needed to
decrypt the content; hashes, chain and signatures are verified without it. The exit code is 1 when a clip is tampered
with or unverifiable.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.cli._parser import add_verb
from patrolink.cli._verbs import CLIP_VERBS
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_summary
from patrolink.core.progress import Progress
from patrolink.core.text import printable

# Modules of evidence/ need cryptography and PyAV. They are imported where they are used, so that help works without.
if TYPE_CHECKING:
    from patrolink.evidence.evidence_key import EvidenceKey
    from patrolink.evidence.verify import ClipVerdict, DeviceVerdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the parsers of the verbs, each a module patrolink.cli.clip_<verb>."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, help_line in CLIP_VERBS.items():
        add_verb(verbs, f"clip_{name}", help_line)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `verify_place` reads."""
    parser.add_argument("place", metavar="PLACE", help="folder of a clip, of a device, or of a site's clips")
    parser.add_argument(
        "--signers", metavar="FILE", help="the devices' public keys (default: signers.toml in the site's folder)"
    )
    add_evidence_key(parser)


def add_evidence_key(parser: argparse.ArgumentParser) -> None:
    """Add the argument that `evidence_key` reads."""
    parser.add_argument("--evidence-key", metavar="FILE", help="the site's evidence key (PEM)")


def evidence_key(args: argparse.Namespace) -> "EvidenceKey | None":
    """Return the key of --evidence-key; None when it was not given."""
    from patrolink.evidence import evidence_key

    return evidence_key.load(Path(args.evidence_key)) if args.evidence_key else None


def require_evidence_key(args: argparse.Namespace) -> "EvidenceKey":
    """Return the key of --evidence-key; UserError when it was not given."""
    key = evidence_key(args)
    if key is None:
        raise UserError("clips are encrypted; give the site's evidence key with --evidence-key FILE")
    return key


def verify_place(args: argparse.Namespace) -> "list[DeviceVerdict]":
    """Verify the clips in PLACE. The links of a single clip to its neighbours are checked too."""
    from patrolink.evidence.clip_folders import ClipSource, clip_folders
    from patrolink.evidence.verify import verify_device

    source = ClipSource(Path(args.place), args.signers)
    key = evidence_key(args)
    only = {source.clip} if source.clip else None
    total = len(only) if only else sum(len(clip_folders(device)) for device in source.devices)
    with Progress("verify", total, "clips") as progress:
        return [
            verify_device(device, source.signers, key, only, lambda: progress.advance(1)) for device in source.devices
        ]


def print_findings(result: "ClipVerdict") -> None:
    """Print the findings on a clip on standard error."""
    for finding in result.findings:
        print(
            f"{result.title}: {finding.grade}: {printable(finding.where)}: {printable(finding.words)}", file=sys.stderr
        )


def print_verdict_summary(results: "Sequence[ClipVerdict]") -> None:
    """Print the last JSON line of a verb that verifies clips: how many have which verdict."""
    print_summary({"clips": len(results), "verdicts": dict(Counter(result.verdict for result in results))})


def exit_code(verdicts: Iterable[str], strict: bool = False) -> int:
    """Return 1 when a clip is tampered with or unverifiable; with `strict` also when something is missing.

    Raises:
        UserError: There are no verdicts.
    """
    from patrolink.evidence.verdict import GAPS, VALID

    distinct = set(verdicts)
    if not distinct:
        raise UserError("no clips found; give a folder that has some")
    return 0 if distinct <= ({VALID} if strict else {VALID, GAPS}) else 1
