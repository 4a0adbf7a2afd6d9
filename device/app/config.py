"""A device's configuration: read and checked once, at the start."""

import json

from app.errors import ConfigError
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
    "geofences": [],
}
_TEXT = 240  # bytes of text.text
_PUBLIC = 33  # bytes of a public key, compressed
CLIPS = {
    "evidence_key": "",
    "dir": "",
    "quota_kb": 262144,
    "lock_kb": 196608,
    "pre_s": 30,
    "post_s": 30,
    "segment_s": 5,
    "sound": "event",
    "stamp": True,
    "keep_h": 24,
    "upload": {},
}
_RANGES = {
    "quota_kb": (256, 1 << 30),
    "lock_kb": (128, 1 << 30),
    "pre_s": (0, 120),
    "post_s": (1, 600),
    "segment_s": (1, 60),
    "keep_h": (0, 8760),
}
UPLOAD = {"host": "", "port": 0, "path": "/clips", "kbps": 1000, "tls": {}}
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
        config["key"] = frame.check_key(_unhex(config["key"], frame.KEY_BYTES))
    except (ValueError, TypeError):
        raise ConfigError("%s: key: 64 hexadecimal digits are needed" % path)
    _check_way(path, config["broker"], config.get("modem"))
    _check_voice(path, config)
    _check_clips(path, config)
    if config["geofences"]:
        from agent.tracking import geofence

        try:
            geofence.check(config["geofences"])
        except ValueError as e:
            raise ConfigError("%s: geofences: %s" % (path, e))
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
    config["ptt"] = ptt = _filled(path, "ptt", config["ptt"], PTT)
    if ptt["frame_ms"] not in (20, 60) or not 0 <= ptt["replay_s"] <= 120 or not 1 <= ptt["groups"] <= 64:
        raise ConfigError("%s: ptt: frame_ms is 20 or 60, replay_s 0 to 120, groups 1 to 64" % path)


def _check_clips(path, config):
    if config.get("clips") is None:
        return
    if config.get("camera") is None:
        raise ConfigError("%s: clips: give a camera, too" % path)
    config["clips"] = clips = _filled(path, "clips", config["clips"], CLIPS)
    for name, (least, most) in _RANGES.items():
        if not least <= clips[name] <= most:
            raise ConfigError("%s: clips.%s: %d to %d" % (path, name, least, most))
    if clips["lock_kb"] > clips["quota_kb"]:
        raise ConfigError("%s: clips.lock_kb: it is a part of quota_kb, so at most as much" % path)
    if clips["sound"] not in ("event", "always", "never"):
        raise ConfigError("%s: clips.sound: event, always or never" % path)
    try:
        clips["evidence_key"] = _unhex(clips["evidence_key"], _PUBLIC)
    except (ValueError, TypeError):
        raise ConfigError("%s: clips.evidence_key: the site's public key, 66 hexadecimal digits, is needed" % path)
    clips["dir"] = clips["dir"] or config["state_dir"] + "/clips"
    if clips["upload"]:
        clips["upload"] = upload = _filled(path, "clips.upload", clips["upload"], UPLOAD)
        if not upload["host"] or not 0 < upload["port"] < 65536 or upload["kbps"] < 8 or upload["path"][:1] != "/":
            raise ConfigError("%s: clips.upload: a host, its port, a path and at least 8 kbps are needed" % path)


def _filled(path, where, given, defaults):
    """Return `defaults` with what is given put in; ConfigError for a name or a type that is not theirs."""
    if not isinstance(given, dict):
        raise ConfigError("%s: %s: an object is needed" % (path, where))
    for name in given:
        if name not in defaults or type(given[name]) is not type(defaults[name]):
            raise ConfigError("%s: %s.%s: known are %s" % (path, where, name, defaults))
    filled = dict(defaults)
    filled.update(given)
    return filled


def _unhex(text, n):
    data = bytes([int(text[i : i + 2], 16) for i in range(0, 2 * n, 2)])
    if len(text) != 2 * n:
        raise ValueError
    return data


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
