"""Record an SOS on an emulated board with a camera, from before the button press to the hub's verdict.

Broker, hub, agent, encoder and encryption are real; the receiver's track, the film for the camera (--film, by default
the one of `make media`, else a test pattern) and the sound are played. --out keeps the hub's clips, the evidence key,
and the exported film with evidence sheet and contact sheet. The exit code is 1 when the clip is not valid or does not
begin before the button press.
"""

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from pathlib import Path

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_summary
from patrolink.core.posix import require_posix
from patrolink.core.progress import Progress
from patrolink.core.signals import StopSignal
from patrolink.core.text import plural

EXAMPLES = (
    "patrolink incident --out build/sos",
    "patrolink incident --board unix --film street.mp4",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("--board", default="linux", help="board with a camera (default linux)")
    parser.add_argument("--film", metavar="FILE", help="a video file for the camera")
    parser.add_argument("--pre", type=int, default=8, metavar="S", help="seconds kept from before the button press")
    parser.add_argument("--post", type=int, default=8, metavar="S", help="seconds recorded after it")
    parser.add_argument("--network", default="city", metavar="PROFILE", help="network of a board with a modem")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the network")
    parser.add_argument("--out", metavar="DIR", help="keep the results in this folder")


def run(args: argparse.Namespace) -> int:
    """Run the scenario and print the result."""
    require_posix("incident")
    from patrolink.emulator.network.carrier import PROFILES
    from patrolink.emulator.peripherals.film import default_film
    from patrolink.emulator.scenarios import incident

    if args.network not in PROFILES:
        raise UserError(f"--network {args.network}: unknown profile; choose from {', '.join(PROFILES)}")
    if not 0 <= args.pre <= 60 or not 1 <= args.post <= 60:
        raise UserError("--pre must be from 0 to 60, --post from 1 to 60")
    with contextlib.ExitStack() as stack:
        out = Path(
            args.out or stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-incident-"))
        ).absolute()
        film = Path(args.film) if args.film else default_film()
        plan = incident.Plan(args.board, film, args.pre, args.post, PROFILES[args.network], args.seed, out)
        scenario = incident.Incident(plan, stack)
        notes.note(f"{scenario.name} starts; the button is pressed {args.pre + 2 * incident.SEGMENT_S} s later")
        try:
            with Progress(f"incident on {args.board}"):
                summary = scenario.run()
        except StopSignal as e:
            notes.warn(f"{scenario.name}: stopped by {e} before the hub verified the clip")
            if args.json:
                print_summary({"board": args.board, "device": scenario.name, "verdict": None})
            raise
        if args.out:
            summary["files"] = _export(scenario.folder, scenario.key, out / "export")
            (out / "incident.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if args.json:
        print_summary(summary)
    else:
        print(
            f"{summary['device']}: {plural(summary['pictures'], 'picture')}, {summary['pictures_lost']} lost, "
            f"{summary['duration_s']} s from {summary['before_s']} s before the button press, "
            f"{plural(summary['bytes'], 'byte')}; {summary['verdict']} {summary['verified_s']} s after the button press"
        )
        if args.out:
            print(f"the results are in {args.out}")
    return 0 if summary["verdict"].startswith("valid") and summary["before_s"] >= args.pre else 1


def _export(folder: Path, key_path: Path, out: Path) -> list[str]:
    """Export the clip and return the names of the files."""
    from patrolink.evidence import evidence_key
    from patrolink.evidence.clip_folders import SIGNERS_FILE, read_signers
    from patrolink.evidence.export_bundle import write_bundle
    from patrolink.evidence.verify import verify_clip

    key = evidence_key.load(key_path)
    shutil.rmtree(out, ignore_errors=True)
    result = verify_clip(folder, read_signers(folder.parent.parent / SIGNERS_FILE), key)
    bundle = write_bundle(result, key, out, "incident", time.time_ns() // 1_000_000, lambda done, total: None)
    return [path.name for path in bundle.files]
