"""Tables of the Patrolink protocol. Made from protocol/schema.toml by protocol/generate.py; do not edit."""

VERSION = 1
TAG_BYTES = 8
COUNTER_BITS = 28
MAX_FRAME = 1024
MAX_BATCH = 255
SCHEMA_HASH = 0xD4CB1C56

HELLO = 1
POSITION_BATCH = 2
DEVICE_STATUS = 3

REJECT = {
    "length": 1,
    "version": 2,
    "type": 3,
    "tag": 4,
    "key": 5,
    "replay": 6,
    "range": 7,
    "critical": 8,
}

# type: (name, ((field, type, min, max or most bytes, unknown), ...)); None for a position batch
MESSAGES = {
    1: (
        "hello",
        (
            ("boot", "u32", 0, 4294967295, None),
            ("schema_hash", "u32", 0, 4294967295, None),
            ("heap_kb", "u16", 0, 65535, None),
            ("date_floor", "u16", 0, 65535, None),
            ("batch_fixes", "u8", 1, 255, None),
            ("board", "str", 0, 24, None),
            ("firmware", "str", 0, 24, None),
            ("runtime", "str", 0, 40, None),
        ),
    ),
    2: ("position_batch", None),
    3: (
        "device_status",
        (
            ("uptime_s", "u32", 0, 4294967295, None),
            ("gps_mode", "u8", 0, 3, None),
            ("gps_sats", "u8", 0, 254, 255),
            ("battery_pct", "u8", 0, 100, 255),
            ("signal_dbm", "i8", -127, 0, -128),
            ("temperature_c", "i8", -127, 127, -128),
            ("heap_free_kb", "u16", 0, 65534, 65535),
            ("queue_frames", "u16", 0, 65535, None),
            ("dropped_frames", "u32", 0, 4294967295, None),
            ("reconnects", "u16", 0, 65535, None),
            ("nmea_sentences", "u32", 0, 4294967295, None),
            ("nmea_errors", "u32", 0, 4294967295, None),
            ("fixes", "u32", 0, 4294967295, None),
        ),
    ),
}

# (name, divisor, min, max, raw bits, keyframe k, signed, optional)
COLUMNS = (
    ("time", 0, 0, 0, 32, None, True, False),
    ("lat", 0, -900000000, 900000000, 32, None, True, False),
    ("lon", 0, -1800000000, 1800000000, 32, None, True, False),
    ("state", 1, 0, 31, 5, 4, False, False),
    ("alt", 100, -1000000, 20000000, 18, 9, True, True),
    ("speed", 100, 0, 1000000, 14, 4, False, True),
    ("course", 200, 0, 35999, 8, 7, False, True),
    ("hacc", 1000, 0, 1000000, 11, 3, False, True),
    ("sats", 1, 0, 99, 7, 4, False, True),
    ("battery", 1, 0, 100, 7, 6, False, True),
)
