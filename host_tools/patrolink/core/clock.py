"""Clocks as injected dependencies: the time of day and a monotonic time, in milliseconds."""

import time
from typing import Protocol


class Clock(Protocol):
    """Source of time. The hub gets one in its constructor, so that it can run in simulated time."""

    def unix_ms(self) -> int:
        """Return the time of day in milliseconds since 1970-01-01 UTC."""

    def unix_ns(self) -> int:
        """Return the time of day in nanoseconds since 1970-01-01 UTC."""

    def monotonic_ms(self) -> int:
        """Return milliseconds since an arbitrary start. The value never decreases."""


class SystemClock:
    """The clocks of the operating system."""

    def unix_ms(self) -> int:
        """Return the time of day in milliseconds since 1970-01-01 UTC."""
        return unix_ms()

    unix_ns = staticmethod(time.time_ns)  # called for every voice packet

    def monotonic_ms(self) -> int:
        """Return milliseconds since an arbitrary start. The value never decreases."""
        return monotonic_ms()


def unix_ms() -> int:
    """Return the operating system's time of day in milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Return the operating system's monotonic time in milliseconds."""
    return time.monotonic_ns() // 1_000_000
