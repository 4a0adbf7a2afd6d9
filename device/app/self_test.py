"""Self-test over the console. `patrolink selftest` starts it from the raw REPL.

The host writes a line with the name of a part and an argument; the answer is a line of JSON after "=". The first such
line describes the board. `end` restarts it, and so does its watchdog when the host says nothing for _IDLE_MS.
"""

import binascii
import json
import os
import select
import sys

import machine
import platform_build
from agent.self_test import SelfTest, result
from app.config import load_config
from app.console import CONFIG, load_settings, load_watchdog
from app.errors import ConfigError
from hal.baremetal import platform

_IDLE_MS = 600_000  # an operator looks at the indicator
_LOOK_MS = 1000
_LINE_MAX = 80


class Console:
    """Lines from the host, while a watchdog is fed.

    Args:
        clock: The platform's Clock.
        watchdog: The platform's Watchdog.
    """

    def __init__(self, clock, watchdog):
        self._clock = clock
        self._watchdog = watchdog
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)

    def pause(self, ms):
        """Wait."""
        self._watchdog.feed()
        machine.idle()
        self._poll.poll(ms)

    def readline(self):
        """Return the next line without its end."""
        line = b""
        start_ms = self._clock.now_ms()
        while True:
            if self._clock.now_ms() - start_ms < _IDLE_MS:
                self._watchdog.feed()
            if not self._poll.poll(_LOOK_MS):
                continue
            byte = sys.stdin.buffer.read(1)
            if byte == b"\n":
                return line.decode()
            if byte != b"\r" and len(line) < _LINE_MAX:
                line += byte


def answer(fields):
    """Write an answer."""
    print("=" + json.dumps(fields))


def free_kb():
    """Return the free space of the file system in KiB."""
    status = os.statvfs("/")
    return status[1] * status[3] // 1024


def execute(test, name, argument):
    """Return the result of a part."""
    if name == "key":
        outcome = test.key(binascii.unhexlify(argument))
        outcome["proof"] = binascii.hexlify(outcome["proof"]).decode()
        return outcome
    if name in ("gps", "modem", "indicator"):
        return getattr(test, name)(int(argument))
    if name in ("microphone", "storage"):
        return getattr(test, name)()
    return result(False, "this platform has no such part; flash its platform")


def run():
    """Execute the requests of the host."""
    settings = load_settings()
    clock = platform.Clock()
    console = Console(clock, load_watchdog(settings))
    error = ""
    config = None
    try:
        config = load_config(CONFIG)
    except ConfigError as e:
        error = str(e)
    test = SelfTest(config, platform, clock.now_ms, console.pause, print, free_kb)
    answer(
        {
            "board": platform_build.BOARD,
            "unique_id": binascii.hexlify(machine.unique_id()).decode(),
            "device": config["device"] if config else "",
            "key_epoch": config["key_epoch"] if config else 0,
        }
    )
    while True:
        name, _, argument = console.readline().partition(" ")
        if name == "end":
            machine.reset()
        if config is None:
            answer(result(False, error))
            continue
        try:
            answer(execute(test, name, argument))
        except Exception as e:  # a part that fails must not end the others
            answer(result(False, "%s: %s" % (type(e).__name__, e)))
