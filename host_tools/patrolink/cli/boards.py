"""List the boards: features, how each is emulated, and which packages are missing for that on this machine.

For a board that is not emulated, the list shows the part of a device's configuration that its pins determine.
"""

import argparse
import json

from patrolink.core import boards

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
        print(json.dumps([_summary(board) for board in listed]))
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


def _summary(board: boards.Board) -> dict[str, object]:
    computed = {"emulated": board.emulated, "config": board.config(), "missing": board.install_commands()}
    return {**board.model_dump(exclude={"wiring"}), **computed}
