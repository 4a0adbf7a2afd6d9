"""The AVI muxer: chunks, positions of frames and sound, truncated files, no allocation."""

import struct

from agent.recording.avi import AviMuxer, header
from allocation import allocated
from patrolink_protocol import g711

PICTURE = b"\xff\xd8" + bytes(range(200)) + b"\xff\xd9"  # not decoded by these tests
UNIT = bytes(160)


class RecordingSink:
    """A sink that stores all data and the time of each call."""

    def __init__(self):
        self.data = b""
        self.times = []

    def write(self, time_ms, *parts):
        self.data += b"".join([bytes(part) for part in parts])
        self.times.append(time_ms)


def chunks(data, at):
    """Return (name, offset, bytes) of each complete chunk from `at` on."""
    out = []
    while at + 8 <= len(data):
        name, n = struct.unpack("<4sI", data[at : at + 8])
        if at + 8 + n > len(data):
            break
        out.append((bytes(name), at, data[at + 8 : at + 8 + n]))
        at += 8 + n + (n & 1)
    return out


def mux(times, sound=False, fps=5):
    sink = RecordingSink()
    avi = AviMuxer(320, 240, fps, sound)
    avi.begin(sink.write)
    for i, time_ms in enumerate(times):
        avi.picture(PICTURE[: 100 + i % 2], time_ms)
    return avi, sink


def names(sink, sound=False):
    return [name for name, _, _ in chunks(sink.data, len(header(320, 240, 5, sound)))]


def test_a_frame_is_at_the_position_of_its_time():
    avi, sink = mux((0, 200, 399, 601, 1000, 1010))
    frames = chunks(sink.data, len(header(320, 240, 5, False)))
    assert [len(data) for _, _, data in frames] == [100, 101, 100, 101, 0, 100, 101]
    assert sink.times == [0, 0, 200, 399, 601, 1000, 1000, 1010]


def test_a_wrong_time_does_not_grow_the_file():
    avi, sink = mux((0, 4000000000, 4000000200))
    assert len(names(sink)) == 3


def test_the_index_lists_each_chunk():
    avi, sink = mux((0, 200, 800, 1000))
    whole = len(sink.data)
    avi.end()
    base = len(header(320, 240, 5, False)) - 4
    indexed = chunks(sink.data[:whole], base + 4)
    name, _, index = chunks(sink.data, whole)[0]
    assert name == b"idx1" and len(index) == 16 * len(indexed)
    for i, (name, at, data) in enumerate(indexed):
        entry = struct.unpack("<4sIII", index[16 * i : 16 * i + 16])
        assert entry == (name, 16 if data else 0, at - base, len(data))


def test_a_long_file_has_no_index():
    avi, sink = mux([200 * i for i in range(600)])
    avi.end()
    assert names(sink) == [b"00dc"] * 600


def test_a_second_file_equals_the_first():
    avi, sink = mux((0, 200))
    avi.end()
    second = RecordingSink()
    avi.begin(second.write)
    avi.picture(PICTURE[:100], 0)
    avi.picture(PICTURE[:101], 200)
    avi.end()
    assert second.data == sink.data


def test_sound_is_at_the_position_of_its_time():
    sink = RecordingSink()
    avi = AviMuxer(320, 240, 5, True)
    avi.begin(sink.write)
    loud = struct.pack("<h", 8000) * 80
    for i in range(100):
        avi.sound(loud, 500 + 10 * i)  # starts half a second late
    avi.sound(loud, 1000)  # this time already has sound: dropped
    avi.end()
    sound_data = b"".join(
        [data for name, _, data in chunks(sink.data, len(header(320, 240, 5, True))) if name == b"01wb"]
    )
    assert len(sound_data) == 12000
    assert sound_data[:4000] == bytes((g711.SILENCE,)) * 4000 and bytes((g711.SILENCE,)) not in sound_data[4000:]


def test_a_truncated_file_has_complete_chunks():
    avi, sink = mux((0, 200, 800), sound=True)
    first = len(header(320, 240, 5, True))
    whole = chunks(sink.data, first)
    for cut in range(first, len(sink.data)):
        left = chunks(sink.data[:cut], first)
        assert left == whole[: len(left)]
        assert len(left) == len([1 for _, at, data in whole if at + 8 + len(data) <= cut])


def test_a_frame_allocates_nothing():
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
    assert count[0] in (6, 9)  # one picture, two sound chunks; CPython does not measure
