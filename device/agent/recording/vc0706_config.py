"""Configuration of a VC0706 camera: picture sizes, UART rates, and the check of its settings."""

from collections import namedtuple

from patrolink_protocol.native import const

_BAUD = const(115200)
_PICTURE_KB = const(16)
_PICTURE_KB_MIN, _PICTURE_KB_MAX = const(2), const(63)
_FPS_MAX = const(30)
SIZES = {(640, 480): 0x00, (320, 240): 0x11, (160, 120): 0x22}  # (width, height) -> DOWNSIZE argument
# Rate -> arguments of SET_PORT: for the camera's UART, or for its fast one.
RATES = {
    9600: b"\x03\x01\xae\xc8",
    19200: b"\x03\x01\x56\xe4",
    38400: b"\x03\x01\x2a\xf2",
    57600: b"\x03\x01\x1c\x4c",
    115200: b"\x03\x01\x0d\xa6",
    460800: b"\x05\x02\x00\x03\x02\xa6",
    921600: b"\x05\x02\x00\x01\x03\x53",
}
_RATES_AT_POWER_UP = (38400, 115200)

CameraConfig = namedtuple("CameraConfig", ("width", "height", "fps", "baud", "picture_bytes"))


def check_config(settings):
    """Return the CameraConfig of a configuration.

    Args:
        settings: {"width", "height", "fps", "baud", "picture_kb"}, all optional.

    Raises:
        ValueError: A value is out of range; the text names it and the valid values.
    """
    width, height, fps = settings.get("width", 320), settings.get("height", 240), settings.get("fps", 5)
    baud = settings.get("baud", _BAUD)
    picture_kb = settings.get("picture_kb", _PICTURE_KB)
    if (width, height) not in SIZES:
        raise ValueError("camera: width and height: valid are 640x480, 320x240 and 160x120")
    if baud not in RATES:
        raise ValueError("camera: baud: valid are %s" % ", ".join([str(rate) for rate in sorted(RATES)]))
    if not isinstance(picture_kb, int) or not _PICTURE_KB_MIN <= picture_kb <= _PICTURE_KB_MAX:
        raise ValueError("camera: picture_kb: %d to %d" % (_PICTURE_KB_MIN, _PICTURE_KB_MAX))
    if not isinstance(fps, int) or not 1 <= fps <= _FPS_MAX:
        raise ValueError("camera: fps: 1 to %d" % _FPS_MAX)
    return CameraConfig(width, height, fps, baud, picture_kb * 1024)


def candidate_rates(baud):
    """Return the rates that the camera may use, the most likely first.

    These are the configured rate, the rates after power up, and those that an earlier boot may have set.
    """
    rates = [baud] + [rate for rate in _RATES_AT_POWER_UP if rate != baud]
    return rates + [rate for rate in RATES if rate not in rates]
