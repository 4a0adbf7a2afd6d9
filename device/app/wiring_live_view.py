"""Live view, on a board with a camera and datagrams. Loaded only where clips are configured."""

from agent.live_view.session import PACKET_MAX, LiveView, LiveViewKeys
from patrolink_protocol import aes

_KBPS_MAX = 600
_MODEM_PACKET_MAX = 1024  # as long as a stream's piece on a modem's UART
_BAUD = 115200
_PICTURE_KB = 16


def _uart_kbps(uart):
    """Return what a view may use of a modem's UART: 70 %, because session and uploads share it."""
    baud = uart.get("baudrate", _BAUD) if isinstance(uart, dict) else _BAUD
    return baud * 7 // 12500


def build_live_view(core, open_udp, camera, busy):
    """Return the agent.live_view.session.LiveView of a device.

    Args:
        core: app.wiring_media.Core.
        open_udp: Function (host, port) -> UDP socket.
        camera: hal camera.
        busy: Function that returns whether something more important is to be sent.
    """
    config = core.config
    modem = config.get("modem")
    encoder = None
    if config["camera"].get("kind") != "vc0706":
        encoder = core.hal.video().Encoder(camera.width, camera.height, camera.fps)
    return LiveView(
        open_udp,
        aes.encrypter,
        LiveViewKeys(config["key"], core.downlink.epoch).derive,
        core.log,
        camera,
        min(_KBPS_MAX, _uart_kbps(modem["uart"])) if modem else _KBPS_MAX,
        encoder,
        busy,
        _MODEM_PACKET_MAX if modem else PACKET_MAX,
        config["camera"].get("picture_kb", _PICTURE_KB) * 1024,
    )
