"""Start the agent on a board that is a process.

usage: <runtime> device/main.py CONFIG.json

Exit code: 0 after the power button, 1 after a bug, 2 for a bad configuration, 3 for lost state, 5 when the board asks
for a reset: start the agent again.
"""

import sys

FOLDER = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for folder in ("", "/../protocol", "/../protocol/generated", "/../build/device-lib"):
    sys.path.insert(0, FOLDER + folder)

from app.start import start  # noqa: E402  # after sys.path is set


def log(text):
    """Write a line of the log."""
    print(text, file=sys.stderr)


def load_platform():
    """Return the platform module."""
    from hal.posix import platform

    return platform


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    try:
        code = start(sys.argv[1], load_platform, log)
    except Exception as e:
        if not hasattr(sys, "print_exception"):
            raise
        sys.print_exception(e, sys.stderr)  # MicroPython would print it on standard output
        code = 1
    sys.exit(code)
