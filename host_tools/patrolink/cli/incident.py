"""Press SOS on an emulated board with a camera: the film begins before the button, goes to a hub, and is verified.

Broker, hub, agent, encoder and cipher are real; the receiver's track, the film before the lens (--film, by default that
of `make media`) and the sound are played. --out keeps the hub's clips, the evidence key, and the exported film with its
evidence sheet and contact sheet. Exit code 1 when the clip is not valid or does not begin before the button.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from patrolink.core import resources
from patrolink.core.errors import UserError
from patrolink.core.signals import StopSignal

HELP = "let an emulated device film an SOS, and verify and export the clip"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", default="linux", help="board with a camera (default linux)")
    parser.add_argument("--film", metavar="FILE", help="a video file, before the camera's lens")
    parser.add_argument("--pre", type=int, default=8, metavar="S", help="seconds kept from before the button")
    parser.add_argument("--post", type=int, default=8, metavar="S", help="seconds filmed after it")
    parser.add_argument("--network", default="city", metavar="PROFILE", help="of a board with a modem only")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the network")
    parser.add_argument("--out", metavar="DIR", help="leave the results there")


def run(args: argparse.Namespace) -> int:
    from patrolink.emulator.network.carrier import PROFILES
    from patrolink.emulator.scenarios import incident

    if args.network not in PROFILES:
        raise UserError(f"--network {args.network}: {', '.join(PROFILES)}")
    if not 0 <= args.pre <= 60 or not 1 <= args.post <= 60:
        raise UserError("--pre has to be from 0 to 60, --post from 1 to 60")
    with contextlib.ExitStack() as stack:
        out = Path(args.out or stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-incident-"))).resolve()
        film = Path(args.film) if args.film else resources.demo_video()
        plan = incident.Plan(args.board, film, args.pre, args.post, PROFILES[args.network], args.seed, out)
        it = incident.Incident(plan, stack)
        if not args.json:
            print(f"{it.name} films; the button in {args.pre + 2 * incident.SEGMENT_S} s", file=sys.stderr)
        try:
            summary = it.run()
        except StopSignal as e:
            print(f"{it.name}: stopped by {e} before the hub verified the clip", file=sys.stderr)
            if args.json:
                print(json.dumps({"board": args.board, "device": it.name, "verdict": None}))
            raise
        if args.out:
            summary["exported"] = _export(it.folder, it.key, out / "export")
            (out / "incident.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if args.json:
        print(json.dumps(summary))
    else:
        print(
            "{device}: {frames} frames, {lost} lost, {seconds} s from {before_s} s before the button, {bytes} bytes; "
            "{verdict} {verified_s} s after the button".format(**summary)
        )
        if args.out:
            print(f"results are in {args.out}")
    return 0 if summary["verdict"].startswith("valid") and summary["before_s"] >= args.pre else 1


def _export(folder: Path, key: Path, out: Path) -> list[str]:
    """Export the clip and return the names of what was made."""
    from patrolink.evidence import evidence_key, export_bundle, verify

    evidence = evidence_key.load(key)
    shutil.rmtree(out, ignore_errors=True)
    found = verify.clip(folder, verify.signers(folder.parent.parent / "signers.toml"), evidence)
    made = export_bundle.make(found, evidence, out, "incident", time.time_ns() // 1_000_000, lambda done, of: None)
    return [path.name for path in made.files]
