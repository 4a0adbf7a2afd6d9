"""Make of clips what others play and read: a film with subtitles, the track, a contact sheet and an evidence sheet.

H.264 is copied bit for bit, JPEG pictures are encoded anew; each picture keeps its time. The verdict and the hash of
each file are written beside them; in the end all files of a clip are there, or none. A clip that is tampered with or
unverifiable is refused, or exported with --anyway: then its sheets say so, and the exit code is 1. What is altered is
never shown.
"""

import argparse
import contextlib
import getpass
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.cli import clip
from patrolink.core.errors import UserError

if TYPE_CHECKING:
    from patrolink.evidence.evidence_key import EvidenceKey

HELP = "make a film, a track and an evidence sheet of clips"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    clip.add_place(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder that the files go to")
    parser.add_argument("--by", metavar="NAME", help="who exports, for the sheet (default: the user here)")
    parser.add_argument("--anyway", action="store_true", help="also what is tampered with or unverifiable")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    from patrolink.evidence import export, export_bundle

    evidence, folder, made = key(args), Path(args.out), []
    found = [one for device in clip.verdicts(args) for one in device.clips]
    code = clip.code_of(one.verdict for one in found)
    for one in found:
        export.refuse(one, args.anyway)
        export_bundle.free(one, folder)
    who = args.by or _user()
    for one in found:
        try:
            with progress(args.quiet, one.name) as told:
                out = export_bundle.make(one, evidence, folder, who, time.time_ns() // 1_000_000, told)
        except export.Unshown as e:
            if len(found) == 1:
                raise
            # The others are worth having.
            code = 1
            made.append(one.facts())
            print(e, file=sys.stderr)
        else:
            made.append(export.facts(out))
            if not args.json:
                print(line(made[-1]), *out.files, sep="\n  ")
        clip.tell(one)
    if args.json:
        print(json.dumps(made))
    return code


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user has no name
        raise UserError("this system has no name for you; say with --by NAME who exports") from None


def key(args: argparse.Namespace) -> "EvidenceKey":
    """Return the evidence key; UserError when none is named."""
    evidence = clip.evidence(args)
    if evidence is None:
        raise UserError("clips are encrypted; give the site's evidence key with --evidence-key FILE")
    return evidence


def line(facts: dict[str, object]) -> str:
    """Return what was shown of a clip, for people."""
    from patrolink.evidence.findings import plain

    return plain(
        "{device} clip {clip}: {verdict}; {trigger}, pictures: {frames} in {seconds:.1f} s, "
        "positions: {positions}".format(seconds=int(str(facts["duration_ms"])) / 1000, **facts)
    )


@contextlib.contextmanager
def progress(quiet: bool, name: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that tells how far it is, on standard error when that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(name)
        yield lambda done, total: bar.update(task, completed=done, total=total)
