"""Boot a board whose firmware holds the agent. Its configuration is /config.json on its file system.

Ctrl-C on the console ends the agent and gives the REPL, and so does a configuration that cannot be used. After a bug
the board starts anew, slowly enough that a crash at every start wears nothing out.
"""

import os
import sys
import time

import machine

_CONFIG = "/config.json"
_AFTER_BUG_S = 10
_CAUSES = ("?", "power on", "reset", "watchdog", "deep sleep", "soft reset", "fault")


def platform():
    from hal.baremetal import platform as baremetal

    return baremetal


def main():
    cause = machine.reset_cause()
    print("patrolink on %s, after %s" % (sys.platform, _CAUSES[cause] if cause < len(_CAUSES) else cause))
    if _CONFIG[1:] not in os.listdir("/"):
        print("no %s; put one there (mpremote cp config.json :) and reset the board" % _CONFIG)
        return
    from app.start import start

    try:
        code = start(_CONFIG, platform, print)
    except KeyboardInterrupt:
        print("stopped by the console")
        return
    except Exception as e:
        sys.print_exception(e)
        time.sleep(_AFTER_BUG_S)
        machine.reset()
    if code == 0:
        machine.deepsleep()


main()
