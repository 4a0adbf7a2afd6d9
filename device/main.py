"""Boot a board: read its configuration, build the parts, run until the power button.

usage: <runtime> device/main.py CONFIG.json
"""

import json
import sys

HERE = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for room in ("", "/../protocol", "/../protocol/generated", "/../build/device-lib"):
    sys.path.insert(0, HERE + room)

from config import ConfigError, load_config  # noqa: E402


def main(path):
    """Return the exit code: 0 after the power button, 2 for a bad configuration, 3 for lost state.

    hal.reset ends the process with 5: whatever holds the board starts it anew.
    """

    def log(text):
        print(text, file=sys.stderr)

    try:
        config = load_config(path)
    except ConfigError as e:
        log("error: %s" % e)
        return 2
    # Compiling a module takes several times what it then holds: the largest one comes while the heap is empty.
    if config.get("modem"):
        import agent.modem.driver  # noqa: F401
    from agent.counter import StateLost
    from assembly import Device
    from hal import posix as hal

    try:
        device = Device(config, hal, log)
    except (ConfigError, StateLost) as e:
        log("error: %s" % e)
        return 3 if isinstance(e, StateLost) else 2
    device.run()
    print(json.dumps(device.summary()))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    try:
        code = main(sys.argv[1])
    except Exception as e:
        if not hasattr(sys, "print_exception"):
            raise
        sys.print_exception(e, sys.stderr)  # MicroPython would put it among the data
        code = 1
    sys.exit(code)
