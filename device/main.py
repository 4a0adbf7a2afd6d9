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
        # Compiling a module takes several times what it then holds: the largest one comes while the heap is empty.
        if config.get("modem"):
            import agent.modem.driver  # noqa: F401
        from agent.counter import StateLost
        from assembly import Device
        from hal import posix as hal
    except ConfigError as e:
        log("error: %s" % e)
        return 2
    try:
        device = Device(config, hal, log)
    except ConfigError as e:
        log("error: %s" % e)
        return 2
    except StateLost as e:
        log("error: %s" % e)
        return 3
    device.run()
    print(json.dumps(device.summary()))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
