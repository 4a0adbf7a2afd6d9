"""Receives an agent image over the console of a board with slots. `patrolink flash` starts it from the raw REPL.

The start of a board waits here for `patrolink flash --recover` if no slot holds an image, or if the start itself fails.
The watchdog that the agent has started goes on. Bytes from the host feed it: if the cable breaks, it starts the agent
again.
"""

import binascii
import gc
import json
import select
import sys
import time

import machine
import micropython
import platform_build
from agent.update.boot_journal import BootJournal
from agent.update.installer import Installer, Target
from agent.update.provisioned_files import ProvisionedFiles
from agent.update.release_keys import ReleaseKeys
from agent.update.serial_receiver import START, SerialReceiver
from agent.update.slot_target import SlotTarget
from agent.update.slots import UpdateArea
from app.console import load_settings, load_watchdog
from compat.inflate_stream import InflateStream
from hal.baremetal import platform, update_area

_INTERRUPT = 3  # Ctrl-C
_LOOK_MS = 1000
_DRAIN_MS = 100  # until a console on USB, which sends in the background, has sent the last answer


class Console:
    """Reads from the console, and feeds a watchdog.

    Args:
        watchdog: The platform's Watchdog.
        begin: Bytes that were read already.
    """

    def __init__(self, watchdog, begin):
        self._watchdog = watchdog
        self._begin = begin

    def readinto(self, buffer):
        """Fill a buffer."""
        n = min(len(self._begin), len(buffer))
        if n:
            buffer[:n] = self._begin[:n]
            self._begin = self._begin[n:]
            buffer = buffer[n:]
        if len(buffer):
            sys.stdin.buffer.readinto(buffer)
        self._watchdog.feed()


def describe(target, journal, keys, settings):
    """Return what the board says of itself, as JSON. Of its configuration it tells the device id alone."""
    present = target.present
    identity = {
        "board": platform_build.BOARD,
        "architecture": platform_build.ARCHITECTURE,
        "unique_id": binascii.hexlify(machine.unique_id()).decode(),
        "platform": platform_build.PLATFORM,
        "version": present.version if present else "",
        "rollback": present.rollback if present else None,
        "rollback_floor": journal.state.lowest_rollback(),
        "release_keys": [binascii.hexlify(key_id).decode() for key_id in keys.key_ids],
        "configured": settings is not None,
        "device": str(settings.get("device", "")) if settings else "",
    }
    return json.dumps(identity).encode()


def wait_for_session(window_ms):
    """Wait for a host that sends frames, and execute its requests.

    Args:
        window_ms: Time in which it has to begin; None: for ever.

    Returns:
        Whether the start goes on: False after Ctrl-C.
    """
    micropython.kbd_intr(-1)  # frames may contain it
    try:
        poll = select.poll()
        poll.register(sys.stdin, select.POLLIN)
        start_ms = time.ticks_ms()
        while window_ms is None or time.ticks_diff(time.ticks_ms(), start_ms) < window_ms:
            if poll.poll(_LOOK_MS):
                byte = sys.stdin.buffer.read(1)
                if byte[0] == START:
                    run(byte)
                elif byte[0] == _INTERRUPT:
                    return False
        return True
    finally:
        micropython.kbd_intr(_INTERRUPT)


def run(begin=b""):
    """Execute the requests of the host, then restart the board if it wants that.

    Args:
        begin: Bytes of the host that were read already.
    """
    micropython.kbd_intr(-1)
    update_area.unmount_slots()
    flash = update_area.open_flash()
    area = UpdateArea(flash, flash.slot_bytes)
    journal = BootJournal(flash)
    keys = ReleaseKeys(platform_build.RELEASE_KEYS)
    this = Target(platform_build.BOARD, platform_build.ARCHITECTURE, platform_build.PLATFORM)
    target = SlotTarget(area, journal, Installer(area, journal, keys.verify, this))
    settings = load_settings()
    device = settings and {"device": settings.get("device", "")}  # without the key
    receiver = SerialReceiver(
        Console(load_watchdog(settings), begin).readinto,
        sys.stdout.buffer.write,
        InflateStream,
        target,
        lambda: describe(target, journal, keys, device),
        ProvisionedFiles(platform.Files("/")),
    )
    gc.collect()
    print("receiver ready")  # the host waits for this: a slow board takes seconds to get here
    try:
        restart = receiver.run()
    finally:
        micropython.kbd_intr(_INTERRUPT)
    if restart:
        time.sleep_ms(_DRAIN_MS)
        machine.reset()
