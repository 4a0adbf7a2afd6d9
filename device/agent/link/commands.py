"""Commands of the hub: each is written to the audit log, carried out by its handler, and answered."""

from collections import namedtuple

import patrolink_enums as enums
import patrolink_messages as m

# Harmless commands, of which many may come. A call with a value opens the microphone and is none of them.
_ROUTINE = (enums.COMMAND_ACTION_CALL, enums.COMMAND_ACTION_PRESERVE_CLIP)

# Outcome of a command: answer.result, a text for a person, and answer.ref or None.
Result = namedtuple("Result", ("code", "text", "ref"))


class Commands:
    """Dispatcher of command messages.

    Args:
        reporter: agent.tracking.reporter.Reporter that sends the answers.
        audit_log: agent.link.audit_log.AuditLog of commands that use camera or microphone or change the device.
        routine_log: The AuditLog of other commands and of unsupported ones, which must not displace the former.
        unix_ms: Function that returns the unix time in milliseconds, or None while it is not known.
    """

    def __init__(self, reporter, audit_log, routine_log, unix_ms):
        self._reporter = reporter
        self._audit_log = audit_log
        self._routine_log = routine_log
        self._unix_ms = unix_ms
        self._handlers = {}

    def add_handlers(self, handlers):
        """Register {action: function(message) -> Result, or None when the handler calls `answer` later}."""
        self._handlers.update(handlers)

    def execute(self, message):
        """Carry out an authenticated command."""
        now_ms = self._unix_ms()
        handler = self._handlers.get(message["action"])
        if now_ms is None:  # whether it has expired cannot be known: it may be an old one that somebody held back
            result = Result(enums.ANSWER_RESULT_REFUSED, "the clock is not set; send it again", None)
        elif now_ms > message["expires_ms"]:
            result = Result(enums.ANSWER_RESULT_EXPIRED, "", None)
        elif handler is None:
            result = Result(enums.ANSWER_RESULT_UNSUPPORTED, "", None)
        elif not self._log_of(message).append(now_ms, message["action"], message["operator"], message["number"]):
            result = Result(enums.ANSWER_RESULT_FAILED, "the audit log cannot be written", None)
        else:
            result = handler(message)
        if result is not None:
            self.answer(message, result)

    def _log_of(self, message):
        action = message["action"]
        is_routine = action not in self._handlers or action in _ROUTINE and not message["value"]
        return self._routine_log if is_routine else self._audit_log

    def answer(self, message, result):
        """Send the Result of a command to the hub and append it to the audit log."""
        now_ms = self._unix_ms()
        log = self._log_of(message)
        log.append(now_ms or 0, message["action"], message["operator"], "result", result.code, result.text)
        values = {
            "command_id": message["command_id"],
            "result": result.code,
            "time_ms": now_ms,
            "text": result.text.encode(),
            "ref": result.ref,
        }
        self._reporter.send(m.ANSWER, values)
