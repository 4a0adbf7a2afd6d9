"""Streams and datagrams of a device: those of its modem, or of its network stack."""

from app.errors import ConfigError


def open_raw_streams(modem, hal, tls_options, where):
    """Return a function (net) -> raw stream (see compat.stream).

    Args:
        modem: agent.modem.driver.Modem, or None on a board with a network stack.
        hal: The platform.
        tls_options: {"ca", "cert", "key"}, or an empty dictionary or None for plain TCP.
        where: Key of the options in the configuration, for error messages.

    Raises:
        ConfigError: The certificates cannot be used.
    """
    raw = modem.tcp if modem is not None else hal.tcp_socket()
    if not tls_options:
        return raw
    from compat import tls

    try:
        context = tls.context(tls_options, where)
    except ValueError as e:
        raise ConfigError(str(e))

    def open_tls(net):
        return tls.TlsSocket(net, raw(net), context)

    return open_tls


def udp_opener(modem, hal, inputs):
    """Return a function (host, port) -> UDP socket, or None on a board that has no datagrams."""
    if modem is not None:
        return modem.udp
    if not hasattr(hal, "audio"):
        return None
    audio = hal.audio()

    def open_udp(host, port):
        return audio.Udp(host, port, inputs)

    return open_udp
