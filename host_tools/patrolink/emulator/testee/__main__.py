"""Run our own agent as a testee of `patrolink validate`.

usage: python -m patrolink.emulator.testee init BOARD FOLDER      a new device: FOLDER/keys.toml, and its firmware
       python -m patrolink.emulator.testee pipe BOARD FOLDER [CUT]
                                                                  linux, mps2_an385: on a pipe, with a virtual clock
       python -m patrolink.emulator.testee broker BOARD FOLDER    any emulated board: at a broker, in real time
       python -m patrolink.emulator.testee image BOARD FOLDER     write a new signed image for BOARD to standard output

FOLDER holds the state of the device, its console.log, and the FIFO `buttons`, which takes names of buttons (sos), one
per line. A file settings.json in it adds to the configuration of the device on a pipe. CUT, for firmware, is a
number of flash operations: in the next one the power is cut, and comes back after a second. `broker` prints the target
for the kit when the device has its session, writes it to FOLDER/target, and runs until it is ended. Its FIFO takes
`restart`, too, and after each line a line comes from the FIFO `done`.
Exit code: 0 when the kit has closed the pipe, or after a stop signal, 2 for a wrong argument.
"""

import shutil
import signal
import sys
from pathlib import Path

from patrolink.core import boards, keys, notes
from patrolink.core.errors import UserError
from patrolink.emulator.testee.kit_pipe import KitGoneError

DEVICE = "testee"


def _init(name: str, folder: Path) -> None:
    keys.create(folder / "keys.toml", DEVICE)
    board = boards.find(name)
    if board.image is not None:
        from patrolink.emulator.boards import qemu
        from patrolink.emulator.testee.virtual_firmware import FIRMWARE

        shutil.copy(qemu.build_image(board), folder / FIRMWARE)


def _pipe(name: str, folder: Path, cut: int = -1) -> None:
    key = keys.load(folder / "keys.toml")[DEVICE]
    pipe = sys.stdin.fileno(), sys.stdout.fileno()
    board = boards.find(name)
    if board.image is not None:
        from patrolink.emulator.testee.virtual_firmware import VirtualFirmware

        VirtualFirmware(board, folder, DEVICE, key, *pipe, cut).run()
    elif board.runtime == "cpython":
        from patrolink.emulator.testee.virtual_agent import VirtualAgent

        VirtualAgent(folder, DEVICE, key, *pipe).run()
    else:
        raise UserError(f"{name}: this board has no virtual clock; test it at a broker")


def _image(name: str, folder: Path) -> None:
    from patrolink.emulator.testee.update_slots import next_image

    sys.stdout.buffer.write(next_image(folder, boards.find(name).name))


def _broker(name: str, folder: Path) -> None:
    from patrolink.emulator.testee.broker_site import BrokerSite

    key = keys.load(folder / "keys.toml")[DEVICE]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    site = BrokerSite(boards.find(name), folder, DEVICE, key)
    try:
        (folder / "target").write_text(site.target + "\n", encoding="ascii")
        print(site.target, flush=True)
        while True:
            site.step()
    finally:
        site.close()


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    try:
        if len(arguments) == 3 and arguments[0] == "init":
            _init(arguments[1], Path(arguments[2]))
        elif len(arguments) == 3 and arguments[0] == "broker":
            _broker(arguments[1], Path(arguments[2]).absolute())
        elif len(arguments) == 3 and arguments[0] == "image":
            _image(arguments[1], Path(arguments[2]))
        elif len(arguments) in (3, 4) and arguments[0] == "pipe":
            _pipe(arguments[1], Path(arguments[2]).absolute(), *map(int, arguments[3:]))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except (KitGoneError, KeyboardInterrupt):
        return 0
    except UserError as e:
        notes.error(str(e))
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
