"""Run a hub: floor control, voice relay, recorder and console for the talk groups of a site.

SITE is a site.toml (--example prints one). The hub announces groups to devices through the broker, receives floor
control and voice on two UDP ports, records every burst, and serves the console with /metrics and /status. It prints a
line when it is ready. Ctrl-C or SIGTERM ends it and prints its counters, with --json as JSON.
"""

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.posix import require_posix
from patrolink.core.progress import Progress

EXAMPLES = (
    "patrolink hub --example > site.toml",
    "patrolink hub site.toml --check",
    "patrolink hub site.toml",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("site", nargs="?", metavar="SITE", help="the site file")
    parser.add_argument("--shard", type=int, metavar="N", help="shard of this hub, if the site has several")
    parser.add_argument("--pcap", metavar="FILE", help="write the decrypted floor messages for Wireshark")
    parser.add_argument("--check", action="store_true", help="check the site file and its keys, then exit")
    parser.add_argument("--example", action="store_true", help="print a site file")
    parser.add_argument(
        "--new-token", metavar="NAME", help="create a dispatcher's token; prints it with its entry for the site file"
    )
    parser.add_argument(
        "--new-evidence-key",
        metavar="FILE",
        help="create the key that decrypts clips: write it to FILE, print the public key",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from patrolink.hub import config

    if args.example:
        example = config.EXAMPLE.read_text(encoding="utf-8")
        if args.json:
            print_record("example", {"text": example})
        else:
            print(example, end="")
        return 0
    if args.new_token:
        return _new_token(args.new_token, args.json)
    if args.new_evidence_key:
        return _new_evidence_key(Path(args.new_evidence_key), args.json)
    if not args.site:
        raise UserError("no site file; name one (--example prints a sample)")
    if args.check:
        return _check(Path(args.site), args.shard, args.json)
    return _serve(args)


def _check(path: Path, shard: int | None, as_json: bool) -> int:
    from patrolink.hub import config

    site = config.HubContext(path, shard).site
    summary = {
        "site": site.name, "hubs": len(site.hub), "groups": len(site.group), "dispatchers": len(site.dispatcher),
    }  # fmt: skip
    if as_json:
        print_summary(summary)
    else:
        print(" ".join(f"{name}={value}" for name, value in summary.items()))
    return 0


def _new_token(name: str, as_json: bool) -> int:
    from patrolink.hub import config

    token = config.new_token()
    if as_json:
        print_record("token", {"dispatcher": name, "token": token, "token_sha256": config.token_hash(token)})
        return 0
    notes.note("token of the dispatcher, not stored anywhere:")
    print(token, flush=True)
    notes.note("\nentry for the site file:")
    notes.note(f'[[dispatcher]]\nname = {json.dumps(name)}\ntoken_sha256 = "{config.token_hash(token)}"')
    return 0


def _new_evidence_key(path: Path, as_json: bool) -> int:
    from patrolink.evidence import evidence_key

    public = evidence_key.create(path).public.hex()
    if as_json:
        print_record("evidence_key", {"file": str(path), "evidence_key": public})
        return 0
    notes.note(f"{path} decrypts the clips of devices; keep it secret, with a backup: without it no clip can be viewed")
    notes.note('"evidence_key" for "clips" in the configuration of each device:')
    print(public)
    return 0


def _serve(args: argparse.Namespace) -> int:
    require_posix("hub")
    from patrolink.hub.supervisor import serve

    def on_ready(facts: dict[str, Any]) -> None:
        starting.close()
        if args.json:
            print_record("ready", facts)
        else:
            print("hub is ready: " + " ".join(f"{name}={value}" for name, value in facts.items()), flush=True)

    try:
        with contextlib.ExitStack() as starting:
            starting.enter_context(Progress("hub: start"))
            counts = serve(Path(args.site), args.shard, Path(args.pcap) if args.pcap else None, on_ready)
    except OSError as e:
        if e.filename is None:
            raise
        raise UserError(f"{e.filename}: {e.strerror}; choose a writable location") from None
    if args.json:
        print_summary(counts)
    else:
        print("\n".join(f"{name}: {value}" for name, value in counts.items()))
    return 0
