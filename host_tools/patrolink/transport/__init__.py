"""Where frames come from: a broker, a serial line, or a capture, behind one small contract."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from patrolink.core.capture import MAGIC, Record
from patrolink.core.errors import UserError


class Transport(Protocol):
    """A source of frames."""

    def records(self) -> Iterator[Record | None]:
        """Yield records as they come, and None about every 0.2 s without one; end when the source ends.

        DeviceError when it goes away.
        """

    def counts(self) -> dict[str, int]:
        """Return what came but could not be taken in, by kind."""

    def close(self) -> None:
        """Let go of the source."""


def open_transport(source: str, device: str) -> Transport:
    """Return the transport of a broker URL, a capture (path or -), or a serial port; UserError when it is none.

    `device` names the sender on a serial line, which does not say.
    """
    if source.startswith(("mqtt://", "mqtts://")):
        from patrolink.transport.mqtt import MqttTransport

        return MqttTransport(source)
    path = Path(source)
    if source == "-" or path.is_file():
        from patrolink.transport.file import open_capture

        return open_capture(source)
    if path.exists() or "://" in source:
        from patrolink.transport.serial import SerialTransport

        return SerialTransport(source, device)
    raise UserError(
        f"{source}: no such file or port; name a broker (mqtt://host:port), a serial port (see `patrolink devices`), "
        f"or a capture (first bytes {MAGIC[:5].decode()})"
    )
