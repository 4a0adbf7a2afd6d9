"""AT command channel: answers, URCs, payloads, timeouts and invalid input."""

from agent.modem import at
from agent.modem.at import AtChannel, Command
from seeded_random import seeded


class ChannelHarness:
    """An AtChannel, with a record of written bytes and of URCs."""

    def __init__(self):
        self.written = bytearray()
        self.urcs = []
        self.now_ms = 0
        self.channel = AtChannel(self.written.extend, self.urcs.append)

    def run(self, command, answer, chunk=1000):
        """Submit a command, deliver its answer in chunks, and return the command."""
        self.channel.submit(command)
        self.channel.poll(self.now_ms)
        self.deliver(answer, chunk)
        return command

    def deliver(self, data, chunk=1000):
        for i in range(0, len(data), chunk):
            part = data[i : i + chunk]
            self.channel.feed(part, len(part), self.now_ms)

    def wait(self, ms):
        self.now_ms += ms
        self.channel.poll(self.now_ms)


def test_chunk_length_does_not_change_lines_and_result():
    for chunk in (1, 2, 3, 7, 1000):
        harness = ChannelHarness()
        command = harness.run(
            Command(b"AT+CREG?", prefix=b"+CREG:"), b'AT+CREG?\r\r\n+CREG: 2,1,"1A2B","01"\r\n\r\nOK\r\n', chunk
        )
        assert command.result == at.OK and command.lines == [b'+CREG: 2,1,"1A2B","01"'] and harness.urcs == []
        assert at.fields(command.lines[0]) == [2, 1, b"1A2B", b"01"]
        assert bytes(harness.written) == b"AT+CREG?\r"


def test_error_results_have_their_code():
    for answer, code in (
        (b"ERROR", -1),
        (b"+CME ERROR: 10", 10),
        (b"+CMS ERROR: 500", 500),
        (b"+CME ERROR: SIM not inserted", -1),
        (b"+CME ERROR: 99999999999", -1),
    ):
        command = ChannelHarness().run(Command(b"AT+CPIN?"), b"\r\n" + answer + b"\r\n")
        assert command.result == at.ERROR and command.code == code, answer


def test_urc_within_an_answer_is_separated():
    harness = ChannelHarness()
    command = harness.run(
        Command(b"AT+CSQ", prefix=b"+CSQ:"), b'\r\n+QIURC: "recv",0\r\n\r\n+CSQ: 21,99\r\n\r\n+CREG: 1\r\n\r\nOK\r\n'
    )
    assert command.result == at.OK and command.lines == [b"+CSQ: 21,99"]
    assert harness.urcs == [b'+QIURC: "recv",0', b"+CREG: 1"]


def test_payload_is_sent_once_at_the_prompt():
    harness = ChannelHarness()
    command = harness.run(Command(b"AT+QISEND=0,5", payload=b"he>lo", final=b"SEND OK"), b"\r\n> ")
    assert bytes(harness.written) == b"AT+QISEND=0,5\rhe>lo" and command.result is None
    harness.deliver(b"> more")  # a second prompt
    harness.deliver(b'\r\n+QIURC: "recv",1\r\nSEND OK\r\n')
    assert command.result == at.OK and harness.written.count(b"he>lo") == 1
    assert harness.urcs[-1] == b'+QIURC: "recv",1'
    command = harness.run(Command(b"AT+QISEND=0,5", payload=b"x", final=b"SEND OK"), b"\r\nSEND FAIL\r\n")
    assert command.result == at.ERROR and command.buffer_full


def test_binary_payload_with_result_codes_is_received_unchanged():
    payload = b"\r\nOK\r\n> ERROR\r\n\x00\xff"
    for chunk in (1, 3, 1000):
        harness = ChannelHarness()
        sink = bytearray(64)
        command = Command(b"AT+QIRD=0,64", prefix=b"+QIRD:", payload_length=lambda line: at.fields(line)[0], sink=sink)
        harness.run(command, b"\r\n+QIRD: %d\r\n" % len(payload) + payload + b"\r\n\r\nOK\r\n", chunk)
        assert command.result == at.OK and bytes(sink[: command.received]) == payload and command.overflow == 0
    sink = bytearray(4)
    command = Command(b"AT+QIRD=0,64", prefix=b"+QIRD:", payload_length=lambda line: at.fields(line)[0], sink=sink)
    ChannelHarness().run(command, b"\r\n+QIRD: 6\r\nabcdef\r\nOK\r\n")
    assert command.result == at.OK and bytes(sink) == b"abcd" and command.overflow == 2


def test_late_answer_after_a_timeout_is_discarded():
    harness = ChannelHarness()
    first = harness.run(Command(b"AT+COPS?", 1000), b"")
    second = harness.channel.submit(Command(b"AT+CSQ", 1000, b"+CSQ:"))
    harness.wait(999)
    assert first.result is None
    harness.wait(1)
    assert first.result == at.TIMEOUT and harness.channel.timeouts == 1
    harness.wait(400)
    harness.deliver(b"\r\n+COPS: 0\r\n\r\nOK\r\n")
    harness.wait(499)
    assert b"CSQ" not in harness.written
    harness.wait(1)
    assert harness.written.endswith(b"AT+CSQ\r") and second.result is None and harness.channel.stray == 1
    harness.deliver(b"\r\n+CSQ: 5,99\r\nOK\r\n")
    assert second.result == at.OK and second.lines == [b"+CSQ: 5,99"] and harness.channel.is_idle()


def test_commands_run_one_at_a_time_and_the_queue_is_bounded():
    harness = ChannelHarness()
    commands = [harness.channel.submit(Command(b"AT%d" % i)) for i in range(8)]
    try:
        harness.channel.submit(Command(b"AT"))
        raise AssertionError("a ninth command was queued")
    except at.QueueFullError:
        pass
    for i, command in enumerate(commands):
        harness.wait(1)
        assert bytes(harness.written).endswith(b"AT%d\r" % i) and harness.written.count(b"\r") == i + 1
        harness.deliver(b"\r\nOK\r\n")
        assert command.result == at.OK
    assert harness.channel.is_idle()


def test_long_line_and_many_lines_are_bounded():
    harness = ChannelHarness()
    command = harness.run(Command(b"AT", 1000), b"x" * 100000)
    assert harness.channel.truncated == 1 and command.result is None
    harness.deliver(b"\r\nOK\r\n")
    assert command.result == at.OK
    command = harness.run(Command(b"ATI", prefix=b""), b"\r\n".join([b"line"] * 1000) + b"\r\nOK\r\n")
    assert command.result == at.OK and len(command.lines) == 16


def test_every_command_ends_for_random_input():
    words = (
        b"OK",
        b"ERROR",
        b"\r\n",
        b"> ",
        b"+CME ERROR: 3",
        b"+QIRD: 5",
        b"\xff\x00",
        b"AT",
        b"+CREG: 1",
        b"\n",
        b"-",
    )
    for seed in range(1, 60):
        below = seeded(seed)
        harness = ChannelHarness()
        for _ in range(20):
            command = Command(
                b"AT+QIRD=0",
                500,
                b"+QIRD:",
                b"data" if below(2) else None,
                payload_length=lambda line, below=below: below(9),
                sink=bytearray(8),
            )
            harness.channel.submit(command)
            for _ in range(200):
                harness.wait(below(40))
                if command.result is not None:
                    break
                harness.deliver(words[below(len(words))])
            else:
                harness.wait(2000)
                harness.wait(1)
            assert command.result in (at.OK, at.ERROR, at.TIMEOUT), seed
            harness.wait(600)
