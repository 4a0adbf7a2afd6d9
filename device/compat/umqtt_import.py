"""Import the unmodified umqtt.simple on MicroPython and on CPython, which lacks the u-names it asks for."""

import sys


def load():
    """Return the umqtt.simple module. ImportError tells how to get it."""
    for old, new in (("usocket", "socket"), ("ustruct", "struct"), ("ubinascii", "binascii")):
        try:
            __import__(old)
        except ImportError:
            try:
                sys.modules[old] = __import__(new)
            except ImportError:
                sys.modules[old] = sys  # no network stack: what umqtt finds here, the session puts its facade over
    try:
        from umqtt import simple
    except ImportError:
        raise ImportError("umqtt.simple is not on sys.path; run `make device-lib`")
    return simple
