"""Start the agent on a board. The configuration is /config.json on its file system.

A board with slots starts the agent image of a slot; the frozen agent is the last resort, when no slot holds an image
(agent/update): it starts when no `patrolink flash --recover` has come in _RECOVERY_MS. If the selection fails, the
board waits for that. Ctrl-C on the console, or an unusable configuration, ends the agent and leaves the REPL, through
which the board can be flashed. After a bug the board is reset with a delay; after three bugs in a row it starts in safe
mode, and a bug in safe mode leaves the REPL. A start that ends in the REPL without a bug costs an image no attempt.
"""

import gc
import os
import sys
import time

import machine
import micropython

_CONFIG = "/config.json"
_CRASHES = "/crashes"  # length of this file: bugs of the frozen agent in a row
_CRASHES_MAX = 3
_STABLE_MS = 600000
_RESET_DELAY_S = 10
_RECOVERY_MS = 5000
_INTERRUPT = 3  # Ctrl-C
_RESET_CAUSES = ("?", "power on", "reset", "watchdog", "deep sleep", "soft reset", "fault")
_IMAGE_PACKAGES = ("agent", "compat", "hal", "patrolink_protocol")
_RECOVERY_MODULES = ("app", "platform_build")


class Start:
    """What is started.

    Args:
        slot: Number of a slot, or None for the frozen agent.
        on_trial: Whether the image in the slot is on trial.
        safe: Whether to start in safe mode.
        recover: Whether no slot holds an image, although images were installed.
    """

    def __init__(self, slot, on_trial, safe, recover=False):
        self.slot = slot
        self.on_trial = on_trial
        self.safe = safe
        self.recover = recover


def load_platform():
    """Return the platform module."""
    from hal.baremetal import platform

    return platform


def select_slot(power_on):
    """Return the Start, after its attempt mark has been written."""
    from hal.baremetal import update_area

    flash = update_area.open_flash()
    recover = False
    if flash is not None:
        update_area.unmount_slots()
        import platform_build  # frozen by the recipe of the board
        from agent.update import selection
        from agent.update.boot_journal import BootJournal
        from agent.update.boot_sequence import BootSequence
        from agent.update.slots import UpdateArea

        journal = BootJournal(flash)
        if journal.generation:
            sequence = BootSequence(UpdateArea(flash, flash.slot_bytes), journal, platform_build.PLATFORM)
            decision = sequence.select(power_on)
            if decision.action != selection.RECOVER:
                on_trial = not journal.state.slots[decision.slot].confirmed
                return Start(decision.slot, on_trial, decision.action == selection.RUN_SAFE)
            print("no slot holds an image that may be started")
            recover = True
    if power_on:
        _forget_crashes()
    return Start(None, False, _count_crashes() >= _CRASHES_MAX, recover)


def enter_image(slot):
    """Unload the modules of the selection, and let imports find those of the slot, unless it is None."""
    if slot is not None:
        from hal.baremetal import update_area

        sys.path.insert(0, update_area.mount_slot(slot))
    _unload(_IMAGE_PACKAGES)


def _unload(packages):
    for name in list(sys.modules):
        if name.split(".")[0] in packages:
            del sys.modules[name]
    gc.collect()


def wait_for_recovery(window_ms):
    """Wait for `patrolink flash --recover`; return whether the start goes on, False after Ctrl-C.

    Only frozen modules are used: what lies on the file system may be the reason why the start fails.
    """
    path = _use_frozen_modules()
    print("recovery: waiting for `patrolink flash --recover`")
    try:
        from app import serial_update

        return serial_update.wait_for_session(window_ms)
    finally:
        sys.path[:] = path
        _unload(_RECOVERY_MODULES)


def withdraw_attempt(slot):
    """Note that this start has ended without a fault of the image in the slot. Only frozen modules are used."""
    path = _use_frozen_modules()
    try:
        from agent.update import boot_sequence
        from agent.update.boot_journal import BootJournal
        from hal.baremetal import update_area

        boot_sequence.withdraw_attempt(BootJournal(update_area.open_flash()), slot)
    except OSError as e:
        print("the attempt cannot be withdrawn: %s" % e)
    finally:
        sys.path[:] = path


def _use_frozen_modules():
    """Let imports find modules of the platform only, and return sys.path as it was."""
    path = list(sys.path)
    sys.path[:] = [".frozen"]
    _unload(_IMAGE_PACKAGES + _RECOVERY_MODULES)
    return path


def _count_crashes():
    try:
        return os.stat(_CRASHES)[6]
    except OSError:
        return 0


def _forget_crashes():
    try:
        os.remove(_CRASHES)
    except OSError:
        pass  # there were none


def _record_crash(ran_ms):
    """Count a bug of the frozen agent: one after a long run is the first in a row."""
    try:
        with open(_CRASHES, "w" if ran_ms >= _STABLE_MS else "a") as f:
            f.write("x")
    except OSError as e:
        print("the crash cannot be recorded: %s" % e)


def run(choice):
    """Run an agent; return its exit code, -1 after a bug, or None after Ctrl-C. Further ones are ignored then."""
    try:
        code = _run(choice)
        if code is not None:
            return code
        micropython.kbd_intr(-1)
    except KeyboardInterrupt:  # `patrolink flash` sends two: the second one has come before the first one was handled
        micropython.kbd_intr(-1)
    print("stopped by the console")
    return None


def _run(choice):
    start_ms = time.ticks_ms()
    try:
        enter_image(choice.slot)
        from app.start import start

        return start(_CONFIG, load_platform, print, choice.slot, choice.safe)
    except KeyboardInterrupt:
        return None
    except Exception as e:
        sys.print_exception(e)
        if choice.slot is None:
            _record_crash(abs(time.ticks_diff(time.ticks_ms(), start_ms)))  # negative after six days
        return -1


def main():
    """Run the agent, then put the board into deep sleep, or reset it after a bug."""
    cause = machine.reset_cause()
    name = _RESET_CAUSES[cause] if cause < len(_RESET_CAUSES) else cause
    print("patrolink on %s, after %s" % (sys.platform, name))
    if _CONFIG[1:] not in os.listdir("/"):
        print("%s is missing; copy one (mpremote cp config.json :) and reset the board" % _CONFIG)
        return
    try:
        choice = select_slot(cause == machine.PWRON_RESET)
    except Exception as e:
        sys.print_exception(e)
        wait_for_recovery(None)
        return
    if choice.recover and not wait_for_recovery(_RECOVERY_MS):
        return
    if choice.slot is not None:
        trial = ", on trial" if choice.on_trial else ""
        print("slot %s%s" % ("ab"[choice.slot], trial))
    if choice.safe:
        print("safe mode after %d crashes; switch the board off and on to leave it" % _CRASHES_MAX)
    code = run(choice)
    if code == 0:
        machine.deepsleep()
    # A configuration that only the image on trial refuses is a fault of the image.
    if code is None or (code > 0 and not choice.on_trial):
        try:
            if choice.slot is not None:
                withdraw_attempt(choice.slot)
        finally:
            micropython.kbd_intr(_INTERRUPT)
    elif not choice.safe:
        time.sleep(_RESET_DELAY_S)
        machine.reset()


main()
