"""Measure the verification of a signature on the board. bench_image.py enters the import at the board's prompt.

bench_image.py prepends CASES to this file: valid signatures as [public key, digest, signature] in hexadecimal. Prints
one line of JSON, the cycles of all steps and of the longest step of each verification, and powers the board off.
"""

import gc
import json
from binascii import unhexlify
from time import ticks_cpu, ticks_diff

import machine
from compat import p256


def cycles_of(public, digest, signature):
    """Return the cycles of a verification and of its longest step; the signature has to be valid."""
    total = longest = 0
    gc.collect()
    steps = p256.verify(public, digest, signature)
    while True:
        start = ticks_cpu()
        try:
            next(steps)
            valid = None
        except StopIteration as e:
            valid = e.value
        cycles = ticks_diff(ticks_cpu(), start)
        total += cycles
        longest = max(longest, cycles)
        if valid is not None:
            assert valid
            return total, longest


print(json.dumps([cycles_of(*[unhexlify(part) for part in case]) for case in CASES]))  # noqa: F821 - of bench_image.py
machine.deepsleep()
