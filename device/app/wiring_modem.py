"""The modem of a device. Loaded only where one is configured: it takes heap."""

from agent.modem.driver import Modem


def build_modem(settings, hal, inputs, net, now_ms, log):
    """Return the modem, switched on.

    Args:
        settings: "modem" of the configuration.
        hal: The platform.
        inputs: hal Inputs that the modem wakes.
        net: compat.stream.Network.
        now_ms: Function that returns monotonic milliseconds.
        log: Function of one string.
    """
    uart = hal.Uart(settings["uart"], now_ms, log, "modem", inputs)
    power, reset, key = [
        None if settings.get(name) is None else hal.Pin(settings[name])
        for name in ("power_pin", "reset_pin", "key_pin")
    ]
    if power is not None:
        power.set(1)
    return Modem(uart, reset, key, net, log, settings)
