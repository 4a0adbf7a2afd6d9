"""Commands of the hub: written to the audit log before they are carried out, and always answered."""

import patrolink_enums as enums
import patrolink_messages as m
from agent.link.audit_log import AuditLog
from agent.link.commands import Commands, Result
from memory_storage import MemoryFiles

CALL = enums.COMMAND_ACTION_CALL
DONE = enums.ANSWER_RESULT_DONE


class FakeReporter:
    """Records the messages that are sent."""

    def __init__(self):
        self.sent = []

    def send(self, kind, values):
        self.sent.append((kind, values))


class CommandHarness:
    """Commands with one handler, a clock and an audit log in memory."""

    def __init__(self, now_ms=1000, handler=None):
        self.files = MemoryFiles()
        self.reporter = FakeReporter()
        self.now_ms = now_ms
        self.executed = []
        logs = AuditLog(self.files, "audit", 16384), AuditLog(self.files, "routine", 4096)
        self.commands = Commands(self.reporter, logs[0], logs[1], self.unix_ms)
        self.commands.add_handlers({CALL: handler or self.call})

    def unix_ms(self):
        return self.now_ms

    def call(self, message):
        name = "audit" if message["value"] else "routine"
        assert b"chief" in self.files.data[name][-20:]  # logged before it is carried out
        self.executed.append(message["number"])
        return Result(DONE, "harbour", 12)

    def audit_lines(self, name="audit"):
        return bytes(self.files.data.get(name, b"")).split(b"\n")[:-1]

    def execute(self, **fields):
        message = {"command_id": 7, "action": CALL, "expires_ms": 2000, "operator": "chief", "number": 4}
        message.update({"name": "", "value": "ambient"})
        message.update(fields)
        self.commands.execute(message)
        kind, values = self.reporter.sent[-1]
        assert kind == m.ANSWER and values["command_id"] == 7
        return values["result"]


def test_a_command_is_logged_carried_out_and_answered():
    harness = CommandHarness()
    assert harness.execute() == DONE and harness.executed == [4]
    values = harness.reporter.sent[-1][1]
    assert values["ref"] == 12 and values["text"] == b"harbour" and values["time_ms"] == 1000
    assert harness.audit_lines() == [b"1000\t6\tchief\t4", b"1000\t6\tchief\tresult\t0\tharbour"]


def test_a_handler_may_answer_later():
    deferred = []
    harness = CommandHarness(handler=deferred.append)
    message = {"command_id": 7, "action": CALL, "expires_ms": 2000, "operator": "chief", "number": 4}
    message["value"] = "ambient"
    harness.commands.execute(message)
    assert deferred == [message] and harness.reporter.sent == [] and len(harness.audit_lines()) == 1
    harness.now_ms = 1700
    harness.commands.answer(deferred[0], Result(DONE, "", 5))
    ((_, values),) = harness.reporter.sent
    assert (values["command_id"], values["result"], values["ref"], values["time_ms"]) == (7, DONE, 5, 1700)
    assert harness.audit_lines()[1] == b"1700\t6\tchief\tresult\t0\t"


def test_an_expired_or_unsupported_command_is_not_carried_out():
    harness = CommandHarness()
    assert harness.execute(expires_ms=999) == enums.ANSWER_RESULT_EXPIRED
    assert harness.execute(action=9) == enums.ANSWER_RESULT_UNSUPPORTED
    assert harness.executed == [] and len(harness.audit_lines("routine")) == len(harness.audit_lines()) == 1


def test_a_command_is_refused_while_the_clock_is_not_set():
    """It may have expired: a hub that was restored, or a broker, may have held it back."""
    harness = CommandHarness(now_ms=None)
    assert harness.execute() == enums.ANSWER_RESULT_REFUSED and harness.executed == []


def test_a_command_that_cannot_be_logged_is_not_carried_out():
    harness = CommandHarness()
    harness.files.full = 10
    assert harness.execute() == enums.ANSWER_RESULT_FAILED and harness.executed == []


def test_the_audit_log_is_bounded_and_each_entry_is_one_line():
    harness = CommandHarness()
    harness.execute(operator="chief\n0\tme\x7f")
    assert harness.audit_lines()[0] == b"1000\t6\tchief?0?me?\t4"
    for _ in range(800):
        harness.execute()
        harness.reporter.sent.clear()
        harness.execute(value="")
    assert sorted(harness.files.data) == ["audit", "audit.old", "routine", "routine.old"]
    assert all([len(harness.files.data[name]) <= 4096 for name in ("routine", "routine.old")])
    assert all([len(data) <= 16384 for data in harness.files.data.values()])
    assert harness.audit_lines()[-1] == b"1000\t6\tchief\tresult\t0\tharbour"


def test_harmless_commands_do_not_displace_entries_of_camera_and_microphone():
    harness = CommandHarness()
    harness.execute()
    for i in range(3000):
        harness.execute(value="", action=(CALL, 8, 99)[i % 3], expires_ms=2000 if i % 2 else 1)
        harness.reporter.sent.clear()
    assert harness.audit_lines() == [b"1000\t6\tchief\t4", b"1000\t6\tchief\tresult\t0\tharbour"]
