"""A device's configuration."""

import json

from patrolink_protocol import frame

DEFAULTS = {
    "batch_fixes": 60,
    "batch_s": 60,
    "status_s": 60,
    "keepalive_s": 60,
    "timeout_s": 10,
    "key_epoch": 0,
    "outbox_kb": 256,
    "date_floor": 0,
    "board": "unix",
}


class ConfigError(Exception):
    """CONFIG.json cannot be used; the text says why and what to mend."""


def load_config(path):
    """Return the checked configuration with defaults filled in."""
    try:
        with open(path) as f:
            given = json.load(f)
    except (OSError, ValueError) as e:
        raise ConfigError("%s: %s; give the path of a JSON configuration" % (path, e))
    for key in ("device", "key", "broker", "gps_uart", "state_dir"):
        if key not in given:
            raise ConfigError("%s: %r is missing" % (path, key))
    config = dict(DEFAULTS)
    config.update(given)
    try:
        config["key"] = frame.check_key(bytes([int(config["key"][i : i + 2], 16) for i in range(0, 64, 2)]))
    except (ValueError, TypeError):
        raise ConfigError("%s: key: 64 hexadecimal digits are needed" % path)
    if config.get("modem") and not ("uart" in config["modem"] and "apn" in config["modem"]):
        raise ConfigError("%s: modem: give its uart and the apn of its SIM" % path)
    return config
