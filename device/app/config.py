"""The configuration of a device, read and checked once at the start."""

import json

from agent.gps.calendar import RELEASE_DAY
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
    "date_floor": RELEASE_DAY,
    "board": "unix",
    "ptt": {},
    "status_texts": [],
    "geofences": [],
}
_TEXT_MAX_BYTES = 240  # of text.text
_DEVICE_MAX_BYTES = 32
_DEVICE_MARKS = "_-"
_PUBLIC_KEY_BYTES = 33  # compressed
CLIPS_DEFAULTS = {
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
_CLIPS_RANGES = {
    "quota_kb": (256, 1 << 30),
    "lock_kb": (128, 1 << 30),
    "pre_s": (0, 120),
    "post_s": (1, 600),
    "segment_s": (1, 60),
    "keep_h": (0, 8760),
}
UPLOAD_DEFAULTS = {"host": "", "port": 0, "path": "/clips", "kbps": 1000, "tls": {}}
_GROUPS_MAX = 25  # of one report to the hub: patrolink_protocol.group_report.MAX_GROUPS
PTT_DEFAULTS = {"frame_ms": 20, "replay_s": 0, "groups": 8, "listen_in": False, "site": "patrolink"}


def load_config(path):
    """Return the checked configuration with defaults filled in.

    Args:
        path: Path of the JSON file.

    Raises:
        ConfigError: The file cannot be read, or a value cannot be used; the text names the key.
    """
    try:
        with open(path) as f:
            settings = json.load(f)
    except (OSError, ValueError) as e:
        raise ConfigError("%s: %s; give the path of a JSON configuration" % (path, e))
    for key in ("device", "key", "broker", "gps_uart", "state_dir"):
        if key not in settings:
            raise ConfigError("%s: %r is missing; add it" % (path, key))
    config = dict(DEFAULTS)
    config.update(settings)
    _check_device(path, config["device"])
    try:
        config["key"] = frame.check_key(_unhex(config["key"], frame.KEY_BYTES))
    except (ValueError, TypeError):
        raise ConfigError("%s: key: must be 64 hexadecimal digits" % path)
    _check_network(path, config["broker"], config.get("modem"))
    _check_voice(path, config)
    _check_clips(path, config)
    if config["geofences"]:
        from agent.tracking import geofence  # only where fences are configured: it takes heap

        try:
            geofence.parse_fences(config["geofences"])
        except ValueError as e:
            raise ConfigError("%s: geofences: %s" % (path, e))
    texts = config["status_texts"]
    if not isinstance(texts, list) or not all(
        [isinstance(t, str) and len(t.encode()) <= _TEXT_MAX_BYTES for t in texts]
    ):
        raise ConfigError("%s: status_texts: must be a list of texts of up to %d bytes" % (path, _TEXT_MAX_BYTES))
    return config


def _check_device(path, device):
    valid = isinstance(device, str) and 0 < len(device.encode()) <= _DEVICE_MAX_BYTES
    if not valid or not all([c in _DEVICE_MARKS or ord(c) < 128 and (c.isalpha() or c.isdigit()) for c in device]):
        raise ConfigError(
            "%s: device: must be a text of 1 to %d characters of A-Z a-z 0-9 _ -; give the id that the hub knows"
            % (path, _DEVICE_MAX_BYTES)
        )


def _check_voice(path, config):
    audio = config.get("audio")
    if audio is not None and not (
        isinstance(audio, dict) and all([audio.get(k) for k in ("mic", "speaker", "indicator")])
    ):
        raise ConfigError("%s: audio: give mic, speaker, and the output of the indicator" % path)
    config["ptt"] = ptt = _with_defaults(path, "ptt", config["ptt"], PTT_DEFAULTS)
    if ptt["frame_ms"] not in (20, 60) or not 0 <= ptt["replay_s"] <= 120 or not 1 <= ptt["groups"] <= _GROUPS_MAX:
        raise ConfigError("%s: ptt: frame_ms must be 20 or 60, replay_s 0 to 120, groups 1 to %d" % (path, _GROUPS_MAX))


def _check_clips(path, config):
    if config.get("clips") is None:
        return
    if config.get("camera") is None:
        raise ConfigError("%s: clips: a camera is needed, too; add the key camera" % path)
    config["clips"] = clips = _with_defaults(path, "clips", config["clips"], CLIPS_DEFAULTS)
    for name, (minimum, maximum) in _CLIPS_RANGES.items():
        if not minimum <= clips[name] <= maximum:
            raise ConfigError("%s: clips.%s: must be %d to %d" % (path, name, minimum, maximum))
    if clips["lock_kb"] > clips["quota_kb"]:
        raise ConfigError("%s: clips.lock_kb: must not exceed quota_kb, which includes it" % path)
    if clips["sound"] not in ("event", "always", "never"):
        raise ConfigError("%s: clips.sound: must be event, always or never" % path)
    try:
        clips["evidence_key"] = _unhex(clips["evidence_key"], _PUBLIC_KEY_BYTES)
    except (ValueError, TypeError):
        raise ConfigError("%s: clips.evidence_key: must be the public key of the site, 66 hexadecimal digits" % path)
    clips["dir"] = clips["dir"] or config["state_dir"] + "/clips"
    if clips["upload"]:
        clips["upload"] = upload = _with_defaults(path, "clips.upload", clips["upload"], UPLOAD_DEFAULTS)
        if not upload["host"] or not 0 < upload["port"] < 65536 or upload["kbps"] < 8 or upload["path"][:1] != "/":
            raise ConfigError(
                "%s: clips.upload: host, port, a path that begins with /, and kbps >= 8 are needed" % path
            )


def _with_defaults(path, where, settings, defaults):
    """Return `defaults` updated with `settings`. Raises ConfigError for an unknown name or a wrong type."""
    if not isinstance(settings, dict):
        raise ConfigError("%s: %s: must be an object" % (path, where))
    for name in settings:
        if name not in defaults or type(settings[name]) is not type(defaults[name]):
            raise ConfigError("%s: %s.%s: unknown key or wrong type; defaults are %s" % (path, where, name, defaults))
    complete = dict(defaults)
    complete.update(settings)
    return complete


def _unhex(text, n):
    data = bytes([int(text[i : i + 2], 16) for i in range(0, 2 * n, 2)])
    if len(text) != 2 * n:
        raise ValueError
    return data


def _check_network(path, broker, modem):
    if not isinstance(broker, dict) or not broker.get("host") or not isinstance(broker.get("port"), int):
        raise ConfigError("%s: broker: give host, and port as a number" % path)
    quoted = [("broker.host", broker["host"])]
    if modem:
        if not (isinstance(modem, dict) and modem.get("uart") and modem.get("apn")):
            raise ConfigError("%s: modem: give uart, and the apn of the SIM" % path)
        quoted += [("modem." + name, modem.get(name) or "") for name in ("apn", "user", "password", "edrx")]
    for name, value in quoted:
        # AT commands contain these values in quotes.
        if not isinstance(value, str) or any([c < " " or c == '"' or c > "~" for c in value]):
            raise ConfigError('%s: %s: must be printable ASCII text without "' % (path, name))
