from agent.recording import clip_files, clip_index
from agent.recording.clip_recorder import UNTIL_STOPPED, RefusedError
from agent.recording.retention import RING, ROUTINE, URGENT
from clip_harness import ClipHarness
from seeded_random import seeded


def clip_of(harness, trigger, seconds=0):
    """Record a clip and let it be sealed; return its number."""
    number = harness.recorder.trigger(trigger, 1, "", harness.now, seconds * 1000 or None)
    harness.run((seconds or 10) + 6)
    return number


def names(harness, number):
    return [s["seg"] + ".pls" for s in harness.segments(number)]


def there(harness, number):
    return [n for n in names(harness, number) if n in harness.files.data]


def sent(harness):
    """Upload all that is pending; return (clip, name) in the order in which it went."""
    out = []
    while True:
        items = list(harness.store.uploads.pending())
        if not items:
            return out
        item = items[0]
        data = harness.files.data[item.name]
        assert item.bytes == len(data)
        out.append((item.clip, item.name))
        harness.store.uploads.mark_uploaded(item.clip, item.name)


def test_an_sos_goes_first_then_snapshots_then_the_rest():
    harness = ClipHarness().boot().run(20)
    clip_of(harness, 0)
    clip_of(harness, 1)
    harness.recorder.snapshot("duty", harness.now)
    harness.run(5)
    photo = 3
    order = sent(harness)
    numbers = [n for n, _ in order]
    assert numbers == [2] * numbers.count(2) + [photo] * 2 + [1] * numbers.count(1)
    assert [n for _, n in order if n[:2] == "00"][0] == "000002.plm"
    assert order[numbers.index(photo)][1][-4:] == ".pls" and order[numbers.index(photo) + 1][1] == "000003.plm"
    assert len(order) == len(set(order))


def test_a_live_sos_sends_what_is_closed():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(3)
    first = sent(harness)
    assert first and number not in [v["clip_id"] for v in harness.sealed]
    assert first[0][1] == harness.manifest(number)[4]["thumb"] + ".pls"
    harness.run(30)
    rest = sent(harness)
    assert not set(first) & set(rest) and (number, "000001.plm") in rest
    assert sorted([n for _, n in first + rest if n[-4:] == ".pls"]) == sorted(
        [s.get("seg", s.get("thumb")) + ".pls" for s in harness.manifest(number) if "bytes" in s]
    )


def test_what_was_sent_and_where_outlives_the_power():
    harness = ClipHarness().boot().run(20)
    number = clip_of(harness, 0)
    items = list(harness.store.uploads.pending())
    harness.store.uploads.mark_uploaded(number, items[0].name)
    harness.store.uploads.set_upload_url(number, items[1].name, "/clips/abc")
    harness.boot().run(1)
    again = list(harness.store.uploads.pending())
    assert [i.name for i in again] == [i.name for i in items[1:]]
    assert harness.store.uploads.upload_url(number, again[0].name) == "/clips/abc"
    assert harness.store.uploads.upload_url(number, again[1].name) is None
    sent(harness)
    harness.boot().run(1)
    assert list(harness.store.uploads.pending()) == []
    harness.store.uploads.mark_damaged(number)
    assert len(list(harness.store.uploads.pending())) == len(items)
    harness.boot().run(1)
    assert len(list(harness.store.uploads.pending())) == len(items)


def test_the_journal_stays_short():
    harness = ClipHarness(size=200, fps=2).boot()
    for _ in range(30):
        harness.run(60)
        harness.store.open_clips.log_access("live_view_start", "duty", harness.now)
    logs = [n for n in harness.files.data if n[:5] == "state"]
    assert len(logs) <= 2 and sum([len(harness.files.data[n]) for n in logs]) < 45000
    total = sum([len(d) for n, d in harness.files.data.items() if n[:5] != "state"])
    assert harness.store.usage.bytes == total
    assert len([n for n in harness.files.data if n[-4:] == ".pls"]) <= 5


def test_every_access_is_in_the_next_manifest_once():
    harness = ClipHarness().boot()
    for i in range(5):
        harness.run(4)
        harness.store.open_clips.log_access("live_view_start", "duty-%d" % i, harness.now)
    harness.boot().run(20)
    number = clip_of(harness, 0)
    clip_of(harness, 0)
    who = [s["who"] for s in harness.manifest(number) if s.get("access") == "live_view_start"]
    assert who == ["duty-%d" % i for i in range(5)]
    assert [s for s in harness.manifest(number + 1) if "access" in s] == []
    assert "access" not in harness.files.data


def test_verified_clips_go_after_their_time_and_the_chain_goes_on():
    harness = ClipHarness({"keep_h": 0}).boot().run(20)
    first = clip_of(harness, 0)
    chain = harness.manifest(first)[-1]["chain"]
    assert len(there(harness, first)) == len(names(harness, first)) > 2
    harness.run(30)
    listed = names(harness, first)
    sent(harness)
    harness.store.mark_verified(first)
    harness.run(1)
    assert [n for n in listed if n in harness.files.data] == []
    assert "%06d.plm" % first in harness.files.data
    harness.boot().run(20)
    second = clip_of(harness, 0)
    harness.run(1)
    assert harness.manifest(second)[0]["previous"] == chain and "%06d.plm" % first not in harness.files.data
    assert [s["clip"] for s in harness.manifest(second) if s.get("access") == "released"] == [first]


def test_a_preserved_clip_stays_while_there_is_room():
    harness = ClipHarness({"keep_h": 0}).boot().run(20)
    first = clip_of(harness, 0)
    assert harness.store.index.preserve(first) and not harness.store.index.preserve(99)
    harness.run(30)
    harness.store.mark_verified(first)
    harness.run(5)
    assert len(there(harness, first)) == len(names(harness, first))


def test_low_is_told_once():
    harness = ClipHarness({"lock_kb": 400, "keep_h": 0}).boot().run(20)
    while not harness.store.lock.is_full():
        clip_of(harness, 0)
    assert len(harness.low) == 2
    harness.run(20)
    assert len(harness.low) == 2
    for clip in list(harness.store.index.clips)[:2]:
        harness.store.mark_verified(clip.number)
    harness.run(1)
    while not harness.store.lock.is_full():
        clip_of(harness, 0)
    assert len(harness.low) == 4


def rank_of(harness, gone, before):
    """Return the stage of the order in agent.recording.retention that the file that went belongs to."""
    clips = [c for c in before if c[1] <= clip_files.parse_file_id(gone) <= c[2]]
    if not clips:
        return 2
    if [c for c in clips if not c[3]]:
        return 5 if [c for c in clips if c[4] and not c[3]] else 4
    return 3


def test_what_goes_goes_in_order():
    """Seeded: clips of both kinds, some verified, on storage that is too small. What goes is what may go first."""
    for seed in range(1, 13):
        below = seeded(seed)
        harness = ClipHarness({"quota_kb": 1000, "lock_kb": 5000, "pre_s": 5, "post_s": 5}).boot().run(10)
        harness.ring_recorder._reserve_max = 65536
        for _ in range(25):
            try:
                number = harness.recorder.trigger(below(4) == 0, 1, "", harness.now)
            except RefusedError:
                pass
            before, files = picture_of(harness), set(harness.files.data)
            harness.run(5 + below(20))
            check_order(harness, seed, before, files)
            if below(3) == 0:
                harness.store.mark_verified(1 + below(number))
        assert harness.store.usage.bytes + harness.store._journal.size <= 1000 * 1024, seed


def picture_of(harness):
    return [(c.number, c.first, c.last, c.state == clip_index.VERIFIED, c.sos) for c in harness.store.index.clips]


def check_order(harness, seed, before, files):
    gone = [n for n in files - set(harness.files.data) if n[-4:] == ".pls"]
    ranks = sorted([rank_of(harness, n, before) for n in gone])
    if not ranks or ranks[-1] < 4:
        return
    # A clip that nobody has verified became coarser: then nothing that goes before it was left.
    left = [c for c in harness.store.index.clips if c.state == clip_index.VERIFIED and not c.released]
    assert not left or left[-1].number in [c.number for c in harness.store.index.clips[-3:]], (seed, ranks)
    if ranks[-1] == 5:
        for clip in harness.store.index.clips:
            if not clip.sos and clip.state == clip_index.SEALED and not clip.photo:
                assert len(alone(harness, clip)) <= 2, (seed, clip.number)
    for name in gone:
        if rank_of(harness, name, before) >= 4:
            told = [
                s for c in harness.store.index.clips for s in harness.manifest(c.number) if s.get("access") == "thinned"
            ]
            assert [s for s in told if name[:-4] in s["segs"]], (seed, name)


def alone(harness, clip):
    """Return the files of a clip that are there and that no other unverified clip has."""
    return [
        n for n in there(harness, clip.number) if harness.store._retention.is_spare(clip, clip_files.parse_file_id(n))
    ]


def test_each_stage_is_used_up_before_the_next():
    harness = ClipHarness({"quota_kb": 16384, "lock_kb": 16384, "keep_h": 1, "post_s": 5}).boot().run(20)
    for trigger, seconds in ((0, 0), (0, 0), (0, 0), (0, 60), (1, 120)):
        clip_of(harness, trigger, seconds)
        harness.run(30)
    removed = []
    store = harness.store
    retention, ring = store._retention, store.ring
    release, drop_unneeded, thin = retention.release, ring.drop_unneeded, retention.thin
    retention.release = lambda clip, now: (removed.append("release %d" % clip.number), release(clip, now))
    ring.drop_unneeded = lambda now: drop_unneeded(now) and (removed.append("ring") or True)
    retention.thin = lambda clip, file_id, now: (removed.append("thin %d" % clip.number), thin(clip, file_id, now))
    store.mark_verified(1)
    harness.clock_shift_ms = 2 * 3600 * 1000
    store.index.preserve(2)
    store.mark_verified(2)
    store.mark_verified(3)
    ring._pre_ms = 0  # the ring holds more than an event would want
    stages = []
    for priority in (RING, ROUTINE, URGENT):
        while retention.make_room(priority, harness.now, harness.unix(harness.now)):
            assert len(removed) < 200
        stages.append([step for i, step in enumerate(removed) if i == 0 or removed[i - 1] != step])
        removed.clear()
    assert stages == [["release 1", "ring", "release 3", "release 2"], ["thin 4"], ["thin 5"]], stages


def test_a_live_sos_goes_on_while_anything_else_can_go():
    harness = ClipHarness({"quota_kb": 700, "lock_kb": 100000, "pre_s": 5, "post_s": 5}).boot().run(20)
    harness.ring_recorder._reserve_max = 65536
    first = clip_of(harness, 0, 30)
    live = harness.recorder.trigger(1, 1, "", harness.now, UNTIL_STOPPED)
    start = harness.now
    harness.run(180)
    assert harness.ring_recorder.loss.total == 0 and not harness.ring_recorder.errors
    assert len(there(harness, first)) == 2  # its first and its last
    minute = [s["seg"] for s in harness.segments(live) if s["start_ms"] < harness.segments(live)[0]["start_ms"] + 60000]
    assert [n for n in minute if n + ".pls" not in harness.files.data] == []
    assert harness.stored_pictures(live)[-1] >= (harness.now - 6000) // 200 and start


def test_the_ring_never_costs_a_clip_anything():
    harness = ClipHarness({"quota_kb": 400, "lock_kb": 100000}).boot().run(20)
    harness.ring_recorder._reserve_max = 65536
    first = clip_of(harness, 0, 40)
    harness.run(100)
    assert there(harness, first) == names(harness, first)
    assert harness.ring_recorder.errors == 4 and harness.ring_recorder.loss.total == 0
    assert RING < ROUTINE < URGENT


def test_room_that_storage_is_slow_to_give_back_costs_nothing_more():
    """Files are removed when all before is done: until then the file system tells no more room than before."""
    harness = ClipHarness({"quota_kb": 16384, "lock_kb": 16384, "post_s": 5}).boot().run(20)
    clips = [clip_of(harness, 0, 40) for _ in range(4)]
    files = harness.files
    files.behind = []
    files.full = sum([len(d) for d in files.data.values()]) + 40000
    before = sum([len(there(harness, n)) for n in clips])
    harness.recorder.trigger(1, 1, "", harness.now, 40000)
    harness.run(39, lambda: files.work(1))
    files.work(1 << 30)
    gone = before - sum([len(there(harness, n)) for n in clips])
    assert 0 < gone <= 24, gone  # 40 s at 5 kB/s, in files of 25 kB, and what is kept free
    assert harness.ring_recorder.loss.total == 0


def test_a_ring_that_has_no_room_for_all_its_seconds_keeps_the_last_ones():
    harness = ClipHarness({"quota_kb": 900, "lock_kb": 900, "pre_s": 60, "post_s": 5}, size=2000).boot().run(20)
    harness.ring_recorder._reserve_max = 65536
    first = clip_of(harness, 0, 40)
    listed = names(harness, first)
    harness.run(100)
    assert there(harness, first) == listed and harness.ring_recorder.loss.total == 0
    assert harness.ring_recorder.errors == 4  # the ring is shorter than it should be, and says so
    number = harness.recorder.trigger(0, 2, "", harness.now)
    trigger = harness.now
    harness.run(4)
    numbers = harness.pictures(number) + harness.ring_recorder._segment.frames * [0]
    assert harness.camera.taken[max(numbers)][1] >= trigger - 5000
    assert harness.camera.taken[numbers[0]][1] <= trigger - 10000
