"""Runs a device from its configuration file to its summary."""

import gc
import json

from app.errors import ConfigError
from compat import modules

_OPTIONAL_PARTS = ("audio", "camera", "clips", "geofences", "status_texts")
_COLLECT_BYTES = 8192  # allocated between two collections while modules are compiled


def _load(path):
    """Return the checked configuration, and unload the module that checked it: 4 KB that are not needed again."""
    from app.config import load_config

    try:
        return load_config(path)
    finally:
        modules.unload("app.config")


def _preload(config, hal):
    """Import the largest modules while the heap is empty: compiling one takes several times the heap it then holds.

    The modem's dialects would otherwise be imported when the modem first answers, after fixes have used the heap.
    """
    if config.get("audio") and not config.get("modem") and hasattr(hal, "audio"):
        from app import wiring_ptt  # noqa: F401
    if config.get("clips"):
        from app import wiring_recording

        wiring_recording.preload(config)
    if config.get("modem"):
        import agent.modem.driver

        if not hal.FROZEN:
            import agent.modem.dialects.quectel
            import agent.modem.dialects.simcom  # noqa: F401
    if config["broker"].get("tls"):
        from compat import tls  # noqa: F401
    from compat import umqtt_import

    umqtt_import.load()


def start(path, load_hal, log, slot=None, safe=False):
    """Build the device, run it until the power button, and print its summary as JSON.

    Args:
        path: Path of the configuration.
        load_hal: Function that returns the platform, a module of device/hal.
        log: Function of one string.
        slot: Number of the slot that this agent runs from, or None.
        safe: Safe mode: without the optional parts of the configuration.

    Returns:
        Exit code: 0 after the power button, 2 for a bad configuration, 3 for lost state.
    """
    try:
        config = _load(path)
    except ConfigError as e:
        log("error: %s" % e)
        return 2
    if safe:
        for part in _OPTIONAL_PARTS:
            config[part] = None
    # Frequent collections keep the remains of compilation from fragmenting the heap.
    if hasattr(gc, "threshold"):
        gc.threshold(_COLLECT_BYTES)
    hal = load_hal()
    _preload(config, hal)
    from agent.tracking.counter import StateLostError
    from app.device import Device

    try:
        device = Device(config, hal, log, slot)
    except (ConfigError, StateLostError) as e:
        log("error: %s" % e)
        return 3 if isinstance(e, StateLostError) else 2
    # A recording device with its code in the heap needs large buffers later: there, frequent collections go on.
    if hasattr(gc, "threshold") and (hal.FROZEN or not config.get("clips")):
        gc.threshold(-1)
    device.run()
    print(json.dumps(device.summary()))
    return 0
