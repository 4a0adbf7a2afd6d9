"""Certification mode. It takes heap and is loaded with the first request of a tester."""

from agent.certification import Certification
from agent.link.audit_log import AuditLog
from patrolink_protocol.native import const

_LOG_FILE_MAX = const(4096)


def build_certification(state_dir, hal, reporter, downlink, now_ms, log):
    """Return the agent.certification.Certification.

    Args:
        state_dir: Folder of the device's state.
        hal: The platform.
        reporter: agent.tracking.reporter.Reporter.
        downlink: agent.link.downlink.Downlink.
        now_ms: Function that returns monotonic milliseconds.
        log: Function of one string; the wearer sees its lines.
    """
    audit_log = AuditLog(hal.Files(state_dir + "/audit"), "certify", _LOG_FILE_MAX)

    def audit(*fields):
        return audit_log.append(reporter.clock.unix_ms(now_ms()) or 0, *fields)

    return Certification(downlink, reporter.send, audit, log, hal.reset, now_ms)
