"""The hub of a district as a process on the virtual clock: started, stopped, killed and restarted by a supervisor."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patrolink.core.capture import Record
from patrolink.core.errors import UserError
from patrolink.emulator.network.site_broker import SiteBroker
from patrolink.emulator.network.virtual_tcp import TcpExchange
from patrolink.emulator.network.virtual_udp import UdpExchange
from patrolink.emulator.scenarios.district.invariants import Monitor
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.virtual_loop import VirtualLoop, dispose
from patrolink.emulator.virtual_platform import Machine, VirtualClock, VirtualPlatform
from patrolink.emulator.virtual_storage import VirtualStorage
from patrolink.hub.app import Hub
from patrolink.hub.config import HubContext

_RESTART_MS = 2000  # as the service manager does
_SETTLED_MS = 60_000  # after which a hub has heard of all devices again
_LIVES_MAX = 8  # whose memory is kept: to give it back takes a garbage collection


class HubProcess:
    """A hub and its supervisor.

    Args:
        site: The site file.
        seed: Seed of its keys.
        on_ready: Called with the hub and its loop when it serves.
        on_replaced: Called with the path of a file that the hub has replaced.

    Attributes:
        tcp: TCP connections to the hub.
        hub: The hub while it serves, else None.
        lives: Number of starts.
    """

    def __init__(
        self,
        site: Path,
        seed: int,
        scheduler: Scheduler,
        broker: SiteBroker,
        exchange: UdpExchange,
        monitor: Monitor,
        unix_ms: Callable[[], int],
        on_ready: Callable[[Hub, VirtualLoop], None],
        on_replaced: Callable[[Path], None],
    ) -> None:
        self._site, self._scheduler, self._monitor, self._on_ready = site, scheduler, monitor, on_ready
        self._exchange, self.clock = exchange, VirtualClock(scheduler, unix_ms)
        self.tcp = TcpExchange()
        self._machine = Machine(self.clock, random.Random(f"{seed} hub"), broker, exchange, self.tcp)
        self._platform: VirtualPlatform | None = None  # of the current life
        self.storage = VirtualStorage(self.kill, self._spend, on_replaced)
        self.hub: Hub | None = None
        self.lives = 0
        self.ready_at_ms = 0.0
        self._loop: VirtualLoop | None = None
        self._loops: list[VirtualLoop] = []  # of the lives that are not disposed of
        self._stop: asyncio.Future[Any] | None = None
        self._replay_file = site.parent / "state" / "shard-0" / "replay.bin"
        self._replay_windows: bytes | None = (
            None  # as they were when the hub was killed: what is left of a callback runs
        )
        self._serving: Hub | None = None  # also while it starts and ends

    def start(self) -> None:
        """Start the hub now."""
        if len(self._loops) >= _LIVES_MAX:
            self._dispose_lives()
        if self._replay_windows is not None:
            self._replay_file.write_bytes(self._replay_windows)
            self._replay_windows = None
        self.lives += 1
        self._monitor.hub_started()
        loop = self._loop = VirtualLoop(self._scheduler, self._on_exception)  # type: ignore[abstract]
        self._stop = loop.create_future()
        self._loops.append(loop)
        platform = self._platform = VirtualPlatform(self._machine, loop, self._deliver)
        loop.create_task(self._run(loop, platform, self._stop))

    async def _run(self, loop: VirtualLoop, platform: VirtualPlatform, stop: "asyncio.Future[Any]") -> None:
        try:
            hub = Hub(HubContext(self._site, None), platform)
            self._serving = hub
            await hub.run(stop, lambda facts: self._ready(hub, loop))
        except (UserError, OSError) as e:
            if loop.is_closed():  # it was killed: what is left of the callback runs, and `kill` starts the hub again
                return
            self._monitor.sums["hub_start_failures"] += 1
            self._monitor.trace("hub start failed", str(e))
        loop.kill()
        self.hub = None
        platform.end()
        self._scheduler.after(_RESTART_MS, self.start)

    def _ready(self, hub: Hub, loop: VirtualLoop) -> None:
        self.hub = hub
        self.ready_at_ms = self._scheduler.now
        self._on_ready(hub, loop)

    @property
    def settled(self) -> Hub | None:
        """The hub if it has served for some time, else None."""
        return self.hub if self._scheduler.now - self.ready_at_ms >= _SETTLED_MS else None

    def _on_exception(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._monitor.violate("hub", f"{context['message']}: {type(error).__name__}: {error}")

    def _deliver(self, on_record: Callable[[Record], None], record: Record) -> None:
        """Give the hub a frame, and report to the monitor whether it accepted the frame."""
        hub = self._serving
        assert hub is not None
        counts, refused = hub.metrics.counts, hub.metrics.refused
        accepted, repeated, barred = counts["frames"], counts["frames_repeated"], refused["frame barred"]
        refused_before = Counter(refused)
        on_record(record)
        reasons = ", ".join(refused - refused_before)
        if reasons:
            self._monitor.frame_refused(record.device, record.frame, reasons)
        if self._loop is None or self._loop.is_closed():
            return  # it was killed meanwhile, and gets the frame again
        if refused["frame barred"] > barred:
            self._monitor.frame_barred(record.device, record.frame)
        elif counts["frames"] > accepted:
            self._monitor.frame_processed(record.device, record.frame, counts["frames_repeated"] > repeated)

    def _spend(self, ms: float) -> None:
        if self._loop is not None:
            self._loop.spend(ms)

    def stop(self) -> None:
        """Stop the hub as a service manager does: it ends in order and is started again."""
        if self.hub is not None and self._stop is not None and not self._stop.done():
            self._monitor.sums["hub_stops"] += 1
            self._stop.set_result(None)

    def kill_in_write(self, calls: int) -> None:
        """Kill the hub after a number of system calls that write, or after 5 s."""
        life = self.lives
        self.storage.kill_after = calls

        def kill_late() -> None:
            self.storage.kill_after = None
            if self.lives == life:
                self.kill()

        self._scheduler.after(5000, kill_late)

    def kill(self) -> None:
        """Kill the hub. It is started again."""
        if self._loop is None or self._loop.is_closed():
            return
        self._monitor.sums["hub_kills"] += 1
        self._monitor.trace("hub killed")
        self._loop.kill()
        if self._replay_file.exists():
            self._replay_windows = self._replay_file.read_bytes()
        self.hub = None
        assert self._platform is not None
        self._platform.end()
        self._scheduler.after(_RESTART_MS, self.start)

    def dispose(self) -> None:
        """Drop all lives, at the end of a simulation."""
        self._exchange.close()
        self._dispose_lives()

    def _dispose_lives(self) -> None:
        dispose(self._loops)
        self._loops.clear()
