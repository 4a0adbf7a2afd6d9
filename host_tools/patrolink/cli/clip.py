"""Clips of devices as evidence: each thing to do with them is a module beside this one.

PLACE is a folder: of one clip, of a device, or of a site's clips, as the hub keeps them. The evidence key is needed to
look inside; hashes, chain and signatures are verified without it. Exit code 1 tells of a clip that is tampered with or
unverifiable.
"""

import argparse
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from patrolink.core.errors import UserError

if TYPE_CHECKING:
    from patrolink.evidence.evidence_key import EvidenceKey
    from patrolink.evidence.verify import DeviceVerdict, Verdict

WHAT = ("list", "fetch", "verify", "show", "export")
HELP = "list, fetch, verify, show and export clips"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="what to do", metavar="WHAT", required=True)
    for name in WHAT:
        what: ModuleType = importlib.import_module(f"patrolink.cli.clip_{name}")
        sub = verbs.add_parser(
            name, help=what.HELP, description=what.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        what.add_arguments(sub)
        sub.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="results as JSON on standard output"
        )
        sub.set_defaults(what=what)


def run(args: argparse.Namespace) -> int:
    code: int = args.what.run(args)
    return code


def add_place(parser: argparse.ArgumentParser) -> None:
    """Give a parser what `verdicts` reads."""
    parser.add_argument("place", metavar="PLACE", help="folder of a clip, of a device, or of a site's clips")
    parser.add_argument("--signers", metavar="FILE", help="the devices' public keys (default: signers.toml of PLACE)")
    add_evidence(parser)


def add_evidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evidence-key", metavar="FILE", help="the site's evidence key (PEM)")


def evidence(args: argparse.Namespace) -> "EvidenceKey | None":
    """Return the evidence key that is named, if one is."""
    from patrolink.evidence import evidence_key

    return evidence_key.load(Path(args.evidence_key)) if args.evidence_key else None


def verdicts(args: argparse.Namespace) -> "list[DeviceVerdict]":
    """Return the verdicts on what PLACE holds; a clip alone is linked to those beside it, and told alone."""
    from patrolink.evidence import source, verify

    place = source.Place(Path(args.place), args.signers)
    key = evidence(args)
    return [verify.device(device, place.signers, key, place.clip and {place.clip}) for device in place.devices]


def tell(found: "Verdict") -> None:
    """Say on standard error what was found of a clip."""
    from patrolink.evidence.findings import plain

    for it in found.findings:
        print(f"{found.name}: {it.grade}: {plain(it.where)}: {plain(it.words)}", file=sys.stderr)


def code_of(found: Iterable[str], strict: bool = False) -> int:
    """Return the exit code of verdicts: 1 when a clip proves nothing, with `strict` when something is missing too."""
    from patrolink.evidence.findings import GAPS, VALID

    told = set(found)
    if not told:
        raise UserError("there is no clip; name a folder that holds some")
    return 0 if told <= ({VALID} if strict else {VALID, GAPS}) else 1
