"""Check of the clock: frames, certificates and clips are rejected if it is wrong."""

import shutil
import time
from datetime import datetime, timezone
from pathlib import Path

from patrolink.doctor.finding import OK, PROBLEM, WARNING, Finding
from patrolink.doctor.programs import first_line

_TOLERANCE_S = 86_400


def check_clock(now_s: float, installed_s: float, synchronized: bool | None) -> Finding:
    """Return the finding about the clock.

    Args:
        now_s: Time of day, Unix seconds.
        installed_s: When the tool was installed, Unix seconds: the clock cannot be before it.
        synchronized: Whether the system sets the clock from the network; None if that is not known.
    """
    text = datetime.fromtimestamp(now_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    fix = "run `sudo timedatectl set-ntp true`, or switch on automatic time in the settings of the system"
    if now_s < installed_s - _TOLERANCE_S:
        return Finding(PROBLEM, "clock", f"{text} is before the installation of this tool", fix)
    if synchronized is False:
        return Finding(WARNING, "clock", f"{text}, not synchronized", fix)
    return Finding(OK, "clock", f"{text}, {'synchronized' if synchronized else 'synchronization unknown'}")


def check_all() -> list[Finding]:
    """Check the clock of this machine."""
    answer = ""
    if shutil.which("timedatectl"):
        answer = first_line(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    installed_s = Path(__file__).stat().st_mtime
    return [check_clock(time.time(), installed_s, {"yes": True, "no": False}.get(answer))]
