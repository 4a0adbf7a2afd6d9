"""Receives an agent image over the console of a board with slots. `patrolink flash` starts it from the raw REPL.

The watchdog that the agent has started goes on. Bytes from the host feed it: if the cable breaks, it starts the agent
again.
"""

import binascii
import gc
import json
import sys

import machine
import micropython
import platform_build
from agent.update.boot_journal import BootJournal
from agent.update.installer import Installer, Target
from agent.update.provisioned_files import ProvisionedFiles
from agent.update.release_keys import ReleaseKeys
from agent.update.serial_receiver import SerialReceiver
from agent.update.slot_target import SlotTarget, withdraw_attempt
from agent.update.slots import UpdateArea
from compat.inflate_stream import InflateStream
from hal.baremetal import platform, update_area

_CONFIG = "/config.json"
_INTERRUPT = 3  # Ctrl-C
_WATCHDOG_MS = 60_000  # where the configuration has none: without it, a broken cable would stop the device


class Console:
    """Reads from the console, and feeds a watchdog.

    Args:
        watchdog: The platform's Watchdog.
    """

    def __init__(self, watchdog):
        self._watchdog = watchdog

    def readinto(self, buffer):
        """Fill a buffer."""
        sys.stdin.buffer.readinto(buffer)
        self._watchdog.feed()


def load_settings():
    """Return the configuration as it is, without a check; None if there is none, {} if it cannot be read."""
    try:
        with open(_CONFIG) as f:
            settings = json.load(f)
    except OSError:
        return None
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def load_watchdog(settings):
    """Return the Watchdog of a configuration, or one of _WATCHDOG_MS."""
    timeout_ms = settings.get("watchdog") if settings else None
    return platform.Watchdog(timeout_ms if isinstance(timeout_ms, int) and timeout_ms > 0 else _WATCHDOG_MS)


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


def run():
    """Execute the requests of the host, then restart the board if it wants that."""
    micropython.kbd_intr(-1)
    update_area.unmount_slots()
    flash = update_area.open_flash()
    area = UpdateArea(flash, flash.slot_bytes)
    journal = BootJournal(flash)
    try:
        withdraw_attempt(journal)
    except OSError as e:
        print("the attempt cannot be withdrawn: %s" % e)
    keys = ReleaseKeys(platform_build.RELEASE_KEYS)
    this = Target(platform_build.BOARD, platform_build.ARCHITECTURE, platform_build.PLATFORM)
    target = SlotTarget(area, journal, Installer(area, journal, keys.verify, this))
    settings = load_settings()
    device = settings and {"device": settings.get("device", "")}  # without the key
    receiver = SerialReceiver(
        Console(load_watchdog(settings)).readinto,
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
        machine.reset()
