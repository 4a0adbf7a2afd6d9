"""Radio and carrier behind an emulated modem: coverage, delay, loss, bandwidth, address translation.

All randomness comes from one seeded generator, except for datagrams of flows that have a seed of their own. TCP is
modelled by its result: bytes in order, delayed by the retransmissions that loss causes. UDP loses and reorders.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from patrolink.emulator.scheduler import Scheduler

_SEGMENT = 1400
_HEADERS = 40  # TCP and IPv4
_IDLE_MS = 10_000.0  # idle time after which the carrier releases the radio connection
_RTO_MS = 200.0  # minimum retransmission time of a current TCP


@dataclass(frozen=True)
class Profile:
    """Network conditions of a kind of place.

    Intervals are means of exponential distributions; None means that the event does not happen.
    """

    rtt_ms: float
    jitter_ms: float
    loss: float
    up_kbps: float
    down_kbps: float
    rsrp_dbm: int = -85
    outage_every_s: float | None = None
    outage_s: float = 0.0
    gap_every_s: float | None = None
    gap_ms: float = 0.0
    pdp_drop_every_s: float | None = None
    nat_tcp_s: float = 600.0
    nat_udp_s: float = 30.0


PROFILES = {
    "city": Profile(100, 80, 0.01, 10_000, 30_000, -80, gap_every_s=240, gap_ms=60),
    "village": Profile(120, 60, 0.02, 64, 256, -108, outage_every_s=1200, outage_s=40),
    "lift": Profile(60, 20, 0.01, 5_000, 20_000, -95, outage_every_s=180, outage_s=35),
    "handover": Profile(70, 40, 0.01, 2_000, 10_000, -100, gap_every_s=15, gap_ms=300, pdp_drop_every_s=1800),
    "dead": Profile(200, 100, 0.05, 64, 128, -115, outage_every_s=300, outage_s=3300),
}


class Remote(Protocol):
    """Far end of a connection."""

    def feed(self, data: bytes) -> None:
        """Take bytes, or one datagram, that arrived."""

    def close(self) -> None:
        """The near end has closed."""


# Opens a far end: (kind, host, port, connection) -> remote, or None if nobody listens. The remote answers with
# connection.down(data) and connection.remote_closed().
Dial = Callable[[str, str, int, "Connection"], Remote | None]


class Connection:
    """One TCP connection or UDP flow through the network."""

    def __init__(self, network: "Network", kind: str) -> None:
        self.network = network
        self.kind = kind
        self.remote: Remote | None = None
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.on_closed: Callable[[], None] = lambda: None
        self.dead = False  # address lost: nothing passes any more and neither end is notified
        self.open = True
        self._fate = ""  # seed of the generator of each datagram; "" uses the network's generator
        self._datagrams = {"up": 0, "down": 0}  # datagrams since the last reseed
        self._last = {"up": 0.0, "down": 0.0}
        self._queue: dict[str, deque[tuple[bytes, Callable[[bytes], None]]]] = {"up": deque(), "down": deque()}
        self._used = network.scheduler.now

    def send(self, data: bytes) -> None:
        """Send bytes from the device."""
        self.network.bytes_up += len(data)
        self._carry("up", data, self._arrive_up)

    def down(self, data: bytes) -> None:
        """Send bytes from the far end."""
        self._carry("down", data, self._arrive_down)

    def reseed(self, seed: str) -> None:
        """Make the fate of the n-th datagram in each direction depend on `seed` alone, independent of other traffic."""
        self._fate = seed
        self._datagrams = {"up": 0, "down": 0}

    def _chance(self, direction: str) -> random.Random:
        if not self._fate:
            return self.network.random
        self._datagrams[direction] += 1
        return random.Random(f"{self._fate} {direction} {self._datagrams[direction]}")

    def _carry(self, direction: str, data: bytes, arrive: Callable[[bytes], None]) -> None:
        net = self.network
        nat = net.profile.nat_tcp_s if self.kind == "TCP" else net.profile.nat_udp_s
        now = net.scheduler.now
        if direction == "up" or self.kind == "TCP":
            if self.kind == "TCP" and now - self._used > nat * 1000:
                self.dead = True
            if direction == "down" and now - self._used > nat * 1000:
                return
            self._used = now
        elif now - self._used > nat * 1000:
            return
        if self.dead:
            return
        size = len(data) + _HEADERS * (1 + len(data) // _SEGMENT)
        when = net.departure(direction, size) + net.promotion()
        if self.kind == "UDP":
            chance = self._chance(direction)
            if net.stalled() or chance.random() < net.profile.loss:
                net.lost_datagrams += 1
                return
            when += net.delay(chance)
            copies = 2 if chance.random() < net.duplicate else 1
            for _ in range(copies):
                net.scheduler.at(when, lambda: arrive(data))
            return
        when = max(when, net.clear_at()) + net.delay()
        rto = _RTO_MS + net.profile.rtt_ms
        while net.random.random() < net.profile.loss:
            when += rto
            rto *= 2
        when = self._last[direction] = max(when, self._last[direction])
        self._queue[direction].append((data, arrive))
        net.scheduler.at(when, lambda: self._land(direction))

    def _land(self, direction: str) -> None:
        """Deliver the oldest data in flight: TCP keeps order.

        Data in flight when coverage is lost waits for coverage and for the retransmission.
        """
        net = self.network
        if self.dead or not self.open:
            return
        if net.stalled():
            net.scheduler.at(net.clear_at() + net.random.uniform(100, 1500), lambda: self._land(direction))
            return
        data, arrive = self._queue[direction].popleft()
        if direction == "down":
            net.bytes_down += len(data)
        arrive(data)

    def _arrive_up(self, data: bytes) -> None:
        if self.remote is not None:
            self.remote.feed(data)

    def _arrive_down(self, data: bytes) -> None:
        if self.open:
            self.on_data(data)

    def remote_closed(self) -> None:
        """Close from the far end, after all data sent before."""
        if self.open and not self.dead:
            self._carry("down", b"", lambda data: self.on_closed() if self.open else None)

    def close(self) -> None:
        """Close from the device."""
        if not self.open:
            return
        self.open = False
        if self.remote is not None and not self.dead:
            remote = self.remote
            self.network.scheduler.after(self.network.delay(), remote.close)
        self.network.connections.discard(self)


class Network:
    """Radio of one device and the carrier behind it.

    Attributes:
        on_change: Callback when coverage is lost or restored.
        on_pdp_drop: Callback when the carrier withdraws the address.
    """

    def __init__(self, scheduler: Scheduler, profile: Profile, seed: int, dial: Dial) -> None:
        self.scheduler = scheduler
        self.profile = profile
        self.random = random.Random(f"network {seed}")
        self._dial = dial
        self.on_change: Callable[[], None] = lambda: None
        self.on_pdp_drop: Callable[[], None] = lambda: None
        self.covered = True
        self.duplicate = 0.0
        self.black_hole = False  # registered, but nothing passes
        self.promotion_ms = 0.0  # from idle to connected
        self._active = self._connected = scheduler.now
        self._stall_until = 0.0
        self._out_until = 0.0
        self._busy = {"up": 0.0, "down": 0.0}
        self.bytes_up = self.bytes_down = self.lost_datagrams = self.outages = 0
        self.connections: set[Connection] = set()
        p = profile
        self._repeat(p.outage_every_s, lambda: self._outage())
        self._repeat(p.gap_every_s, lambda: self.gap(self.random.expovariate(1 / p.gap_ms)))
        self._repeat(p.pdp_drop_every_s, self.drop_pdp)

    def _repeat(self, every_s: float | None, action: Callable[[], None]) -> None:
        if every_s is None:
            return

        def happen() -> None:
            action()
            self.scheduler.after(self.random.expovariate(1 / every_s) * 1000, happen)

        self.scheduler.after(self.random.expovariate(1 / every_s) * 1000, happen)

    def _outage(self) -> None:
        self.outage(self.random.expovariate(1 / self.profile.outage_s) * 1000)

    def outage(self, ms: float) -> None:
        """Lose coverage for a time."""
        until = self.scheduler.now + ms
        if until <= self._out_until:
            return
        self._out_until = until
        self.scheduler.at(until, self._back)
        if self.covered:
            self.covered = False
            self.outages += 1
            self.on_change()

    def restore_coverage(self) -> None:
        """Restore coverage and cancel further outages, as at the end of a shift."""
        self._outage = lambda: None  # type: ignore[method-assign]
        self._out_until = self.scheduler.now
        self._back()

    def _back(self) -> None:
        if not self.covered and self.scheduler.now >= self._out_until:
            self.covered = True
            self.on_change()

    def gap(self, ms: float) -> None:
        """Handover: nothing passes for a time, while the modem stays registered."""
        self._stall_until = max(self._stall_until, self.scheduler.now + ms)

    def drop_pdp(self) -> None:
        """Withdraw the address of the device."""
        self.forget()
        self.on_pdp_drop()

    def forget(self) -> None:
        """Abandon every connection of the old address, without notice to the far end."""
        for connection in self.connections:
            connection.dead = True
        self.connections.clear()

    def stalled(self) -> bool:
        """Return whether nothing passes now."""
        return not self.covered or self.black_hole or self.scheduler.now < self._stall_until

    def clear_at(self) -> float:
        """Return the earliest time at which data can pass again, as far as known."""
        if self.black_hole:
            return self.scheduler.now + 1000
        until = self._stall_until
        if not self.covered:
            until = max(until, self._out_until)
        return max(until, self.scheduler.now)

    def departure(self, direction: str, size: int) -> float:
        """Return the time at which the last of `size` bytes leaves, after all data queued before."""
        kbps = self.profile.up_kbps if direction == "up" else self.profile.down_kbps
        start = max(self.scheduler.now, self._busy[direction])
        self._busy[direction] = start + size * 8 / kbps
        return self._busy[direction]

    def sleep(self) -> None:
        """Let the radio go idle, as after silence."""
        self._active = self.scheduler.now - _IDLE_MS - 1

    def promotion(self) -> float:
        """Return the delay of a packet for the promotion of an idle radio."""
        now = self.scheduler.now
        if now - self._active > _IDLE_MS:
            self._connected = now + self.promotion_ms
        self._active = now
        return max(0.0, self._connected - now)

    def delay(self, chance: random.Random | None = None) -> float:
        """Return a one-way delay.

        Args:
            chance: Generator of the jitter; None uses the network's generator.
        """
        return self.profile.rtt_ms / 2 + (chance or self.random).random() * self.profile.jitter_ms / 2

    def redial(self, connection: Connection, host: str, port: int) -> None:
        """Change the peer of a UDP socket."""
        connection.remote = self._dial("UDP", host, port, connection)

    def connect(self, kind: str, host: str, port: int, on_connected: Callable[[Connection | None], None]) -> None:
        """Open a connection; `done` gets it, or None if it is refused or nothing passes."""
        if self.stalled():
            self.scheduler.after(5000, lambda: on_connected(None))
            return
        connection = Connection(self, kind)
        if not host:  # a UDP socket that has no peer yet
            self.connections.add(connection)
            on_connected(connection)
            return
        remote = self._dial(kind, host, port, connection)
        if remote is None:
            self.scheduler.after(self.profile.rtt_ms, lambda: on_connected(None))
            return
        connection.remote = remote
        self.connections.add(connection)
        self.scheduler.after(0 if kind == "UDP" else 2 * self.delay(), lambda: on_connected(connection))
