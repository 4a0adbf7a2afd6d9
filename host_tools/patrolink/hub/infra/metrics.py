"""Counters, gauges and histograms of a hub, as JSON and in Prometheus's text format (exposition format 0.0.4)."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

_SUB_BITS = 3  # eight bins per power of two: a quantile is at most an eighth too high
_PREFIX = "patrolink_hub_"
_BOUNDS_US = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class Histogram:
    """Histogram of durations in microseconds. The width of a bin is an eighth of its value."""

    def __init__(self) -> None:
        self._bins = [0] * (40 << _SUB_BITS)
        self.count = 0
        self.sum_us = 0

    def add(self, us: int) -> None:
        """Count one duration."""
        us = max(us, 1 << _SUB_BITS)
        shift = us.bit_length() - _SUB_BITS - 1
        self._bins[min((shift << _SUB_BITS) + (us >> shift), len(self._bins) - 1)] += 1
        self.count += 1
        self.sum_us += us

    def _filled_bins(self) -> Iterator[tuple[int, int]]:
        """Yield the upper end in microseconds and the count of each bin that is not empty."""
        for i, count in enumerate(self._bins):
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

    def summary(self) -> dict[str, Any]:
        """Return all metrics as JSON-ready data."""
        return {
            **{name: read() for name, read in self.gauges.items()},
            **dict(sorted(self.counts.items())),
            "refused": dict(sorted(self.refused.items())),
            "relay": self.relay.summary(),
        }

    def prometheus(self) -> str:
        """Return all metrics in Prometheus's text format."""
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
