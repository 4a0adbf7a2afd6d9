"""Start the agent as a service of a Linux camera: that of a slot, or that of the package if no slot holds an image.

usage: python3 boot_service.py CONFIG.json

Environment: PATROLINK_SLOTS, folder of the update area; RUNTIME_DIRECTORY, a folder that is empty after power-on. Its
file `buttons` is a pipe that takes the names of pressed buttons (hal/posix/platform.py). SIGTERM presses the power
button. The service manager starts the agent again after an exit code other than 0, 2 and 3.

Exit code: 0 after the power button, 1 after a bug, 2 for a bad configuration, 3 for lost state, 5 for a restart.
"""

import os
import signal
import sys
import time
from collections import namedtuple

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [FOLDER]

_CRASHES = "/crashes"  # length of this file: bugs of the package's agent in a row
_CRASHES_MAX = 3
_STABLE_S = 600
_BUTTONS = "/buttons"
_BUG = 1
_PERMANENT = (2, 3)  # exit codes that a restart does not help against
_IMAGE_PACKAGES = ("agent", "compat", "hal", "patrolink_protocol")

# `slot` and `archive` are None for the agent of the package; `safe`: safe mode.
Start = namedtuple("Start", ("slot", "archive", "on_trial", "safe"))


def log(text):
    """Write a line of the log."""
    print(text, file=sys.stderr, flush=True)


def load_platform():
    """Return the platform module."""
    from hal.posix import platform

    return platform


class Crashes:
    """Bugs of the package's agent in a row, in a file that a power-on removes.

    Args:
        folder: Path of the folder.

    Attributes:
        power_on: Whether this is the first start after power-on.
    """

    def __init__(self, folder):
        self._path = folder + _CRASHES
        self.power_on = not os.path.exists(self._path)
        with open(self._path, "a"):
            pass

    def count(self):
        """Return their number."""
        return os.stat(self._path).st_size

    def add(self, ran_s):
        """Count one more; after a long run it is the first in a row."""
        with open(self._path, "w" if ran_s >= _STABLE_S else "a") as f:
            f.write("x")

    def forget(self):
        """There is none: the agent was stopped."""
        os.truncate(self._path, 0)


def select(folder, crashes):
    """Return the Start, after its attempt mark has been written.

    Args:
        folder: Path of the update area.
        crashes: Crashes of the agent of the package.
    """
    import platform_build  # of the package
    from agent.update import selection
    from agent.update.boot_journal import BootJournal
    from agent.update.boot_sequence import BootSequence
    from agent.update.slots import UpdateArea
    from hal.posix import update_area

    flash = load_platform().open_flash()
    journal = BootJournal(flash)
    if journal.generation:
        area = UpdateArea(flash, flash.slot_bytes)
        decision = BootSequence(area, journal, platform_build.PLATFORM).select(crashes.power_on)
        slot = decision.slot
        if decision.action != selection.RECOVER:
            archive = update_area.mount_slot(folder, slot, area.header(slot).size)
            on_trial = not journal.state.slots[slot].confirmed
            return Start(slot, archive, on_trial, decision.action == selection.RUN_SAFE)
        log("no slot holds an image that may be started")
    return Start(None, None, False, crashes.count() >= _CRASHES_MAX)


def open_buttons(folder):
    """Make the pipe of the buttons standard input, and let SIGTERM press the power button."""
    path = folder + _BUTTONS
    if not os.path.exists(path):
        os.mkfifo(path, 0o660)
    pipe = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # for writing, too, so that it never ends
    os.dup2(pipe, 0)
    signal.signal(signal.SIGTERM, lambda number, frame: os.write(pipe, b"off\n"))


def enter_image(archive):
    """Unload the modules of the selection, and let imports find those of an archive, unless it is None."""
    if archive is not None:
        sys.path.insert(0, archive)
    for name in list(sys.modules):
        if name.split(".")[0] in _IMAGE_PACKAGES:
            del sys.modules[name]


def run(config, choice):
    """Run an agent; return its exit code."""
    try:
        enter_image(choice.archive)
        from app.start import start

        return start(config, load_platform, log, choice.slot, choice.safe)
    except Exception:
        sys.excepthook(*sys.exc_info())
        return _BUG


def main():
    """Select and run an agent; return the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    from hal.posix import update_area
    from hal.posix.service_manager import ServiceManager

    folder, runtime = os.environ["PATROLINK_SLOTS"], os.environ["RUNTIME_DIRECTORY"]
    open_buttons(runtime)
    session = update_area.lock(folder, update_area.SESSION_LOCK)
    held = update_area.lock(folder, update_area.AGENT_LOCK)  # until this process ends
    session.close()
    crashes = Crashes(runtime)
    choice = select(folder, crashes)
    if choice.slot is not None:
        log("slot %s%s" % ("ab"[choice.slot], ", on trial" if choice.on_trial else ""))
    if choice.safe:
        log("safe mode after %d crashes; stop the service or switch the camera off to leave it" % _CRASHES_MAX)
    ServiceManager().notify("READY=1")
    start_s = time.monotonic()
    code = run(sys.argv[1], choice)
    if choice.slot is None and code == _BUG:
        crashes.add(time.monotonic() - start_s)
    elif code == 0:
        crashes.forget()
    if choice.on_trial and code in _PERMANENT:
        code = _BUG  # a configuration that only the image on trial refuses is a fault of the image
    held.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
