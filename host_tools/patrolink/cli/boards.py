"""List the boards: what each can do, how it is emulated, and whether the tools for that are installed."""

import argparse
import json

from patrolink import boards

HELP = "list boards, and what is missing to emulate them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(args: argparse.Namespace) -> int:
    known = [boards.find(name) for name in boards.names()]
    if args.json:
        print(json.dumps([{**b.model_dump(), "emulated": b.emulated, "missing": b.missing()} for b in known]))
        return 0
    for board in known:
        heap = f", {board.heap_kb} KiB heap" if board.heap_kb else ""
        print(f"{board.name}: {board.title} ({board.runtime}{heap})")
        print(f"  features: {' '.join(board.features)}")
        missing = board.missing()
        print(f"  emulated: {board.emulated}" + (f"; apt-get install {' '.join(missing)}" if missing else ""))
    return 0
