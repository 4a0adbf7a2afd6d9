"""Runs every `test_` function of tests/unit on MicroPython.

python tests/parity.py              starts MicroPython with this script and returns its exit code
micropython tests/parity.py         runs the tests; the last line is "N passed, N failed"
"""

import gc
import os
import sys

FOLDER = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
SEARCH_PATH = ("/unit", "/../device", "/../protocol", "/../protocol/generated", "/../build/device-lib")
HEAP = "48M"  # sized for the data of the tests; boards measure the heap of the agent


def run():
    """Run all tests and return the number of failures."""
    for folder in SEARCH_PATH:
        sys.path.insert(0, FOLDER + folder)
    passed = failed = 0
    for name in sorted(os.listdir(FOLDER + "/unit")):
        if not (name.startswith("test_") and name.endswith(".py")):
            continue
        module = __import__(name[:-3])
        for test in sorted(dir(module)):
            function = getattr(module, test)
            if not test.startswith("test_") or not callable(function):
                continue
            gc.collect()  # frees a contiguous block for large buffers
            try:
                function()
                passed += 1
            except Exception as e:
                failed += 1
                print("FAILED %s::%s" % (name, test))
                if hasattr(sys, "print_exception"):
                    sys.print_exception(e)
                else:
                    print("%s: %s" % (type(e).__name__, e))
    print("%d passed, %d failed" % (passed, failed))
    return failed


def main():
    if sys.implementation.name == "micropython":
        return 1 if run() else 0
    import shutil
    import subprocess

    adjacent = os.path.join(os.path.dirname(sys.executable), "micropython")
    micropython = adjacent if os.path.exists(adjacent) else shutil.which("micropython")
    if micropython is None:
        print("skipped: no micropython next to this Python or on PATH", file=sys.stderr)
        return 4
    return subprocess.call([micropython, "-X", "heapsize=" + HEAP, __file__])


if __name__ == "__main__":
    sys.exit(main())
