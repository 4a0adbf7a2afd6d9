"""Pytest plugin: print where the CPU time of a test run goes.

python -m pytest -p tests.support.cpu_times FILES

Counts user and system time of the tests' process and of the processes that it waited for. What a fixture of a module
or session starts counts for the first test that needs it, and a server that lives on for the test that ends it.
"""

import os
from collections import Counter

import pytest

_TESTS, _MODULES = 40, 60  # lines printed


class CpuTimes:
    """Sums the CPU time between the reports of tests; a worker of pytest-xdist sends its part with each report."""

    def __init__(self) -> None:
        self._last_s = 0.0
        self._tests: Counter[str] = Counter()

    def pytest_runtest_logstart(self) -> None:
        """Leave out what was computed between two tests: collection, and reports of workers."""
        self._last_s = _cpu_s()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self):
        """Add the CPU time since the last report to the report of a phase."""
        report = (yield).get_result()
        now_s = _cpu_s()
        report.cpu_s, self._last_s = now_s - self._last_s, now_s

    def pytest_runtest_logreport(self, report) -> None:
        """Sum the phases of a test, of all workers."""
        self._tests[report.nodeid.split("@")[0]] += getattr(report, "cpu_s", 0)

    def pytest_terminal_summary(self, terminalreporter) -> None:
        """Print the tests and modules that cost most, and the sum."""
        modules: Counter[str] = Counter()
        for name, seconds in self._tests.items():
            modules[name.split("::")[0]] += seconds
        terminalreporter.section("CPU seconds")
        for counter, limit in ((self._tests, _TESTS), (modules, _MODULES)):
            for name, seconds in counter.most_common(limit):
                terminalreporter.write_line(f"{seconds:8.2f} {name}")
        total_s = sum(self._tests.values())
        terminalreporter.write_line(f"{total_s:8.2f} in {len(self._tests)} tests of {len(modules)} modules")


def pytest_configure(config) -> None:
    """Start to measure."""
    config.pluginmanager.register(CpuTimes())


def _cpu_s() -> float:
    return sum(os.times()[:4])
