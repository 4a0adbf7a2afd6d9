"""What a hub counts, as JSON and as Prometheus text (exposition format 0.0.4)."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

_SUB = 3  # bits: eight steps to each doubling, so that a quantile is at most an eighth too high
_PREFIX = "patrolink_hub_"
_BOUNDS_US = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class Histogram:
    """Durations in microseconds, in steps of an eighth of their size."""

    def __init__(self) -> None:
        self._counts = [0] * (40 << _SUB)
        self.count = 0
        self.sum_us = 0

    def add(self, us: int) -> None:
        """Count one."""
        us = max(us, 1 << _SUB)
        shift = us.bit_length() - _SUB - 1
        self._counts[min((shift << _SUB) + (us >> shift), len(self._counts) - 1)] += 1
        self.count += 1
        self.sum_us += us

    def _steps(self) -> Iterator[tuple[int, int]]:
        """Yield each step's upper end with its count."""
        for i, count in enumerate(self._counts):
            if count:
                shift = (i >> _SUB) - 1
                yield ((i & (1 << _SUB) - 1) + (1 << _SUB) + 1) << shift, count

    def quantile(self, part: float) -> int | None:
        """Return the duration that this part of all does not exceed; None when there was none."""
        wanted = part * self.count
        seen = 0
        for end, count in self._steps():
            seen += count
            if seen >= wanted:
                return end
        return None

    def below(self, us: int) -> int:
        """Return how many took at most this long, as far as the steps tell."""
        return sum(count for end, count in self._steps() if end <= us)

    def summary(self) -> dict[str, Any]:
        """Return count and quantiles as JSON-ready data."""
        quantiles = {f"p{part}_us": self.quantile(part / 100) for part in (50, 95, 99)}
        return {"count": self.count, **quantiles}


class Metrics:
    """
    refused   datagrams that were not taken, by reason
    counts    everything else that is counted
    relay     from a voice packet's arrival in the kernel to the last copy that was sent
    gauges    functions that say how things are now
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.relay = Histogram()
        self.gauges: dict[str, Callable[[], int]] = {}

    def summary(self) -> dict[str, Any]:
        """Return all as JSON-ready data."""
        return {
            **{name: read() for name, read in self.gauges.items()},
            **dict(sorted(self.counts.items())),
            "refused": dict(sorted(self.refused.items())),
            "relay": self.relay.summary(),
        }

    def prometheus(self) -> str:
        """Return all in Prometheus's text format."""
        lines = []
        for name, read in self.gauges.items():
            lines += [f"# TYPE {_PREFIX}{name} gauge", f"{_PREFIX}{name} {read()}"]
        for name, count in sorted(self.counts.items()):
            lines += [f"# TYPE {_PREFIX}{name}_total counter", f"{_PREFIX}{name}_total {count}"]
        lines.append(f"# TYPE {_PREFIX}refused_total counter")
        for reason, count in sorted(self.refused.items()):
            lines.append(f'{_PREFIX}refused_total{{reason="{reason}"}} {count}')
        name = f"{_PREFIX}relay_seconds"
        lines.append(f"# TYPE {name} histogram")
        for us in _BOUNDS_US:
            lines.append(f'{name}_bucket{{le="{us / 1e6:g}"}} {self.relay.below(us)}')
        lines.append(f'{name}_bucket{{le="+Inf"}} {self.relay.count}')
        lines += [f"{name}_sum {self.relay.sum_us / 1e6:.6f}", f"{name}_count {self.relay.count}"]
        return "\n".join(lines) + "\n"
