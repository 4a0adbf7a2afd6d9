"""Surroundings of a hub on a virtual clock (`patrolink.hub.platform.Platform`)."""

import asyncio
import errno
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patrolink.core.capture import Record
from patrolink.emulator.network.site_broker import HubConnection, SiteBroker
from patrolink.emulator.network.virtual_tcp import Listener, TcpExchange
from patrolink.emulator.network.virtual_udp import HubSocket, UdpExchange
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.virtual_loop import VirtualLoop
from patrolink.hub.voice.recording_writer import RecordedBurst, write


class VirtualClock:
    """Clock of the hub's machine: it may jump.

    Attributes:
        offset_ms: What the time of day is ahead of the true time.
    """

    def __init__(self, scheduler: Scheduler, unix_ms: Callable[[], int]) -> None:
        self._scheduler, self._true_ms = scheduler, unix_ms
        self.offset_ms = 0

    def unix_ms(self) -> int:
        """Return the time of day in milliseconds."""
        return self._true_ms() + self.offset_ms

    def unix_ns(self) -> int:
        """Return the time of day in nanoseconds."""
        return self.unix_ms() * 1_000_000

    def monotonic_ms(self) -> int:
        """Return milliseconds since an arbitrary start."""
        return int(self._scheduler.now)


class _Writer:
    """Writes recordings in the hub's own process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(self, burst: RecordedBurst) -> dict[str, Any] | None:
        return await asyncio.to_thread(write, self._folder, burst)

    async def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Machine:
    """What outlives a hub's process.

    Args:
        clock: Clock of the machine.
        random: Source of the hub's keys.
        broker: The broker of the site.
        udp, tcp: The network.
    """

    clock: VirtualClock
    random: random.Random
    broker: SiteBroker
    udp: UdpExchange
    tcp: TcpExchange


class VirtualPlatform:
    """Surroundings of one life of a hub.

    Args:
        machine: The machine that it runs on.
        loop: Its event loop.
        deliver: Calls the hub's callback with a frame, and observes what the hub does.
    """

    def __init__(
        self, machine: Machine, loop: VirtualLoop, deliver: Callable[[Callable[[Record], None], Record], None]
    ) -> None:
        self._machine, self._loop, self._deliver = machine, loop, deliver
        self.clock = machine.clock
        self._sockets: list[HubSocket] = []
        self._listeners: list[Listener] = []
        self._has_ended = False

    def random_bytes(self, n: int) -> bytes:
        """Return the next bytes of the seeded generator."""
        return self._machine.random.randbytes(n)

    def bind_udp(self, host: str, port: int) -> HubSocket:
        """Return a bound socket; see Platform."""
        self._check_end()
        self._sockets.append(self._machine.udp.bind(host, port))
        return self._sockets[-1]

    def listen_tcp(self, host: str, port: int) -> list[Listener]:
        """Return a listener; see Platform."""
        self._check_end()
        self._listeners.append(self._machine.tcp.listen(host, port))
        return self._listeners[-1:]

    def connect_broker(
        self,
        url: str,
        session: str,
        on_topic: Mapping[str, Callable[[bytes], None]],
        on_record: Callable[[Record], None],
    ) -> HubConnection:
        """Return a connection to the broker of the site; see Platform."""
        return HubConnection(self._machine.broker, self._loop, on_topic, on_record, self._deliver)

    def recording_writer(self, folder: Path) -> _Writer:
        """Return a writer in the hub's own process."""
        return _Writer(folder)

    def end(self) -> None:
        """Close what the process has left open, as the kernel does at its end."""
        self._has_ended = True
        for sock in self._sockets:
            sock.close()
        for listener in self._listeners:
            listener.kill()
        self._machine.broker.detach()

    def _check_end(self) -> None:
        """Refuse what is left of a callback in which the process was killed."""
        if self._has_ended:
            raise OSError(errno.EIO, "the process was killed")
