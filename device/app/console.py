"""What programs that the host starts on a board's console have in common."""

import json

from hal.baremetal import platform

CONFIG = "/config.json"
# Where the configuration has none: without it, a broken cable would stop the device
_WATCHDOG_MS = min(60_000, platform.WATCHDOG_MAX_MS)


def load_settings():
    """Return the configuration as it is, without a check; None if there is none, {} if it cannot be read."""
    try:
        with open(CONFIG) as f:
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
