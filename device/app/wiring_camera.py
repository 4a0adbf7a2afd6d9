"""The camera of a device. Loaded only where one is configured."""

import patrolink_enums as enums
from app.errors import ConfigError


def build_camera(settings, hal, indicators, inputs, now_ms, log):
    """Return the camera of the platform.

    Args:
        settings: "camera" of the configuration.
        hal: The platform.
        indicators: agent.wearer.indicator.Indicators.
        inputs: hal Inputs that the camera wakes.
        now_ms: Function that returns monotonic milliseconds.
        log: Function of one string.

    Raises:
        ConfigError: The board has no camera, or a setting cannot be used.
    """
    if not isinstance(settings, dict) or settings.get("source") is None or settings.get("indicator") is None:
        raise ConfigError("camera: give its source and the output of its indicator")
    try:
        if not hasattr(hal, "camera"):
            raise ImportError
        return hal.camera(settings, indicators.add_user(settings["indicator"]), now_ms, log, inputs)
    except ValueError as e:
        raise ConfigError(str(e))
    except ImportError:
        raise ConfigError("camera: this board has no camera of this kind; remove it from the configuration")


class CameraSelfTest:
    """Takes one frame at boot, on a device that has a camera and does not record.

    Args:
        camera: hal camera. It is closed after its first frame.
    """

    def __init__(self, camera):
        self._camera = camera
        self._passed = False
        camera.open()

    def poll(self):
        """Look for the frame."""
        if not self._passed and self._camera.frame() is not None:
            self._camera.close()
            self._passed = True

    @property
    def errors(self):
        """Bits of device_status.errors."""
        return enums.DEVICE_STATUS_ERRORS_CAMERA_FAULT if self._camera.fault else 0
