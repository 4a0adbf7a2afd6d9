"""What a hub takes from its surroundings: time, randomness, network and helper processes.

The hub runs on `SystemPlatform`. The district simulation has a platform on a virtual clock, for the same hub.
"""

import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from patrolink.core.capture import Record
from patrolink.core.clock import Clock, SystemClock
from patrolink.hub.infra.broker import BrokerConnection
from patrolink.hub.infra.mqtt_connection import MqttConnection
from patrolink.hub.infra.tcp import listen_tcp
from patrolink.hub.infra.udp import UdpSocket, bind_udp
from patrolink.hub.voice.recorder import RecordingWriter
from patrolink.hub.voice.writer_process import WriterProcess


class Platform(Protocol):
    """Surroundings of a hub. Its event loop is the running one.

    Attributes:
        clock: Source of time.
    """

    @property
    def clock(self) -> Clock:
        """Source of time."""

    def random_bytes(self, n: int) -> bytes:
        """Return unpredictable bytes, for keys and nonces."""

    def bind_udp(self, host: str, port: int) -> UdpSocket:
        """Return a bound UDP socket.

        Raises:
            UserError: The address cannot be bound.
        """

    def listen_tcp(self, host: str, port: int) -> Sequence[Any]:
        """Return a listening socket for each address of a host; the event loop accepts it in `sock_accept`.

        Raises:
            OSError: The host has no address on this machine, or the port is in use.
        """

    def connect_broker(
        self,
        url: str,
        session: str,
        on_topic: Mapping[str, Callable[[bytes], None]],
        on_record: Callable[[Record], None],
    ) -> BrokerConnection:
        """Return a connection to a broker that is not open yet; see MqttConnection for the arguments."""

    def recording_writer(self, folder: Path) -> RecordingWriter:
        """Return a writer of recordings."""


class SystemPlatform:
    """The operating system and the network."""

    def __init__(self) -> None:
        self.clock = SystemClock()

    def random_bytes(self, n: int) -> bytes:
        """Return bytes of the operating system's generator."""
        return secrets.token_bytes(n)

    def bind_udp(self, host: str, port: int) -> socket.socket:
        """Return a bound UDP socket; see Platform."""
        return bind_udp(host, port)

    def listen_tcp(self, host: str, port: int) -> list[socket.socket]:
        """Return listening sockets; see Platform."""
        return listen_tcp(host, port)

    def connect_broker(
        self,
        url: str,
        session: str,
        on_topic: Mapping[str, Callable[[bytes], None]],
        on_record: Callable[[Record], None],
    ) -> MqttConnection:
        """Return a connection over the network; see Platform."""
        return MqttConnection(url, session, on_topic, on_record)

    def recording_writer(self, folder: Path) -> WriterProcess:
        """Return a writer that is a process."""
        return WriterProcess(folder)
