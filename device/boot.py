"""Start the agent on a board whose firmware contains it. The configuration is /config.json on its file system.

Ctrl-C on the console, or an unusable configuration, ends the agent and leaves the REPL. After a bug the board is reset
with a delay, so that a crash at every start does not wear out the flash.
"""

import os
import sys
import time

import machine

_CONFIG = "/config.json"
_RESET_DELAY_S = 10
_RESET_CAUSES = ("?", "power on", "reset", "watchdog", "deep sleep", "soft reset", "fault")


def load_platform():
    """Return the platform module."""
    from hal.baremetal import platform

    return platform


def main():
    """Run the agent, then put the board into deep sleep, or reset it after a bug."""
    cause = machine.reset_cause()
    name = _RESET_CAUSES[cause] if cause < len(_RESET_CAUSES) else cause
    print("patrolink on %s, after %s" % (sys.platform, name))
    if _CONFIG[1:] not in os.listdir("/"):
        print("%s is missing; copy one (mpremote cp config.json :) and reset the board" % _CONFIG)
        return
    from app.start import start

    try:
        code = start(_CONFIG, load_platform, print)
    except KeyboardInterrupt:
        print("stopped by the console")
        return
    except Exception as e:
        sys.print_exception(e)
        time.sleep(_RESET_DELAY_S)
        machine.reset()
    if code == 0:
        machine.deepsleep()


main()
