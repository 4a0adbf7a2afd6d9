"""The serial receiver: frames, numbers, damage, copies from the present content, refusals."""

from binascii import crc32
from hashlib import sha256

from agent.update import serial_receiver as sr
from agent.update.provisioned_files import ProvisionedFiles
from compat.inflate_stream import InflateStream
from memory_storage import MemoryFiles, PowerCut

INFO = b'{"board": "b"}'
NEW = bytes([i * 7 & 0xFF for i in range(sr.BLOCK_BYTES + 900)])
OLD = NEW[1500:4000] + b"\x11" * 300


class Line:
    """Bytes for the receiver, and what it answers."""

    def __init__(self, data):
        self._data = memoryview(data)
        self._at = 0
        self.out = b""

    def readinto(self, buffer):
        if self._at + len(buffer) > len(self._data):
            raise EOFError
        buffer[:] = self._data[self._at : self._at + len(buffer)]
        self._at += len(buffer)

    def write(self, data):
        self.out += data


class Target:
    """A board's two contents."""

    def __init__(self, old=b""):
        self.old = old
        self.blocks = {}
        self.header = None
        self.finished = False

    @property
    def source_bytes(self):
        return len(self.old)

    def read_source(self, offset, buffer):
        buffer[:] = self.old[offset : offset + len(buffer)]

    def begin(self, header):
        if header[:1] != b"P":
            raise sr.RefusedError("wrong board")
        self.header = header

    def block_digest(self, index):
        return sha256(self.blocks.get(index, b"")).digest()[: sr.DIGEST_BYTES]

    def write_block(self, index, data):
        if index > 900:
            raise OSError(28)
        self.blocks[index] = bytes(data)

    def finish(self):
        self.finished = True


def stored(data):
    """Return data as a stored block of a stream of raw deflate (RFC 1951, 3.2.4)."""
    n = len(data)
    return b"\0" + n.to_bytes(2, "little") + (n ^ 0xFFFF).to_bytes(2, "little") + data


def frame(number, request, data=None):
    data = stored(request) if data is None else data
    head = number.to_bytes(2, "little") + len(data).to_bytes(2, "little") + len(request).to_bytes(2, "little")
    return bytes([sr.START]) + head + crc32(data, crc32(head)).to_bytes(4, "little") + data


def block(number, *parts):
    """Return a request to write a block of literals (bytes) and copies (offset, length)."""
    request = bytes([sr.BLOCK]) + number.to_bytes(2, "little")
    for part in parts:
        if isinstance(part, bytes):
            request += b"\xff\xff\xff\xff" + len(part).to_bytes(2, "little") + part
        else:
            request += part[0].to_bytes(4, "little") + part[1].to_bytes(2, "little")
    return request


def run(data, target, files=None):
    """Feed a receiver; return its answers as (status, number, data), and the result of `run` or None."""
    line = Line(data)
    receiver = sr.SerialReceiver(line.readinto, line.write, InflateStream, target, lambda: INFO, files)
    restart = None
    try:
        restart = receiver.run()
    except EOFError:
        pass
    answers = []
    out = line.out
    while out:
        assert out[0] == sr.START
        n = int.from_bytes(out[4:6], "little")
        assert crc32(out[10 : 10 + n], crc32(out[1:6])) == int.from_bytes(out[6:10], "little")
        answers.append((out[1:2], int.from_bytes(out[2:4], "little"), out[10 : 10 + n]))
        out = out[10 + n :]
    return answers, restart


OPEN = frame(0xFFFF, b"", b"")  # the numbers wrap: the first request is 0


def session(*requests):
    return OPEN + b"".join([frame(i, request) for i, request in enumerate(requests)])


def test_a_transfer_with_copies():
    target = Target(OLD)
    requests = (
        bytes([sr.INFO]),
        bytes([sr.DIGEST]),
        bytes([sr.BEGIN]) + b"P" * 256,
        block(0, NEW[:1500], (0, 2500), NEW[4000 : sr.BLOCK_BYTES]),
        block(1, NEW[sr.BLOCK_BYTES :]),
        bytes([sr.BLOCKS, 0, 0, 3, 0]),
        bytes([sr.FINISH]),
        bytes([sr.RESTART]),
    )
    answers, restart = run(session(*requests), target)
    assert [status for status, _, _ in answers] == [sr.DONE] * 9
    assert answers[1][2] == INFO
    assert answers[2][2] == len(OLD).to_bytes(4, "little") + sha256(OLD).digest()
    assert target.blocks[0] + target.blocks[1] == NEW
    assert answers[6][2] == b"".join([target.block_digest(i) for i in range(3)])
    assert target.header == b"P" * 256 and target.finished and restart is True


def test_index_of_the_present_content():
    answers, _ = run(session(bytes([sr.INDEX, 0, 0]), bytes([sr.INDEX, 1, 0])), Target(OLD))
    entries = []
    for at in (0, 1024):
        part = OLD[at : at + 1024]
        entries.append(crc32(part).to_bytes(4, "little") + sha256(part).digest()[:4])
    assert answers[1][2] == b"".join(entries) and answers[2][2] == entries[1]


def test_a_frame_that_comes_twice_is_executed_once():
    target = Target()
    first, second = frame(0, block(0, b"a")), frame(1, block(1, b"b"))
    answers, _ = run(OPEN + first + first + second + second + second, target)
    assert [(status, number) for status, number, _ in answers[1:]] == [
        (sr.DONE, 0),
        (sr.DONE, 0),
        (sr.DONE, 1),
        (sr.DONE, 1),
        (sr.DONE, 1),
    ]
    assert target.blocks == {0: b"a", 1: b"b"}


def test_every_flipped_bit_of_a_frame_is_noticed():
    good = frame(0, block(0, b"content"))
    for i in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[i // 8] ^= 1 << (i & 7)
        target = Target()
        # Zeros end the wait for bytes; then the frame comes again.
        answers, _ = run(OPEN + bytes(damaged) + bytes(sr.BLOCK_BYTES + 256) + good, target)
        assert target.blocks == {0: b"content"}, i
        assert answers[-1][:2] == (sr.DONE, 0), i


def test_frame_out_of_order_is_not_executed():
    target = Target()
    answers, _ = run(OPEN + frame(5, block(0, b"x")), target)
    assert answers[1][:2] == (sr.REPEAT, 0) and target.blocks == {}


def test_new_session_after_a_broken_one():
    target = Target()
    broken = OPEN + frame(0, block(0, b"old")) + frame(1, block(1, b"x"))[:20]
    answers, restart = run(broken + bytes(4400) + session(bytes([sr.INFO]), bytes([sr.QUIT])), target)
    assert answers[-2][2] == INFO and restart is False


def test_bad_requests_are_refused():
    too_long = b"x" * 2100
    for request, text in (
        (bytes([sr.BEGIN]) + b"Q" * 256, b"wrong board"),
        (bytes([99]), b"unknown request 99"),
        (block(0, too_long, too_long), b"more than 4096"),
        (block(0, (len(OLD) - 3, 4)), b"behind the present content"),
        (block(0, (0xFFFFFFF0, 4)), b"behind the present content"),
        (block(0, b"abc")[:-1], b"ends early"),
    ):
        target = Target(OLD)
        answers, _ = run(session(request, bytes([sr.INFO])), target)
        assert answers[1][0] == sr.REFUSED and text in answers[1][2], (request[:4], answers[1])
        assert answers[2][2] == INFO and target.blocks == {} and target.header is None


def test_fault_of_the_flash_is_no_refusal():
    target = Target(OLD)
    answers, _ = run(session(block(901, b"x"), bytes([sr.INFO])), target)
    assert answers[1][0] == sr.FAILED and b"flash error" in answers[1][2] and answers[2][2] == INFO


def test_oversized_lengths_are_not_buffered():
    head = bytes([sr.START, 0, 0, 0xFF, 0xFF, 1, 0, 0, 0, 0, 0])
    answers, _ = run(OPEN + head + frame(0, bytes([sr.INFO])), Target())
    assert [answer[0] for answer in answers] == [sr.DONE, sr.REPEAT, sr.DONE]


CONFIG = b'{"key": "secret"}' * 40


def file_requests(name, content, offsets=(0, 300, 600)):
    """Return the requests that write a file in parts."""
    encoded = name.encode()
    ends = offsets[1:] + (len(content),)
    parts = [
        bytes([sr.FILE_WRITE]) + at.to_bytes(4, "little") + bytes([len(encoded)]) + encoded + content[at:end]
        for at, end in zip(offsets, ends)
    ]
    return parts + [bytes([sr.FILE_COMMIT]) + sha256(content).digest() + encoded]


def send(files, *requests):
    """Return the answers to requests, without that to the start of the session."""
    return run(session(*requests), Target(), ProvisionedFiles(files))[0][1:]


def test_a_file_is_replaced_and_only_its_digest_is_told():
    files = MemoryFiles()
    ask = bytes([sr.FILE_DIGEST]) + b"config.json"
    assert send(files, ask)[0][2] == b""
    for content in (CONFIG, CONFIG + b" "):
        answers = send(files, *(file_requests("config.json", content) + [ask]))
        assert [answer[0] for answer in answers] == [sr.DONE] * 5
        assert answers[-1][2] == sha256(content).digest()
        assert bytes(files.data["config.json"]) == content and len(files.data) == 1
        assert not any([b"secret" in answer[2] for answer in answers])


def test_bad_requests_of_files_change_nothing():
    write = file_requests("config.json", CONFIG)
    for requests, text in (
        (file_requests("main.py", CONFIG)[:1], b"main.py is no file of a configuration"),
        ([bytes([sr.FILE_DIGEST]) + b"../state/counter0"], b"is no file of a configuration"),
        ([bytes([sr.FILE_DIGEST]) + b"\xff\xfe"], b"no text"),
        ([bytes([sr.FILE_WRITE, 0, 0, 0])], b"ends early"),
        ([bytes([sr.FILE_WRITE, 0, 0, 0, 0, 200]) + b"config.json"], b"ends early"),
        (write[1:2], b"at 300, where None bytes are written"),
        (write[:1] + write[2:3], b"at 600, where 300 bytes are written"),
        (write[:2] + write[3:], b"does not hold what was written"),
        (write[3:], b"does not hold what was written"),
    ):
        files = MemoryFiles()
        files.data["config.json"] = bytearray(b"old")
        answers = send(files, *requests)
        assert answers[-1][0] in (sr.REFUSED, sr.FAILED) and text in answers[-1][2], (text, answers[-1])
        assert bytes(files.data["config.json"]) == b"old"


def test_a_power_cut_at_any_operation_leaves_a_whole_file():
    cuts = 0
    left = 0
    complete = False
    while not complete:
        files = MemoryFiles()
        files.data["config.json"] = bytearray(b"old")
        files.left = left
        try:
            send(files, *file_requests("config.json", CONFIG))
        except PowerCut:
            cuts += 1
        complete = files.left > 0
        assert bytes(files.data["config.json"]) in (b"old", CONFIG), left
        files.left = None
        assert send(files, *file_requests("config.json", CONFIG))[-1][0] == sr.DONE
        assert bytes(files.data["config.json"]) == CONFIG and len(files.data) == 1
        left += 7
    assert cuts > 90


def test_full_storage_is_reported():
    files = MemoryFiles()
    files.full = 500
    answers = send(files, *file_requests("config.json", CONFIG))
    assert [answer[0] for answer in answers[1:]] == [sr.FAILED, sr.REFUSED, sr.FAILED]
    assert "config.json" not in files.data
