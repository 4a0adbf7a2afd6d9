"""Paths of the device's rooms: tests run its code in place, as a board would find it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for room in ("", "build/device-lib", "device"):
    sys.path.insert(0, str(ROOT / room))
