"""Run our own agent as a testee of `patrolink validate`.

usage: python -m patrolink.emulator.testee init FOLDER      create FOLDER/keys.toml, the key of a new device
       python -m patrolink.emulator.testee pipe BOARD FOLDER

`pipe` runs the agent of BOARD on a pipe with a virtual clock: linux. FOLDER holds its state, its console.log, and the
FIFO `buttons`, which takes names of buttons, such as sos, one per line.
Exit code: 0 when the kit has closed the pipe, 2 for a wrong argument.
"""

import sys
from pathlib import Path

from patrolink.core import keys, notes
from patrolink.core.errors import UserError
from patrolink.emulator.testee.kit_pipe import KitGoneError

DEVICE = "testee"


def _pipe(board: str, folder: Path) -> None:
    key = keys.load(folder / "keys.toml")[DEVICE]
    if board != "linux":
        raise UserError(f"{board}: this board has no virtual clock; it is tested at a broker")
    from patrolink.emulator.testee.virtual_agent import VirtualAgent

    VirtualAgent(folder, DEVICE, key, sys.stdin.fileno(), sys.stdout.fileno()).run()


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    try:
        if len(arguments) == 2 and arguments[0] == "init":
            keys.create(Path(arguments[1]) / "keys.toml", DEVICE)
        elif len(arguments) == 3 and arguments[0] == "pipe":
            _pipe(arguments[1], Path(arguments[2]))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except KitGoneError:
        return 0
    except UserError as e:
        notes.error(str(e))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
