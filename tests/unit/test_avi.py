"""AVI as it is written: its chunks, where frames and sound stand by their times, what a cut leaves, no allocation."""

import struct

from agent.recording.avi import AviMuxer, header
from allocation import allocated
from patrolink_protocol import g711

PICTURE = b"\xff\xd8" + bytes(range(200)) + b"\xff\xd9"  # no player looks into it here
UNIT = bytes(160)


class Tape:
    """A sink that keeps it all."""

    def __init__(self):
        self.data = b""
        self.times = []

    def take(self, time_ms, *parts):
        self.data += b"".join([bytes(part) for part in parts])
        self.times.append(time_ms)


def chunks(data, at):
    """Return (name, where in the data, bytes) of each whole chunk from `at` on."""
    out = []
    while at + 8 <= len(data):
        name, n = struct.unpack("<4sI", data[at : at + 8])
        if at + 8 + n > len(data):
            break
        out.append((bytes(name), at, data[at + 8 : at + 8 + n]))
        at += 8 + n + (n & 1)
    return out


def filmed(times, sound=False, fps=5):
    tape = Tape()
    avi = AviMuxer(320, 240, fps, sound)
    avi.begin(tape.take)
    for i, time_ms in enumerate(times):
        avi.picture(PICTURE[: 100 + i % 2], time_ms)
    return avi, tape


def names(tape, sound=False):
    return [name for name, _, _ in chunks(tape.data, len(header(320, 240, 5, sound)))]


def test_a_frame_has_the_place_of_its_time():
    avi, tape = filmed((0, 200, 399, 601, 1000, 1010))
    found = chunks(tape.data, len(header(320, 240, 5, False)))
    assert [len(data) for _, _, data in found] == [100, 101, 100, 101, 0, 100, 101]
    assert tape.times == [0, 0, 200, 399, 601, 1000, 1000, 1010]


def test_a_time_that_is_wrong_makes_no_endless_file():
    avi, tape = filmed((0, 4000000000, 4000000200))
    assert len(names(tape)) == 3


def test_the_index_names_each_chunk():
    avi, tape = filmed((0, 200, 800, 1000))
    whole = len(tape.data)
    avi.end()
    base = len(header(320, 240, 5, False)) - 4
    found = chunks(tape.data[:whole], base + 4)
    name, _, index = chunks(tape.data, whole)[0]
    assert name == b"idx1" and len(index) == 16 * len(found)
    for i, (name, at, data) in enumerate(found):
        entry = struct.unpack("<4sIII", index[16 * i : 16 * i + 16])
        assert entry == (name, 16 if data else 0, at - base, len(data))


def test_a_long_file_has_no_index_rather_than_half_of_one():
    avi, tape = filmed([200 * i for i in range(600)])
    avi.end()
    assert names(tape) == [b"00dc"] * 600


def test_a_second_file_is_as_the_first():
    avi, tape = filmed((0, 200))
    avi.end()
    again = Tape()
    avi.begin(again.take)
    avi.picture(PICTURE[:100], 0)
    avi.picture(PICTURE[:101], 200)
    avi.end()
    assert again.data == tape.data


def test_sound_is_where_its_time_is():
    tape = Tape()
    avi = AviMuxer(320, 240, 5, True)
    avi.begin(tape.take)
    loud = struct.pack("<h", 8000) * 80
    for i in range(100):
        avi.sound(loud, 500 + 10 * i)  # it begins half a second late
    avi.sound(loud, 1000)  # twice the same time: not heard
    avi.end()
    said = b"".join([data for name, _, data in chunks(tape.data, len(header(320, 240, 5, True))) if name == b"01wb"])
    assert len(said) == 12000
    assert said[:4000] == bytes((g711.SILENCE,)) * 4000 and bytes((g711.SILENCE,)) not in said[4000:]


def test_a_cut_anywhere_leaves_whole_chunks():
    avi, tape = filmed((0, 200, 800), sound=True)
    first = len(header(320, 240, 5, True))
    whole = chunks(tape.data, first)
    for cut in range(first, len(tape.data)):
        left = chunks(tape.data[:cut], first)
        assert left == whole[: len(left)]
        assert len(left) == len([1 for _, at, data in whole if at + 8 + len(data) <= cut])


def test_nothing_is_allocated():
    count = [0]

    def sink(time_ms, head, picture, pad):
        count[0] += 1

    avi = AviMuxer(320, 240, 5, True)
    avi.begin(lambda time_ms, head: None)
    avi._sink = sink
    now = [0]

    def step():
        avi.picture(PICTURE, now[0])
        for i in range(20):
            avi.sound(UNIT, now[0] + 10 * i)
        now[0] += 200

    assert allocated(step) == 0
    assert count[0] in (6, 9)  # a picture, two of sound; CPython is not measured
