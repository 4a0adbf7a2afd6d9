"""What may lie on a card beside what this boot wrote: files of others, damage, the clips of another device."""

from agent.recording import clip_index
from clip_harness import ClipHarness
from patrolink_protocol import clip
from seeded_random import seeded

FOREIGN = (
    "holiday-video.pls",  # as long as ours
    "000001-00000x.pls",
    "notes.plm",
    "1.plm",
    "00000x.plm",
    "state",
    "state-of-mind",
    "state00000001.bak",
    "lost+found",
    "readme.txt",
    ".pls",
)
LINE = b'{"clip":7,"trigger":["sos"],"seg":3,"bytes":true}\n'


def recorded(trigger=0, seconds=20):
    """Return a harness with one sealed clip, 1."""
    harness = ClipHarness().boot().run(20)
    harness.recorder.trigger(trigger, 1, "", harness.now)
    return harness.run(seconds)


def goes_on(harness, where):
    """It boots, records, and makes a clip that is sealed; return its number."""
    harness.boot().run(20)
    number = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(30)
    assert "sig" in harness.manifest(number)[-1], where
    assert not harness.ring_recorder.errors, where
    return number


def test_files_that_are_not_ours_are_left_as_they_are():
    for name in FOREIGN:
        for data in (b"", b"not ours\n", LINE, bytes(range(256)) * 8):
            harness = recorded()
            harness.files.data[name] = bytearray(data)
            goes_on(harness, (name, data[:9]))
            goes_on(harness, (name, data[:9]))
            assert harness.files.data.get(name) == data, name


def test_what_is_not_ours_takes_nothing_of_the_quota():
    harness = recorded()
    harness.config.update(quota_kb=512, lock_kb=480)
    harness.files.data["film.mkv"] = bytearray(512 * 1024)
    goes_on(harness, "film")


def test_one_byte_of_a_manifest_changed_anywhere_stops_nothing():
    """Seeded: what the changed clip was is told by the verdict; here the device goes on, whatever it was."""
    for seed in range(1, 60):
        below = seeded(seed)
        harness = recorded(below(2), 4 if seed % 3 == 0 else 20)
        data = harness.files.data["000001.plm"]
        marks = [
            data.find(it)
            for it in (b'"previous"', b'"signer"', b'"codec"', b'"sig"', b'"chain"', b'"event"', b'"bytes"')
        ]
        at = below(len(data)) if seed % 2 else max(0, marks[below(len(marks))]) + 8 + below(24)
        data[min(at, len(data) - 1)] = b'"0x9}['[below(6)]
        if seed % 5 == 0:  # it has not been announced
            for name in [n for n in harness.files.data if n[:5] == "state"]:
                del harness.files.data[name]
        try:
            goes_on(harness, seed)
        except Exception:
            print("seed", seed)
            raise


def test_lines_of_the_journal_that_say_something_else_stop_nothing():
    for said in (
        b'{"clip":1,"verified":"never"}\n',
        b'{"clip":1,"verified":null}\n',
        b'{"clip":[],"sent":3}\n',
        b'{"clip":1,"sent":3}\n',
        b'{"clip":1,"sent":"x.pls"}\n',
        b'{"clip":1,"name":[],"place":1}\n',
        b'{"seg":"000001-000001","bytes":"many"}\n',
        b'{"seg":"000001-000001","bytes":-1}\n',
        b'["clip"]\n',
        b"[" * 900 + b"\n",
        b"\xff\xfe\n",
    ):
        harness = recorded()
        harness.files.data["state00000099"] = bytearray(said)
        goes_on(harness, said[:40])


def test_segments_with_the_name_of_the_next_ones_are_not_written_into():
    """Another device's card, or one whose state was made anew: its boots are as high as ours."""
    other = ClipHarness().boot().run(20)
    number = other.recorder.trigger(1, 1, "", other.now)
    other.run(30)
    before = {name: bytes(data) for name, data in other.files.data.items() if name[-4:] == ".pls"}
    listed = [s["seg"] + ".pls" for s in other.segments(number)]
    harness = ClipHarness()
    harness.files = other.files
    harness.boot().run(20)
    again = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(30)
    assert again > number
    for name in listed:
        assert harness.files.data[name] == before[name], name
    for said in harness.segments(again):
        assert said["seg"] + ".pls" not in listed and harness.read(said["seg"] + ".pls").complete


def test_a_clip_that_another_key_began_is_left_without_a_seal():
    """Our seal under its head would say that it was tampered with."""
    other = ClipHarness().boot().run(20)
    number = other.recorder.trigger(1, 1, "", other.now)
    other.run(4)
    harness = ClipHarness()
    harness.files = other.files
    left = bytes(harness.files.data["%06d.plm" % number])
    harness.boot().run(20)
    assert harness.files.data["%06d.plm" % number] == left
    again = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(30)
    assert harness.manifest(again)[0]["previous"] == "00" * 32
    assert clip_index.SEALED == harness.store.index.find(again).state and clip.HEADER_BYTES


def test_thousands_of_old_segments_are_not_read_at_a_boot():
    harness = recorded()
    read = []
    old = bytes(harness.files.data["000001-000001.pls"][:100])
    for step in range(1000, 4000):
        harness.files.data["000001-%06d.pls" % step] = bytearray(old)
    for name in [n for n in harness.files.data if n[:5] == "state"]:
        del harness.files.data[name]
    really = harness.files.read

    def counted(name, at, buf):
        read.append(name)
        return really(name, at, buf)

    harness.files.read = counted
    harness.boot()
    segments = set([n for n in read if n[-4:] == ".pls"])
    assert len(segments) <= harness.config["pre_s"] // harness.config["segment_s"] + 3, len(segments)
    harness.run(20)
    assert len([n for n in harness.files.data if n[-4:] == ".pls"]) < 30 and not harness.ring_recorder.errors


def test_a_clip_has_nothing_of_a_boot_that_was_over_long_ago():
    for off_s, known, boots in ((0, True, 2), (5, True, 2), (3600, True, 1), (3600, False, 2), (300000, True, 1)):
        harness = ClipHarness().boot().run(33)
        harness.past_ms += off_s * 1000
        harness.time_known = known
        harness.boot().run(2)
        number = harness.recorder.trigger(0, 1, "", harness.now)
        harness.run(20)
        assert len(set([s["seg"][:6] for s in harness.segments(number)])) == boots, (off_s, known)


def test_what_is_locked_is_the_same_after_a_boot():
    harness = ClipHarness({"quota_kb": 700, "lock_kb": 600, "pre_s": 5, "post_s": 5}).boot().run(20)
    harness.ring_recorder._reserve_max = 65536
    harness.recorder.trigger(0, 1, "", harness.now, 60000)
    harness.run(90)
    assert not harness.store.lock.is_full()
    harness.recorder.trigger(1, 1, "", harness.now, 60000)
    harness.run(90)
    locked = harness.store.index.unverified_bytes()
    told = [s for n in (1, 2) for s in harness.manifest(n) if s.get("access") == "thinned"]
    assert told and locked <= sum([len(d) for n, d in harness.files.data.items() if n[-4:] == ".pls"])
    harness.boot()
    assert harness.store.index.unverified_bytes() == locked
