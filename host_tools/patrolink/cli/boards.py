"""List the boards: features, how each is emulated, and which packages are missing for that on this machine.

For a board that is not emulated, the list shows the part of a device's configuration that its pins determine.
"""

import argparse
import json

from patrolink.core import boards
from patrolink.core.json_lines import print_record, print_summary

EXAMPLES = (
    "patrolink boards",
    "patrolink boards --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments: none."""


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    listed = [boards.find(name) for name in boards.names()]
    if args.json:
        for board in listed:
            print_record("board", _fields(board))
        print_summary({"boards": len(listed)})
        return 0
    for board in listed:
        heap = f", {board.heap_kb} KiB heap" if board.heap_kb else ""
        print(f"{board.name}: {board.title} ({board.runtime}{heap})")
        print(f"  features: {' '.join(board.features)}")
        print(f"  emulated: {board.emulated or f'no; {board.run}'}")
        if board.wiring:
            print(f"  configuration: {json.dumps(board.config())}")
        if board.install_commands():
            print(f"  missing: {'; '.join(board.install_commands())}")
    return 0


def _fields(board: boards.Board) -> dict[str, object]:
    return {
        "board": board.name,
        "title": board.title,
        "runtime": board.runtime,
        "run": board.run,
        "features": board.features,
        "emulated": board.emulated,
        "config": board.config(),
        "missing": board.install_commands(),
        "settings": board.model_dump(exclude={"name", "title", "runtime", "run", "features", "wiring"}),
    }
