"""List the boards: what each can do, how it is emulated, and what is missing on this machine for that.

For a board that is not emulated, what the configuration of a device has to say about its pins.
"""

import argparse
import json

from patrolink.core import boards

HELP = "list boards, and what is missing to run them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(args: argparse.Namespace) -> int:
    known = [boards.find(name) for name in boards.names()]
    if args.json:
        print(json.dumps([_told(board) for board in known]))
        return 0
    for board in known:
        heap = f", {board.heap_kb} KiB heap" if board.heap_kb else ""
        print(f"{board.name}: {board.title} ({board.runtime}{heap})")
        print(f"  features: {' '.join(board.features)}")
        print(f"  emulated: {board.emulated or f'no; {board.run}'}")
        if board.wiring:
            print(f"  configuration: {json.dumps(board.config())}")
        if board.install_commands():
            print(f"  missing: {'; '.join(board.install_commands())}")
    return 0


def _told(board: boards.Board) -> dict[str, object]:
    more = {"emulated": board.emulated, "config": board.config(), "missing": board.install_commands()}
    return {**board.model_dump(exclude={"wiring"}), **more}
