"""A device's configuration: read and checked once, at the start."""

import json

from errors import ConfigError
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
    "ptt": {},
    "status_texts": [],
}
_TEXT = 240  # bytes of text.text
PTT = {"frame_ms": 20, "replay_s": 0, "groups": 8, "listen_in": False, "site": "patrolink"}


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
    _check_voice(path, config)
    texts = config["status_texts"]
    if not isinstance(texts, list) or not all([isinstance(t, str) and len(t.encode()) <= _TEXT for t in texts]):
        raise ConfigError("%s: status_texts: a list of texts of up to %d bytes is needed" % (path, _TEXT))
    return config


def _check_voice(path, config):
    audio = config.get("audio")
    if audio is not None and not (
        isinstance(audio, dict) and all([audio.get(k) for k in ("mic", "speaker", "indicator")])
    ):
        raise ConfigError("%s: audio: give its mic, its speaker, and the output of its indicator" % path)
    given = config["ptt"]
    for name in given:
        if name not in PTT or type(given[name]) is not type(PTT[name]):
            raise ConfigError("%s: ptt.%s: known are %s" % (path, name, PTT))
    config["ptt"] = ptt = dict(PTT)
    ptt.update(given)
    if ptt["frame_ms"] not in (20, 60) or not 0 <= ptt["replay_s"] <= 120 or not 1 <= ptt["groups"] <= 64:
        raise ConfigError("%s: ptt: frame_ms is 20 or 60, replay_s 0 to 120, groups 1 to 64" % path)


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
