"""The slots of a device. Loaded only on boards with slots."""

from collections import namedtuple

import patrolink_enums as enums
from agent.update.boot_journal import BootJournal
from agent.update.device_slots import DeviceSlots
from agent.update.slots import UpdateArea
from compat import modules

UPDATE_FOLDER = "/update"  # below the folder of the device's state
_MODULES = ("boot_journal", "boot_records", "device_slots", "slots")

# For hello, see agent.update.device_slots.DeviceSlots; `has_open_job`: an update of the previous boot has not ended.
RunningImage = namedtuple("RunningImage", ("content_id", "rollback_floor", "platform", "has_open_job"))


class _InstallerFactory:
    """Builds installers; their modules are loaded only for that."""

    def __init__(self, area, platform_build, running):
        self._area = area
        self._platform_build = platform_build
        self._running = running

    def build(self, journal, floor):
        from agent.update.installer import Installer, Target
        from agent.update.release_keys import ReleaseKeys

        this = self._platform_build
        target = Target(this.BOARD, this.ARCHITECTURE, this.PLATFORM)
        return Installer(self._area, journal, ReleaseKeys(this.RELEASE_KEYS).verify, target, self._running, floor)


def build_slots(flash, running):
    """Return the agent.update.device_slots.DeviceSlots. There must be one at a time: it has the boot records.

    Args:
        flash: Flash port of the update area.
        running: Number of the slot that runs, or None: the agent of the platform.
    """
    import platform_build  # frozen by the recipe of a board with slots

    area = UpdateArea(flash, flash.slot_bytes)
    make_installer = _InstallerFactory(area, platform_build, running).build
    return DeviceSlots(area, BootJournal(flash), running, platform_build.PLATFORM, make_installer)


def describe(slots, hal, state_dir):
    """Return the RunningImage."""
    return RunningImage(slots.content_id, slots.rollback_floor, slots.platform, has_open_job(hal, state_dir))


def has_open_job(hal, state_dir):
    """Return whether an update over the air of the previous boot has not ended."""
    head = bytearray(2)  # version and state of the job, see agent.update.job_store
    try:
        files = hal.Files(state_dir + UPDATE_FOLDER)
        return (
            "job" in files.names()
            and files.read("job", 0, head) == 2
            and head[1] < enums.FIRMWARE_STATUS_STATE_CONFIRMED
        )
    except OSError:
        return False  # the next command reports it


def unload():
    """Unload what is needed again only for an update: 8 KB of a heap of fixed size."""
    for name in _MODULES:
        modules.unload("agent.update." + name)
    modules.unload("patrolink_protocol.image_header")
    modules.unload("app.wiring_slots")
