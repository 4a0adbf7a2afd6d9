"""Run P-256 on MicroPython for tests/support/p256_calls.py.

Reads one JSON list of calls per line; a call is [name of a function of compat.p256, arguments in hexadecimal]. Prints a
JSON list of the results for each line. If a function raises a ValueError, its message is the result.
"""

import json
import sys
from binascii import hexlify, unhexlify

FOLDER = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for folder in ("/../../../device", "/../../../protocol", "/../../../protocol/generated"):
    sys.path.insert(0, FOLDER + folder)

from compat import p256  # noqa: E402
from compat.steps import run_to_completion  # noqa: E402


def result(name, *args):
    try:
        value = run_to_completion(getattr(p256, name)(*[unhexlify(text) for text in args]))
    except ValueError as e:
        return str(e)
    return value if isinstance(value, bool) else hexlify(value).decode()


for line in sys.stdin:
    print(json.dumps([result(*call) for call in json.loads(line)]))
