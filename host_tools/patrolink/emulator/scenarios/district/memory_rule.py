"""Memory of agents and hub stays flat: samples are compared with one after a warm-up."""

from collections.abc import Callable, Sequence
from typing import Any

from patrolink.core.text import plural
from patrolink.emulator.footprint import footprint
from patrolink.emulator.scheduler import Scheduler

_WARM_UP_MS = 1_800_000.0
_SAMPLE_MS = 300_000.0
_BOARDS_MAX = 16  # that are measured
_AGENT_GROWTH, _HUB_GROWTH = 1.25, 1.1
# Work in hand: queues are fuller at one time than at another.
_AGENT_BYTES, _HUB_BYTES, _HUB_DEVICE_BYTES = 32 << 10, 64 << 10, 4 << 10
# The hub's lists of clips and recordings grow with what is on its storage; they have limits themselves.
_NOT_OF_HUB = ("patrolink.emulator.", "patrolink.hub.recordings", "patrolink.hub.clips.clip_record")


class MemoryRule:
    """Measures memory every five minutes after the warm-up.

    Args:
        agents: Functions that return the agent of a device, None without power, by name.
        hub: Returns the hub, None unless it has served for some time.
        devices: Number of devices of the hub.
        violate: Called with the name of a rule and a text.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        agents: Sequence[tuple[str, Callable[[], Any]]],
        hub: Callable[[], Any],
        devices: int,
        violate: Callable[[str, str], None],
    ) -> None:
        self._scheduler, self._violate = scheduler, violate
        self._agents, self._hub = agents[:: max(1, len(agents) // _BOARDS_MAX)], hub
        self._hub_bytes = _HUB_BYTES + _HUB_DEVICE_BYTES * devices
        self._first: dict[str, int] = {}
        scheduler.after(_WARM_UP_MS, self._sample)

    def _sample(self) -> None:
        self._scheduler.after(_SAMPLE_MS, self._sample)
        for name, agent in self._agents:
            self._check(name, agent(), ("patrolink.",), _AGENT_GROWTH, _AGENT_BYTES)
        self._check("the hub", self._hub(), _NOT_OF_HUB, _HUB_GROWTH, self._hub_bytes)

    def _check(self, name: str, holder: Any, without: tuple[str, ...], growth: float, spare: int) -> None:
        if holder is None:
            return
        size = footprint(holder, without)
        first = self._first.setdefault(name, size)
        if size > first * growth + spare:
            self._violate("memory", f"{name} holds {plural(size, 'byte')}; it held {first} after the warm-up")
