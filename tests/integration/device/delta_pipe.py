"""Apply deltas on MicroPython for test_delta_runtimes.py.

Reads one JSON list per line: names of the files of base and payload, and the size of the new content. Prints the new
content's SHA-256 in hexadecimal, or the text of the DeltaError.
"""

import hashlib
import json
import sys
from binascii import hexlify

FOLDER = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for folder in ("/../../../device", "/../../../protocol", "/../../../protocol/generated"):
    sys.path.insert(0, FOLDER + folder)

from agent.update import delta  # noqa: E402
from compat.inflate import inflate  # noqa: E402
from compat.steps import run_to_completion  # noqa: E402


class Base:
    """Content of a base in memory."""

    def __init__(self, data):
        self._data = data
        self.size = len(data)

    def read_into(self, offset, view):
        view[:] = self._data[offset : offset + len(view)]


for line in sys.stdin:
    base, payload, size = json.loads(line)
    digest = hashlib.sha256()
    with open(base, "rb") as f:
        content = f.read()
    try:
        with open(payload, "rb") as f:
            run_to_completion(delta.apply_delta(Base(content), inflate(f), size, digest.update))
        print(hexlify(digest.digest()).decode())
    except delta.DeltaError as e:
        print(str(e))
