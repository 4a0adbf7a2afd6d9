"""Imports the unmodified umqtt.simple on MicroPython and on CPython, which lacks the u-modules that it imports."""

import sys


def load():
    """Return the umqtt.simple module.

    Raises:
        ImportError: the module is not installed.
    """
    for old, new in (("usocket", "socket"), ("ustruct", "struct"), ("ubinascii", "binascii")):
        try:
            __import__(old)
        except ImportError:
            try:
                sys.modules[old] = __import__(new)
            except ImportError:
                sys.modules[old] = sys  # no network stack: the session replaces the socket module of umqtt by its own
    try:
        from umqtt import simple
    except ImportError:
        raise ImportError("umqtt.simple is not on sys.path; run `make device-lib`")
    return simple
