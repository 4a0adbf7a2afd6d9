"""Clips of devices as evidence: list, fetch, verify, export, show.

PLACE is a folder: of one clip, of a device, or of a site's clips, as the hub keeps them. The evidence key is needed to
look inside; hashes, chain and signatures are verified without it. Exit code 1 tells of a clip that is tampered with or
unverifiable, with --strict of gaps too.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.errors import UserError

if TYPE_CHECKING:
    from patrolink.clips.keys import EvidenceKey
    from patrolink.clips.verify import DeviceVerdict, Verdict

HELP = "list, fetch, verify, export and show clips"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="what to do", metavar="WHAT", required=True)
    verify = _verb(verbs, "verify", _verify, "tell whether clips are what devices recorded")
    verify.add_argument("place", metavar="PLACE", help="folder of a clip, of a device, or of a site's clips")
    verify.add_argument("--strict", action="store_true", help="exit code 1 for gaps too")
    _keys(verify)


def _verb(verbs: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text.capitalize() + ".")
    verb.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="results as JSON on standard output"
    )
    verb.set_defaults(what=run)
    return verb


def _keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evidence-key", metavar="FILE", help="the site's evidence key (PEM)")
    parser.add_argument("--signers", metavar="FILE", help="the devices' public keys (default: signers.toml of PLACE)")


def run(args: argparse.Namespace) -> int:
    code: int = args.what(args)
    return code


def _evidence(args: argparse.Namespace) -> "EvidenceKey | None":
    from patrolink.clips import keys

    return keys.load(Path(args.evidence_key)) if args.evidence_key else None


def _verdicts(args: argparse.Namespace) -> "list[DeviceVerdict]":
    """Return the verdicts on what PLACE holds; a clip alone is linked to those beside it, and told alone."""
    from patrolink.clips import source, verify

    place = source.Place(Path(args.place), args.signers)
    evidence = _evidence(args)
    return [verify.device(device, place.signers, evidence, place.clip) for device in place.devices]


def _verify(args: argparse.Namespace) -> int:
    found = _verdicts(args)
    if args.json:
        print(json.dumps([one.facts() for device in found for one in device.clips]))
    for device in found if not args.json else ():
        for one in device.clips:
            print(f"{device.device} clip {one.number}: {one.verdict}{_depth(one)}")
    for device in found:
        _tell(device)
    return code_of([one.verdict for device in found for one in device.clips], args.strict)


def _depth(one: "Verdict") -> str:
    facts = f"{len(one.manifest.segments)} segments"
    return f" ({facts}; {'looked inside' if one.looked_inside else 'hashes, chain and signature only'})"


def _tell(device: "DeviceVerdict") -> None:
    for one in device.clips:
        for it in one.findings:
            print(f"{device.device} clip {one.number}: {it.grade}: {it.where}: {it.words}", file=sys.stderr)


def code_of(verdicts: list[str], strict: bool) -> int:
    """Return the exit code: findings when a clip proves nothing, with `strict` when something is missing too."""
    from patrolink.clips.findings import GAPS, VALID

    if not verdicts:
        raise UserError("there is no clip; name a folder that holds some")
    right = {VALID} if strict else {VALID, GAPS}
    return 0 if set(verdicts) <= right else 1
