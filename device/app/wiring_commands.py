"""Commands of the hub. Loaded only on boards with a camera or sound: others support none."""

from agent.link.audit_log import AuditLog
from agent.link.commands import Commands


class _UnixClock:
    def __init__(self, reporter, now_ms):
        self._reporter = reporter
        self._now_ms = now_ms

    def unix_ms(self):
        return self._reporter.unix_ms(self._now_ms())


def build_commands(state_dir, hal, reporter, now_ms):
    """Return the agent.link.commands.Commands.

    Args:
        state_dir: Directory of the device's state.
        hal: The platform.
        reporter: agent.tracking.reporter.Reporter.
        now_ms: Function that returns monotonic milliseconds.
    """
    audit_log = AuditLog(hal.Files(state_dir + "/audit"))
    return Commands(reporter, audit_log, _UnixClock(reporter, now_ms).unix_ms)
