"""Counters, gauges and histograms of a hub, as JSON and in Prometheus's text format (exposition format 0.0.4)."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_SUB_BITS = 3  # eight bins per power of two: a quantile is at most an eighth too high
_PREFIX = "patrolink_hub_"
_BOUNDS_US = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class Histogram:
    """Histogram of durations in microseconds. The width of a bin is an eighth of its value.

    Args:
        bins: Counts of another histogram to start with.
        sum_us: Sum of its durations.

    Attributes:
        bins: Count of each bin.
    """

    def __init__(self, bins: list[int] | None = None, sum_us: int = 0) -> None:
        self.bins = list(bins) if bins else [0] * (40 << _SUB_BITS)
        self.count = sum(self.bins)
        self.sum_us = sum_us

    def add(self, us: int) -> None:
        """Count one duration."""
        us = max(us, 1 << _SUB_BITS)
        shift = us.bit_length() - _SUB_BITS - 1
        self.bins[min((shift << _SUB_BITS) + (us >> shift), len(self.bins) - 1)] += 1
        self.count += 1
        self.sum_us += us

    def _filled_bins(self) -> Iterator[tuple[int, int]]:
        """Yield the upper end in microseconds and the count of each bin that is not empty."""
        for i, count in enumerate(self.bins):
            if count:
                shift = (i >> _SUB_BITS) - 1
                yield ((i & (1 << _SUB_BITS) - 1) + (1 << _SUB_BITS) + 1) << shift, count

    def quantile(self, part: float) -> int | None:
        """Return an upper bound in microseconds of the given part (0 to 1) of all durations; None if there are none."""
        rank = part * self.count
        total = 0
        for end_us, count in self._filled_bins():
            total += count
            if total >= rank:
                return end_us
        return None

    def below(self, us: int) -> int:
        """Return how many durations are at most `us`, within the precision of the bins."""
        return sum(count for end_us, count in self._filled_bins() if end_us <= us)

    def summary(self) -> dict[str, Any]:
        """Return count and quantiles as JSON-ready data."""
        quantiles = {f"p{part}_us": self.quantile(part / 100) for part in (50, 95, 99)}
        return {"count": self.count, **quantiles}


class Metrics:
    """All metrics of a hub.

    Attributes:
        refused: Datagrams and requests that were refused, by reason.
        counts: All other counters.
        relay: Time from a voice packet's arrival in the kernel until its last copy was sent.
        gauges: Functions that return current values.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.relay = Histogram()
        self.gauges: dict[str, Callable[[], int]] = {}

    def count_send_error(self, error: OSError) -> None:
        """Count a datagram that was not sent: `send_full` if the socket buffer was full, `send_failed` otherwise."""
        self.counts["send_full" if isinstance(error, BlockingIOError) else "send_failed"] += 1

    def snapshot(self) -> "MetricsSnapshot":
        """Return the current values."""
        gauges = {name: read() for name, read in self.gauges.items()}
        relay = list(self.relay.bins), self.relay.sum_us
        return MetricsSnapshot(gauges, dict(self.counts), dict(self.refused), *relay)


@dataclass(frozen=True)
class MetricsSnapshot:
    """Values of metrics at one time, JSON-ready: of one process, or the sums of several."""

    gauges: dict[str, int]
    counts: dict[str, int]
    refused: dict[str, int]
    relay_bins: list[int]
    relay_sum_us: int

    def merged(self, other: "MetricsSnapshot") -> "MetricsSnapshot":
        """Return the sums with another snapshot."""
        return MetricsSnapshot(
            _sums(self.gauges, other.gauges),
            _sums(self.counts, other.counts),
            _sums(self.refused, other.refused),
            [a + b for a, b in zip(self.relay_bins, other.relay_bins, strict=True)],
            self.relay_sum_us + other.relay_sum_us,
        )

    def summary(self) -> dict[str, Any]:
        """Return all metrics as JSON-ready data."""
        return {
            **self.gauges,
            **dict(sorted(self.counts.items())),
            "refused": dict(sorted(self.refused.items())),
            "relay": Histogram(self.relay_bins, self.relay_sum_us).summary(),
        }

    def prometheus(self) -> str:
        """Return all metrics in Prometheus's text format."""
        lines = []
        for name, value in self.gauges.items():
            lines += [f"# TYPE {_PREFIX}{name} gauge", f"{_PREFIX}{name} {value}"]
        for name, count in sorted(self.counts.items()):
            lines += [f"# TYPE {_PREFIX}{name}_total counter", f"{_PREFIX}{name}_total {count}"]
        lines.append(f"# TYPE {_PREFIX}refused_total counter")
        for reason, count in sorted(self.refused.items()):
            lines.append(f'{_PREFIX}refused_total{{reason="{reason}"}} {count}')
        return "\n".join([*lines, *self._relay_lines()]) + "\n"

    def _relay_lines(self) -> list[str]:
        name, relay = f"{_PREFIX}relay_seconds", Histogram(self.relay_bins, self.relay_sum_us)
        lines = [f"# TYPE {name} histogram"]
        for us in _BOUNDS_US:
            lines.append(f'{name}_bucket{{le="{us / 1e6:g}"}} {relay.below(us)}')
        lines.append(f'{name}_bucket{{le="+Inf"}} {relay.count}')
        return [*lines, f"{name}_sum {relay.sum_us / 1e6:.6f}", f"{name}_count {relay.count}"]


def _sums(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}
