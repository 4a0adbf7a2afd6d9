"""Commands of the hub. Loaded only on boards with a camera or sound: others support none."""

from agent.link.audit_log import AuditLog
from agent.link.commands import Commands
from patrolink_protocol.native import const

_AUDIT_FILE_MAX = const(16384)
_ROUTINE_FILE_MAX = const(4096)


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
    files = hal.Files(state_dir + "/audit")
    audit_log = AuditLog(files, "audit", _AUDIT_FILE_MAX)
    routine_log = AuditLog(files, "routine", _ROUTINE_FILE_MAX)
    return Commands(reporter, audit_log, routine_log, _UnixClock(reporter, now_ms).unix_ms)
