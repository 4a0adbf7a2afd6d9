"""Commands of the hub: each is written to the audit log, done by the duty that owns it, and answered."""

import patrolink_messages as m

DONE, STARTED, REFUSED, UNSUPPORTED, EXPIRED, FAILED, BUSY = range(7)  # answer.result
CALL = 6  # command.action


class Commands:
    """
    duties    {action: function(message) -> (result, text for a person, what `answer.ref` says or None)}; None: whoever
              has the duty will call `answer`
    unix_ms   function() -> unix time in ms, or None while it is not known
    """

    def __init__(self, reporter, audit, unix_ms):
        self._reporter = reporter
        self._audit = audit
        self._unix_ms = unix_ms
        self.duties = {}

    def take(self, message):
        """Act on a genuine command."""
        now = self._unix_ms()
        ref = None
        duty = self.duties.get(message["action"])
        if now is not None and now > message["expires_ms"]:
            result, text = EXPIRED, ""
        elif duty is None:
            result, text = UNSUPPORTED, ""
        elif not self._audit.write(now or 0, message["action"], message["operator"], message["number"]):
            result, text = FAILED, "the audit log cannot be written"
        else:
            told = duty(message)
            if told is None:
                return
            result, text, ref = told
        self.answer(message, result, text, ref)

    def answer(self, message, result, text="", ref=None):
        """Tell the hub, and the audit log, what became of a command."""
        now = self._unix_ms()
        self._audit.write(now or 0, message["action"], message["operator"], "result", result, text)
        values = {
            "command_id": message["command_id"],
            "result": result,
            "time_ms": now,
            "text": text.encode(),
            "ref": ref,
        }
        self._reporter.send(m.ANSWER, values)
