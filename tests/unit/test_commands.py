"""Commands of the hub: written down before they are done, answered whatever becomes of them."""

import patrolink_messages as m
from agent.link import commands
from agent.link.audit_log import AuditLog
from agent.link.commands import Commands
from memory_storage import MemoryFiles


class Reporter:
    def __init__(self):
        self.sent = []

    def send(self, kind, values):
        self.sent.append((kind, values))


class Desk:
    def __init__(self, now=1000):
        self.files = MemoryFiles()
        self.reporter = Reporter()
        self.now = now
        self.done = []
        self.commands = Commands(self.reporter, AuditLog(self.files), lambda: self.now)
        self.commands.duties = {commands.CALL: self.call}

    def call(self, message):
        assert b"chief" in self.files.data["audit"][-20:]  # written down first
        self.done.append(message["number"])
        return commands.DONE, "harbour", 12

    def lines(self):
        return bytes(self.files.data.get("audit", b"")).split(b"\n")[:-1]

    def give(self, **more):
        message = {"command_id": 7, "action": commands.CALL, "expires_ms": 2000, "operator": "chief", "number": 4}
        message.update({"name": "", "value": ""})
        message.update(more)
        self.commands.take(message)
        kind, values = self.reporter.sent[-1]
        assert kind == m.ANSWER and values["command_id"] == 7
        return values["result"]


def test_a_command_is_written_down_done_and_answered():
    desk = Desk()
    assert desk.give() == commands.DONE and desk.done == [4]
    assert desk.reporter.sent[-1][1]["ref"] == 12
    assert desk.reporter.sent[-1][1]["text"] == b"harbour" and desk.reporter.sent[-1][1]["time_ms"] == 1000
    assert desk.lines() == [b"1000\t6\tchief\t4", b"1000\t6\tchief\tresult\t0\tharbour"]


def test_a_duty_that_needs_a_while_answers_later():
    desk = Desk()
    kept = []
    desk.commands.duties = {commands.CALL: kept.append}
    message = {"command_id": 7, "action": commands.CALL, "expires_ms": 2000, "operator": "chief", "number": 4}
    desk.commands.take(message)
    assert kept == [message] and desk.reporter.sent == [] and len(desk.lines()) == 1
    desk.now = 1700
    desk.commands.answer(kept[0], commands.DONE, "", 5)
    ((_, values),) = desk.reporter.sent
    assert (values["command_id"], values["result"], values["ref"], values["time_ms"]) == (7, commands.DONE, 5, 1700)
    assert desk.lines()[1] == b"1700\t6\tchief\tresult\t0\t"


def test_what_is_late_or_unknown_is_not_done():
    desk = Desk()
    assert desk.give(expires_ms=999) == commands.EXPIRED
    assert desk.give(action=9) == commands.UNSUPPORTED
    assert desk.done == [] and len(desk.lines()) == 2
    desk.now = None  # the time is not known: what cannot be judged by it is judged by its counter alone
    assert desk.give() == commands.DONE


def test_what_cannot_be_written_down_is_not_done():
    desk = Desk()
    desk.files.full = 10
    assert desk.give() == commands.FAILED and desk.done == []


def test_the_log_is_bounded_and_a_line_stays_a_line():
    desk = Desk()
    desk.give(operator="chief\n0\tme\x7f")
    assert desk.lines()[0] == b"1000\t6\tchief?0?me?\t4"
    for _ in range(800):
        desk.give()
        desk.reporter.sent.clear()
    assert sorted(desk.files.data) == ["audit", "audit.old"]
    assert all([len(data) <= 16384 for data in desk.files.data.values()])
    assert desk.lines()[-1] == b"1000\t6\tchief\tresult\t0\tharbour"
