"""Recovery of clip storage at boot: foreign files, damaged files, clips of another device."""

from agent.recording import clip_index
from clip_harness import ClipHarness
from compat.steps import WRITES
from patrolink_protocol import clip
from seeded_random import seeded

FOREIGN = (
    "holiday-video.pls",  # as long as a segment's name
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


_recorded = {}  # harness by arguments of harness_with_clip


def harness_with_clip(trigger=0, seconds=20):
    """Return a harness with the storage of one clip, 1, that was recorded until `seconds` after its trigger."""
    recorded = _recorded.get((trigger, seconds))
    if recorded is None:
        recorded = _recorded[(trigger, seconds)] = ClipHarness().boot().run(20)
        recorded.recorder.trigger(trigger, 1, "", recorded.now)
        recorded.run(seconds)
    harness = ClipHarness()
    harness.files.data = {name: bytearray(data) for name, data in recorded.files.data.items()}
    harness.state.records = dict(recorded.state.records)
    harness.now, harness.boots, harness.past_ms = recorded.now, recorded.boots, recorded.past_ms
    return harness


def check_recording(harness, context):
    """Boot, record a clip until it is sealed, and return its number."""
    harness.boot().run(20)
    number = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(30)
    assert "sig" in harness.manifest(number)[-1], context
    assert not harness.ring_recorder.errors, context
    return number


def test_foreign_files_are_left_unchanged():
    for name in FOREIGN:
        for data in (b"", b"foreign\n", LINE, bytes(range(256)) * 8):
            harness = harness_with_clip()
            harness.files.data[name] = bytearray(data)
            check_recording(harness, (name, data[:9]))
            check_recording(harness, (name, data[:9]))
            assert harness.files.data.get(name) == data, name


def test_foreign_files_do_not_count_against_the_quota():
    harness = harness_with_clip()
    harness.config.update(quota_kb=512, lock_kb=480)
    harness.files.data["film.mkv"] = bytearray(512 * 1024)
    check_recording(harness, "film")


def test_recording_continues_with_a_changed_byte_in_a_manifest():
    """Seeded. The verification of the clip reports the change; the device has to continue recording."""
    for seed in range(1, 60):
        below = seeded(seed)
        harness = harness_with_clip(below(2), 4 if seed % 3 == 0 else 20)
        data = harness.files.data["000001.plm"]
        marks = [
            data.find(key)
            for key in (b'"previous"', b'"signer"', b'"codec"', b'"sig"', b'"chain"', b'"event"', b'"bytes"')
        ]
        at = below(len(data)) if seed % 2 else max(0, marks[below(len(marks))]) + 8 + below(24)
        data[min(at, len(data) - 1)] = b'"0x9}['[below(6)]
        if seed % 5 == 0:  # not announced yet
            for name in [n for n in harness.files.data if n[:5] == "state"]:
                del harness.files.data[name]
        try:
            check_recording(harness, seed)
        except Exception:
            print("seed", seed)
            raise


def test_recording_continues_with_invalid_journal_lines():
    for line in (
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
        harness = harness_with_clip()
        harness.files.data["state00000099"] = bytearray(line)
        check_recording(harness, line[:40])


def test_existing_segments_are_never_overwritten():
    """Storage of another device, or a lost state: boot numbers on storage are as high as the current one."""
    other = ClipHarness().boot().run(20)
    number = other.recorder.trigger(1, 1, "", other.now)
    other.run(30)
    original = {name: bytes(data) for name, data in other.files.data.items() if name[-4:] == ".pls"}
    listed = [s["seg"] + ".pls" for s in other.segments(number)]
    harness = ClipHarness()
    harness.files = other.files
    harness.boot().run(20)
    next_number = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(30)
    assert next_number > number
    for name in listed:
        assert harness.files.data[name] == original[name], name
    for line in harness.segments(next_number):
        assert line["seg"] + ".pls" not in listed and harness.read(line["seg"] + ".pls").complete


def test_a_clip_of_another_signing_key_is_not_sealed():
    """A seal with the key of this device would make its verdict `tampered`."""
    other = ClipHarness().boot().run(20)
    number = other.recorder.trigger(1, 1, "", other.now)
    other.run(4)
    harness = ClipHarness()
    harness.files = other.files
    manifest = bytes(harness.files.data["%06d.plm" % number])
    harness.boot().run(20)
    assert harness.files.data["%06d.plm" % number] == manifest
    next_number = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(30)
    assert harness.manifest(next_number)[0]["previous"] == "00" * 32
    assert clip_index.SEALED == harness.store.index.find(next_number).state and clip.HEADER_BYTES


def test_old_segments_are_not_read_at_a_boot():
    harness = harness_with_clip()
    read = []
    header = bytes(harness.files.data["000001-000001.pls"][:100])
    for step in range(1000, 4000):
        harness.files.data["000001-%06d.pls" % step] = bytearray(header)
    for name in [n for n in harness.files.data if n[:5] == "state"]:
        del harness.files.data[name]
    read_file = harness.files.read

    def recording_read(name, at, buf):
        read.append(name)
        return read_file(name, at, buf)

    harness.files.read = recording_read
    harness.boot()
    segments = set([n for n in read if n[-4:] == ".pls"])
    assert len(segments) <= harness.config["pre_s"] // harness.config["segment_s"] + 3, len(segments)
    harness.run(20)
    assert len([n for n in harness.files.data if n[-4:] == ".pls"]) < 30 and not harness.ring_recorder.errors


def test_a_clip_excludes_segments_of_a_boot_that_ended_long_ago():
    for off_s, known, boots in ((0, True, 2), (5, True, 2), (3600, True, 1), (3600, False, 2), (300000, True, 1)):
        harness = ClipHarness().boot().run(33)
        harness.past_ms += off_s * 1000
        harness.time_known = known
        harness.boot().run(2)
        number = harness.recorder.trigger(0, 1, "", harness.now)
        harness.run(20)
        assert len(set([s["seg"][:6] for s in harness.segments(number)])) == boots, (off_s, known)


def test_the_locked_size_is_the_same_after_a_boot():
    harness = ClipHarness({"quota_kb": 700, "lock_kb": 600, "pre_s": 5, "post_s": 5}).boot().run(20)
    harness.ring_recorder._reserve_max = 65536
    harness.recorder.trigger(0, 1, "", harness.now, 60000)
    harness.run(90)
    assert not harness.store.lock.is_full()
    harness.recorder.trigger(1, 1, "", harness.now, 60000)
    harness.run(90)
    locked = harness.store.index.unverified_bytes()
    thinned = [s for n in (1, 2) for s in harness.manifest(n) if s.get("access") == "thinned"]
    assert thinned and locked <= sum([len(d) for n, d in harness.files.data.items() if n[-4:] == ".pls"])
    harness.boot()
    assert harness.store.index.unverified_bytes() == locked


def test_a_step_that_writes_is_announced_and_writes_once():
    """The main loop gives such a step a round of its own (WRITES)."""
    harness = harness_with_clip(seconds=3)
    data = harness.files.data
    name = [n for n in data if n[-4:] == ".plm"][0]
    data[name].extend(b'{"torn":')
    data["mending"] = bytearray(b"x")
    data["000009.plm"] = bytearray(b'{"to')  # there is nothing in it
    data["000001-000900.pls"] = bytearray(b"short")
    writes = []
    for method in ("append", "remove", "rename"):
        wrap(harness.files, method, writes)
    harness.now, harness.boots = 0, 2
    harness.construct(harness.low.append, harness.sealed.append)
    announced, total = False, 0
    for result in harness.ring_recorder.load():
        assert len(writes) == announced, writes
        total += len(writes)
        announced = result is WRITES
        writes.clear()
    assert not writes and total >= 10 and "sig" in harness.manifest(1)[-1]


def wrap(files, method, calls):
    """Record the name of each call of a method."""
    original = getattr(files, method)

    def recorded(*arguments):
        calls.append(method)
        return original(*arguments)

    setattr(files, method, recorded)
