"""The first message of a boot. Loaded once."""

import gc

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol import VERSION


def send_hello(device, config, boot, image, runtime):
    """Send hello: identity, versions and capabilities.

    Args:
        device: app.device.Device with all its parts.
        config: The configuration.
        boot: Number of this boot.
        image: app.wiring_slots.RunningImage, or None on a board without slots.
        runtime: Name and version of the interpreter.
    """
    profiles = enums.HELLO_PROFILES_RICE
    if device.ptt is not None:
        profiles |= enums.HELLO_PROFILES_PTT
    if device.recording is not None:
        profiles |= enums.HELLO_PROFILES_VIDEO
    if device.live_view is not None:
        profiles |= enums.HELLO_PROFILES_LIVE_VIEW
    if image is not None:
        profiles |= enums.HELLO_PROFILES_FIRMWARE_UPDATE
    device.reporter.send(
        m.HELLO,
        {
            "boot": boot,
            "schema_hash": m.SCHEMA_HASH,
            "minor": m.MINOR,
            "profiles": profiles,
            "heap_kb": (gc.mem_free() + gc.mem_alloc()) >> 10 if hasattr(gc, "mem_free") else 0,
            "date_floor": config["date_floor"],
            "batch_fixes": config["batch_fixes"],
            "board": config["board"].encode(),
            "firmware": VERSION.encode(),
            "runtime": runtime.encode(),
            "content": bytes(8) if image is None else image.content_id,
            "rollback_floor": 0 if image is None else image.rollback_floor,
            "platform": 0 if image is None else image.platform,
        },
    )
