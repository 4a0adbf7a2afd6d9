"""Runs every `test_` function of tests/unit on this interpreter; started by CPython, it runs itself on MicroPython.

python tests/parity.py              runs itself on MicroPython and returns its exit code
micropython tests/parity.py         runs the tests; the last line is "N passed, N failed"
"""

import gc
import os
import sys

HERE = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
FOLDERS = ("/unit", "/../device", "/../protocol", "/../protocol/generated", "/../build/device-lib")
HEAP = "48M"  # for the data of the tests; the heap of the agent is measured on boards


def run():
    """Run all tests and return the number of failures."""
    for folder in FOLDERS:
        sys.path.insert(0, HERE + folder)
    passed = failed = 0
    for name in sorted(os.listdir(HERE + "/unit")):
        if not (name.startswith("test_") and name.endswith(".py")):
            continue
        module = __import__(name[:-3])
        for test in sorted(dir(module)):
            function = getattr(module, test)
            if not test.startswith("test_") or not callable(function):
                continue
            gc.collect()  # the garbage of the previous test could leave no space for a large buffer
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
