"""Run a hub: floor control, voice relay, recorder and console of a site's talk groups.

SITE is a site.toml (--example prints one). The hub tells devices their groups through the broker, takes their floor
control and voice on two UDP ports, records every burst, and serves the console's page with /metrics and /status. A line
on standard output says that it is up; Ctrl-C or SIGTERM ends it, and its counts are told: with --json as JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from patrolink.core.errors import UserError

HELP = "run floor control, voice relay, recorder and console of talk groups"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("site", nargs="?", metavar="SITE", help="the site file")
    parser.add_argument("--shard", type=int, metavar="N", help="which hub of the site this is, where there are several")
    parser.add_argument("--pcap", metavar="FILE", help="write the floor messages, in plain, for Wireshark")
    parser.add_argument("--check", action="store_true", help="check the site file and its keys, and end")
    parser.add_argument("--example", action="store_true", help="print a site file")
    parser.add_argument(
        "--new-token", metavar="NAME", help="make a dispatcher's token: print it, and what the site file needs"
    )
    parser.add_argument(
        "--new-evidence-key",
        metavar="FILE",
        help="make the key that reads clips: write it to FILE, print its public half",
    )


def run(args: argparse.Namespace) -> int:
    from patrolink.hub import config

    if args.example:
        print(config.EXAMPLE.read_text(encoding="utf-8"), end="")
        return 0
    if args.new_token:
        return _new_token(args.new_token, args.json)
    if args.new_evidence_key:
        return _new_evidence_key(Path(args.new_evidence_key), args.json)
    if not args.site:
        raise UserError("name a site file (--example prints one)")
    if args.check:
        it = config.HubContext(Path(args.site), args.shard).site
        told = {"site": it.name, "hubs": len(it.hub), "groups": len(it.group), "dispatchers": len(it.dispatcher)}
        print(json.dumps(told) if args.json else " ".join(f"{name}={value}" for name, value in told.items()))
        return 0
    return _serve(args)


def _new_token(name: str, as_json: bool) -> int:
    from patrolink.hub import config

    token = config.new_token()
    if as_json:
        print(json.dumps({"name": name, "token": token, "token_sha256": config.token_hash(token)}))
        return 0
    print("the token, told once; give it to the dispatcher:", file=sys.stderr)
    print(token)
    print("\nfor the site file:", file=sys.stderr)
    print(f'[[dispatcher]]\nname = {json.dumps(name)}\ntoken_sha256 = "{config.token_hash(token)}"', file=sys.stderr)
    return 0


def _new_evidence_key(path: Path, as_json: bool) -> int:
    from patrolink.evidence import evidence_key

    public = evidence_key.create(path).public.hex()
    if as_json:
        print(json.dumps({"file": str(path), "evidence_key": public}))
        return 0
    print(
        f"{path} reads what devices record: keep it, and a copy elsewhere. Without it no clip can be seen.",
        file=sys.stderr,
    )
    print('for the "clips" of every device\'s configuration, as "evidence_key":', file=sys.stderr)
    print(public)
    return 0


def _serve(args: argparse.Namespace) -> int:
    from patrolink.hub.app import serve

    # The relay's loop is not to wait long for the threads that write and publish.
    sys.setswitchinterval(0.0005)

    def ready(told: dict[str, Any]) -> None:
        text = "hub is up: " + " ".join(f"{name}={value}" for name, value in told.items())
        print(json.dumps({"ready": told}) if args.json else text, flush=True)

    try:
        counts = serve(Path(args.site), args.shard, Path(args.pcap) if args.pcap else None, ready)
    except OSError as e:
        if e.filename is None:
            raise
        raise UserError(f"{e.filename}: {e.strerror}; name a place that can be written") from None
    counts.pop("floors")
    print(json.dumps(counts) if args.json else "\n".join(f"{name}: {value}" for name, value in counts.items()))
    return 0
