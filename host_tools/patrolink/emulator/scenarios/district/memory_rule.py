"""Memory of agents and hub stays flat: samples are compared with the first one."""

from collections.abc import Callable, Sequence
from typing import Any

from patrolink.core.text import plural
from patrolink.emulator.scenarios.simulation import footprint
from patrolink.emulator.scheduler import Scheduler

_SAMPLE_MS = 1_800_000.0
_BOARDS_MAX = 16  # that are measured
_GROWTH_MAX = 1.25
_AGENT_BYTES, _HUB_BYTES = 32 << 10, 1 << 20  # allowed beyond: queues are fuller at one time than at another


class MemoryRule:
    """Measures memory each half hour.

    Args:
        agents: Functions that return the agent of a device, None without power, by name.
        hub: Returns the hub, None while it does not serve.
        violate: Called with the name of a rule and a text.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        agents: Sequence[tuple[str, Callable[[], Any]]],
        hub: Callable[[], Any],
        violate: Callable[[str, str], None],
    ) -> None:
        self._scheduler, self._violate = scheduler, violate
        step = max(1, len(agents) // _BOARDS_MAX)
        self._sources = [(name, agent, "patrolink.", _AGENT_BYTES) for name, agent in agents[::step]]
        self._sources.append(("the hub", hub, "patrolink.emulator.", _HUB_BYTES))
        self._first: dict[str, int] = {}
        scheduler.after(_SAMPLE_MS, self._sample)

    def _sample(self) -> None:
        self._scheduler.after(_SAMPLE_MS, self._sample)
        for name, source, without, spare in self._sources:
            holder = source()
            if holder is None:
                continue
            size = footprint(holder, without)
            first = self._first.setdefault(name, size)
            if size > first * _GROWTH_MAX + spare:
                self._violate("memory", f"{name} holds {plural(size, 'byte')}; it held {first} before")
