"""P-256 on MicroPython, run by test_p256.py: a JSON list [private, other public, digest] a line, in hexadecimal.

For each it answers [public, shared secret, signature], or the text of the ValueError in its place.
"""

import json
import sys
from binascii import hexlify, unhexlify

HERE = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for room in ("/../../../device", "/../../../protocol", "/../../../protocol/generated"):
    sys.path.insert(0, HERE + room)

from compat import p256  # noqa: E402
from compat.steps import whole  # noqa: E402


def made(function, *given):
    try:
        return hexlify(whole(function(*given))).decode()
    except ValueError as e:
        return str(e)


for line in sys.stdin:
    private, other, digest = [unhexlify(text) for text in json.loads(line)]
    print(json.dumps([made(p256.public, private), made(p256.agree, private, other), made(p256.sign, private, digest)]))
