"""Bring up an emulated Pico: boot ROM, UF2, MicroPython, agent image in a slot, agent ready.

usage: python -m patrolink.emulator.boards.pico PLATFORM AGENT [CONFIG]

PLATFORM and AGENT are the images of `make image BOARD=rpi_pico TRUST=...`, written by the methods `uf2` and `serial` of
`patrolink flash`; the agent image must be signed. CONFIG is a device configuration (JSON), by default one for the
wiring of the board with the key 00...00. A line for each step has CPU time and emulated time; the console follows.
Exit code: 0 when the agent is ready, 2 for a bad image, 3 or 4 if the board fails.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.emulator.boards.pico.bring_up import BringUp


def main() -> int:
    """Carry out the steps; return the exit code."""
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    start = time.process_time()
    try:
        config = _config(Path(sys.argv[3])) if len(sys.argv) == 4 else None
        bring_up = BringUp(Path(sys.argv[1]), Path(sys.argv[2]), config)
        for step in bring_up.steps():
            print(f"{time.process_time() - start:6.1f} s CPU {bring_up.emulated_s:6.2f} s emulated  {step}", flush=True)
    except OSError as e:
        notes.error(f"{e.filename}: {e.strerror}; give an image file")
        return 2
    except UserError as e:
        notes.error(str(e))
        return e.exit_code
    print(bring_up.console_text)
    return 0


def _config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: no device configuration ({e}); give a file in JSON") from None
    return config


if __name__ == "__main__":
    sys.exit(main())
