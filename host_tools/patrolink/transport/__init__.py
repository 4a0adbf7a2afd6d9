"""Sources of frames: a broker, a serial line or a capture."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from patrolink.core.capture import MAGIC, Record
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey

_WINDOWS_PORT = re.compile(r"COM[1-9][0-9]{0,2}", re.IGNORECASE)  # no path: not found in any folder


class Transport(Protocol):
    """A source of frames."""

    def records(self) -> Iterator[Record | None]:
        """Yield records as they arrive until the source ends, and None about every 0.2 s without one.

        Raises:
            DeviceError: the source was lost.
        """

    def counts(self) -> dict[str, int]:
        """Return the amount of input that could not be used, by kind."""

    def close(self) -> None:
        """Release the source."""


def open_transport(source: str, device: str | None, keys: Mapping[str, DeviceKey]) -> Transport:
    """Return the transport of a source.

    Args:
        source: broker URL, path of a capture, "-" for a capture on standard input, or serial port.
        device: device id for the frames of a serial line, which carry none; None: found with the keys.
        keys: device id → key, for a serial line.

    Raises:
        DeviceError: another program has opened the serial port.
        UserError: the source cannot be used.
    """
    # Imported here so that a capture needs neither paho nor pyserial.
    if source.startswith(("mqtt://", "mqtts://")):
        from patrolink.transport.mqtt import MqttTransport

        return MqttTransport(source)
    path = Path(source)
    if source == "-" or path.is_file():
        from patrolink.transport.file import open_capture

        return open_capture(source)
    if path.exists() or "://" in source or _WINDOWS_PORT.fullmatch(source):
        from patrolink.transport.serial_line import SerialTransport

        return SerialTransport(source, device, keys)
    raise UserError(
        f"{source}: no such file or port; name a broker (mqtt://host:port), a serial port (see `patrolink devices`), "
        f"or a capture (first bytes {MAGIC[:5].decode()})"
    )
