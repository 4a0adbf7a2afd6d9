"""Commands of the hub. Boards without a camera or sound support none, and load this at the first one."""

import patrolink_messages as m
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
        return self._reporter.clock.unix_ms(self._now_ms())


def build_commands(state_dir, hal, reporter, downlink, now_ms):
    """Return the agent.link.commands.Commands, registered with the downlink.

    Args:
        state_dir: Directory of the device's state.
        hal: The platform.
        reporter: agent.tracking.reporter.Reporter.
        downlink: agent.link.downlink.Downlink.
        now_ms: Function that returns monotonic milliseconds.
    """
    files = hal.Files(state_dir + "/audit")
    audit_log = AuditLog(files, "audit", _AUDIT_FILE_MAX)
    routine_log = AuditLog(files, "routine", _ROUTINE_FILE_MAX)
    commands = Commands(reporter, audit_log, routine_log, _UnixClock(reporter, now_ms).unix_ms)
    downlink.add_handlers({m.COMMAND: commands.execute})
    return commands
