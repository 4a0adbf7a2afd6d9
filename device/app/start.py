"""From a configuration to a device that has patrolled."""

import gc
import json
import sys

from app.errors import ConfigError

_SWEEP = 8192  # bytes allocated between two collections, while modules are compiled


def _load(path):
    """Return the checked configuration. The code that checked it, 4 KB, is let go: it is not needed again."""
    import app
    from app.config import load_config

    try:
        return load_config(path)
    finally:
        del sys.modules["app.config"], app.config


def start(path, load_hal, log):
    """Build the parts, run until the power button, and print the summary as JSON.

    load_hal()  the platform: a module of device/hal
    Returns 0 after the power button, 2 for a bad configuration, 3 for lost state.
    """
    try:
        config = _load(path)
    except ConfigError as e:
        log("error: %s" % e)
        return 2
    # Compiling a module takes several times what it then holds: the largest ones come while the heap is empty, and what
    # is otherwise loaded only once the modem has answered, when a patrol's fixes may have taken up the room.
    # What compiling leaves behind is swept up as it goes, else what stays would lie scattered, with no large gap left.
    if hasattr(gc, "threshold"):
        gc.threshold(_SWEEP)
    hal = load_hal()
    if config.get("audio") and not config.get("modem") and hasattr(hal, "audio"):
        from app import wiring_ptt  # noqa: F401
    if config.get("clips"):
        from app import wiring_recording

        wiring_recording.load(config)
    if config.get("modem"):
        import agent.modem.driver

        if not hal.FROZEN:
            import agent.modem.dialects.quectel
            import agent.modem.dialects.simcom  # noqa: F401
    from agent.tracking.counter import StateLostError
    from app.device import Device

    try:
        device = Device(config, hal, log)
    except (ConfigError, StateLostError) as e:
        log("error: %s" % e)
        return 3 if isinstance(e, StateLostError) else 2
    # A device that films has large buffers to find: where its own code lies among them, it is swept on.
    if hasattr(gc, "threshold") and (hal.FROZEN or not config.get("clips")):
        gc.threshold(-1)
    device.run()
    print(json.dumps(device.summary()))
    return 0
