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
    _check_way(path, config["broker"], config.get("modem"))
    return config


def _check_way(path, broker, modem):
    if not isinstance(broker, dict) or not broker.get("host") or not isinstance(broker.get("port"), int):
        raise ConfigError("%s: broker: give its host, and its port as a number" % path)
    quoted = [("broker.host", broker["host"])]
    if modem:
        if not (isinstance(modem, dict) and modem.get("uart") and modem.get("apn")):
            raise ConfigError("%s: modem: give its uart and the apn of its SIM" % path)
        quoted += [("modem." + name, modem.get(name) or "") for name in ("apn", "user", "password", "edrx")]
    for name, value in quoted:
        # They stand between quotes in AT commands.
        if not isinstance(value, str) or any([c < " " or c == '"' or c > "~" for c in value]):
            raise ConfigError('%s: %s: printable ASCII text without " is needed' % (path, name))
