from agent.modem import at
from agent.modem.at import AtChannel, Command
from seeded_random import seeded


class Line:
    """A channel with what it wrote and what came unasked."""

    def __init__(self):
        self.wrote = bytearray()
        self.urcs = []
        self.now = 0
        self.channel = AtChannel(self.wrote.extend, self.urcs.append)

    def run(self, command, answer, piece=1000):
        self.channel.submit(command)
        self.channel.poll(self.now)
        self.say(answer, piece)
        return command

    def say(self, data, piece=1000):
        for i in range(0, len(data), piece):
            part = data[i : i + piece]
            self.channel.feed(part, len(part), self.now)

    def wait(self, ms):
        self.now += ms
        self.channel.poll(self.now)


def test_lines_and_final_result_in_any_pieces():
    for piece in (1, 2, 3, 7, 1000):
        line = Line()
        c = line.run(
            Command(b"AT+CREG?", prefix=b"+CREG:"), b'AT+CREG?\r\r\n+CREG: 2,1,"1A2B","01"\r\n\r\nOK\r\n', piece
        )
        assert c.result == at.OK and c.lines == [b'+CREG: 2,1,"1A2B","01"'] and line.urcs == []
        assert at.numbers(c.lines[0]) == [2, 1, b"1A2B", b"01"]
        assert bytes(line.wrote) == b"AT+CREG?\r"


def test_errors_and_their_codes():
    for answer, code in (
        (b"ERROR", -1),
        (b"+CME ERROR: 10", 10),
        (b"+CMS ERROR: 500", 500),
        (b"+CME ERROR: SIM not inserted", -1),
        (b"+CME ERROR: 99999999999", -1),
    ):
        c = Line().run(Command(b"AT+CPIN?"), b"\r\n" + answer + b"\r\n")
        assert c.result == at.ERROR and c.code == code, answer


def test_a_urc_in_the_middle_of_an_answer():
    line = Line()
    c = line.run(
        Command(b"AT+CSQ", prefix=b"+CSQ:"), b'\r\n+QIURC: "recv",0\r\n\r\n+CSQ: 21,99\r\n\r\n+CREG: 1\r\n\r\nOK\r\n'
    )
    assert c.result == at.OK and c.lines == [b"+CSQ: 21,99"]
    assert line.urcs == [b'+QIURC: "recv",0', b"+CREG: 1"]


def test_a_payload_at_the_prompt():
    line = Line()
    c = line.run(Command(b"AT+QISEND=0,5", payload=b"he>lo", final=b"SEND OK"), b"\r\n> ")
    assert bytes(line.wrote) == b"AT+QISEND=0,5\rhe>lo" and c.result is None
    line.say(b"> more")  # a second prompt sends nothing
    line.say(b'\r\n+QIURC: "recv",1\r\nSEND OK\r\n')
    assert c.result == at.OK and line.wrote.count(b"he>lo") == 1 and line.urcs[-1] == b'+QIURC: "recv",1'
    c = line.run(Command(b"AT+QISEND=0,5", payload=b"x", final=b"SEND OK"), b"\r\nSEND FAIL\r\n")
    assert c.result == at.ERROR


def test_a_binary_payload_that_looks_like_an_answer():
    inside = b"\r\nOK\r\n> ERROR\r\n\x00\xff"
    for piece in (1, 3, 1000):
        line = Line()
        sink = bytearray(64)
        c = Command(b"AT+QIRD=0,64", prefix=b"+QIRD:", raw=lambda text: at.numbers(text)[0], sink=sink)
        line.run(c, b"\r\n+QIRD: %d\r\n" % len(inside) + inside + b"\r\n\r\nOK\r\n", piece)
        assert c.result == at.OK and bytes(sink[: c.received]) == inside and c.missed == 0
    sink = bytearray(4)
    c = Command(b"AT+QIRD=0,64", prefix=b"+QIRD:", raw=lambda text: at.numbers(text)[0], sink=sink)
    Line().run(c, b"\r\n+QIRD: 6\r\nabcdef\r\nOK\r\n")
    assert c.result == at.OK and bytes(sink) == b"abcd" and c.missed == 2


def test_silence_is_a_timeout_and_a_late_answer_is_nobodys():
    line = Line()
    first = line.run(Command(b"AT+COPS?", 1000), b"")
    second = line.channel.submit(Command(b"AT+CSQ", 1000, b"+CSQ:"))
    line.wait(999)
    assert first.result is None
    line.wait(1)
    assert first.result == at.TIMEOUT and line.channel.timeouts == 1
    line.wait(400)
    line.say(b"\r\n+COPS: 0\r\n\r\nOK\r\n")
    line.wait(499)
    assert b"CSQ" not in line.wrote
    line.wait(1)
    assert line.wrote.endswith(b"AT+CSQ\r") and second.result is None and line.channel.stray == 1
    line.say(b"\r\n+CSQ: 5,99\r\nOK\r\n")
    assert second.result == at.OK and second.lines == [b"+CSQ: 5,99"] and line.channel.idle()


def test_commands_go_one_by_one_and_the_queue_is_bounded():
    line = Line()
    commands = [line.channel.submit(Command(b"AT%d" % i)) for i in range(8)]
    try:
        line.channel.submit(Command(b"AT"))
        raise AssertionError("took a ninth")
    except at.QueueFull:
        pass
    for i, c in enumerate(commands):
        line.wait(1)
        assert bytes(line.wrote).endswith(b"AT%d\r" % i) and line.wrote.count(b"\r") == i + 1
        line.say(b"\r\nOK\r\n")
        assert c.result == at.OK
    assert line.channel.idle()


def test_a_modem_that_never_ends_a_line():
    line = Line()
    c = line.run(Command(b"AT", 1000), b"x" * 100000)
    assert line.channel.cut == 1 and c.result is None
    line.say(b"\r\nOK\r\n")
    assert c.result == at.OK
    c = line.run(Command(b"ATI", prefix=b""), b"\r\n".join([b"line"] * 1000) + b"\r\nOK\r\n")
    assert c.result == at.OK and len(c.lines) == 16


def test_any_noise_ends_in_an_answer_or_a_timeout():
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
        line = Line()
        for _ in range(20):
            c = Command(
                b"AT+QIRD=0",
                500,
                b"+QIRD:",
                b"data" if below(2) else None,
                raw=lambda t, below=below: below(9),
                sink=bytearray(8),
            )
            line.channel.submit(c)
            for _ in range(200):
                line.wait(below(40))
                if c.result is not None:
                    break
                line.say(words[below(len(words))])
            else:
                line.wait(2000)
                line.wait(1)
            assert c.result in (at.OK, at.ERROR, at.TIMEOUT), seed
            line.wait(600)
