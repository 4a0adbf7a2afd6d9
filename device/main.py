"""Boot a board that is a process.

usage: <runtime> device/main.py CONFIG.json

Exit code: 0 after the power button, 1 after a bug, 2 for a bad configuration, 3 for lost state, 5 when the board wants
to be started anew.
"""

import sys

HERE = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for room in ("", "/../protocol", "/../protocol/generated", "/../build/device-lib"):
    sys.path.insert(0, HERE + room)

from app.start import start  # noqa: E402


def log(text):
    print(text, file=sys.stderr)


def platform():
    from hal.posix import platform as posix

    return posix


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    try:
        code = start(sys.argv[1], platform, log)
    except Exception as e:
        if not hasattr(sys, "print_exception"):
            raise
        sys.print_exception(e, sys.stderr)  # MicroPython would put it among the data
        code = 1
    sys.exit(code)
