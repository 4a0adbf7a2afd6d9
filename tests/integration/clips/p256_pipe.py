"""Run P-256 on MicroPython for test_p256.py.

Reads one JSON list [private, peer's public, digest] in hexadecimal per line. Prints [public, shared secret, signature]
for each line. If a function raises a ValueError, its message replaces the result.
"""

import json
import sys
from binascii import hexlify, unhexlify

FOLDER = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for folder in ("/../../../device", "/../../../protocol", "/../../../protocol/generated"):
    sys.path.insert(0, FOLDER + folder)

from compat import p256  # noqa: E402
from compat.steps import run_to_completion  # noqa: E402


def result(function, *args):
    try:
        return hexlify(run_to_completion(function(*args))).decode()
    except ValueError as e:
        return str(e)


for line in sys.stdin:
    private, peer, digest = [unhexlify(text) for text in json.loads(line)]
    public = result(p256.derive_public_key, private)
    shared = result(p256.derive_shared_secret, private, peer)
    print(json.dumps([public, shared, result(p256.sign, private, digest)]))
