from collections import namedtuple

from agent.recording import clip_files, clip_index
from agent.recording.clip_recorder import UNTIL_STOPPED, RefusedError
from agent.recording.retention import RING, ROUTINE, URGENT
from clip_harness import ClipHarness
from seeded_random import seeded

ClipState = namedtuple("ClipState", ("first", "last", "verified", "sos"))


def record_clip(harness, trigger, seconds=0):
    """Record a clip until it is sealed, and return its number."""
    number = harness.recorder.trigger(trigger, 1, "", harness.now, seconds * 1000 or None)
    harness.run((seconds or 10) + 6)
    return number


def segment_names(harness, number):
    """Return the file names of the segments that a clip lists."""
    return [s["seg"] + ".pls" for s in harness.segments(number)]


def stored_names(harness, number):
    """Return the file names of the segments of a clip that are on storage."""
    return [n for n in segment_names(harness, number) if n in harness.files.data]


def upload_all(harness):
    """Upload all pending files, and return (clip, name) of each in order."""
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


def test_upload_order_is_sos_then_snapshots_then_others():
    harness = ClipHarness().boot().run(20)
    record_clip(harness, 0)
    record_clip(harness, 1)
    harness.recorder.snapshot("duty", harness.now)
    harness.run(20)  # on MicroPython, sealing takes many steps
    snapshot = 3
    order = upload_all(harness)
    numbers = [n for n, _ in order]
    assert numbers == [2] * numbers.count(2) + [snapshot] * 2 + [1] * numbers.count(1)
    assert [n for _, n in order if n[:2] == "00"][0] == "000002.plm"
    assert order[numbers.index(snapshot)][1][-4:] == ".pls" and order[numbers.index(snapshot) + 1][1] == "000003.plm"
    assert len(order) == len(set(order))


def test_closed_files_of_a_live_sos_are_pending():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(3)
    first = upload_all(harness)
    assert first and number not in [v["clip_id"] for v in harness.sealed]
    assert first[0][1] == harness.manifest(number)[4]["thumb"] + ".pls"
    harness.run(30)
    rest = upload_all(harness)
    assert not set(first) & set(rest) and (number, "000001.plm") in rest
    assert sorted([n for _, n in first + rest if n[-4:] == ".pls"]) == sorted(
        [s.get("seg", s.get("thumb")) + ".pls" for s in harness.manifest(number) if "bytes" in s]
    )


def test_upload_state_survives_a_boot():
    harness = ClipHarness().boot().run(20)
    number = record_clip(harness, 0)
    items = list(harness.store.uploads.pending())
    harness.store.uploads.mark_uploaded(number, items[0].name)
    harness.store.uploads.set_upload_url(number, items[1].name, "/clips/abc")
    harness.boot().run(1)
    pending = list(harness.store.uploads.pending())
    assert [i.name for i in pending] == [i.name for i in items[1:]]
    assert harness.store.uploads.upload_url(number, pending[0].name) == "/clips/abc"
    assert harness.store.uploads.upload_url(number, pending[1].name) is None
    upload_all(harness)
    harness.boot().run(1)
    assert list(harness.store.uploads.pending()) == []
    harness.store.uploads.mark_damaged(number)
    assert len(list(harness.store.uploads.pending())) == len(items)
    harness.boot().run(1)
    assert len(list(harness.store.uploads.pending())) == len(items)


def test_the_journal_is_bounded():
    harness = ClipHarness(size=200, fps=2).boot()
    for _ in range(30):
        harness.run(60)
        harness.store.open_clips.log_access("live_view_start", "duty", harness.now)
    logs = [n for n in harness.files.data if n[:5] == "state"]
    assert len(logs) <= 2 and sum([len(harness.files.data[n]) for n in logs]) < 45000
    total = sum([len(d) for n, d in harness.files.data.items() if n[:5] != "state"])
    assert harness.store.usage.bytes == total
    assert len([n for n in harness.files.data if n[-4:] == ".pls"]) <= 5


def test_each_access_line_is_in_the_next_manifest_once():
    harness = ClipHarness().boot()
    for i in range(5):
        harness.run(4)
        harness.store.open_clips.log_access("live_view_start", "duty-%d" % i, harness.now)
    harness.boot().run(20)
    number = record_clip(harness, 0)
    record_clip(harness, 0)
    who = [s["who"] for s in harness.manifest(number) if s.get("access") == "live_view_start"]
    assert who == ["duty-%d" % i for i in range(5)]
    assert [s for s in harness.manifest(number + 1) if "access" in s] == []
    assert "access" not in harness.files.data


def test_verified_clips_are_released_after_keep_h_and_the_chain_continues():
    harness = ClipHarness({"keep_h": 0}).boot().run(20)
    first = record_clip(harness, 0)
    chain = harness.manifest(first)[-1]["chain"]
    assert len(stored_names(harness, first)) == len(segment_names(harness, first)) > 2
    harness.run(30)
    listed = segment_names(harness, first)
    upload_all(harness)
    harness.store.mark_verified(first)
    harness.run(1)
    assert [n for n in listed if n in harness.files.data] == []
    assert "%06d.plm" % first in harness.files.data
    harness.boot().run(20)
    second = record_clip(harness, 0)
    harness.run(1)
    assert harness.manifest(second)[0]["previous"] == chain and "%06d.plm" % first not in harness.files.data
    assert [s["clip"] for s in harness.manifest(second) if s.get("access") == "released"] == [first]


def test_a_preserved_clip_is_stored_while_the_quota_allows():
    harness = ClipHarness({"keep_h": 0}).boot().run(20)
    first = record_clip(harness, 0)
    assert harness.store.index.preserve(first) and not harness.store.index.preserve(99)
    harness.run(30)
    harness.store.mark_verified(first)
    harness.run(5)
    assert len(stored_names(harness, first)) == len(segment_names(harness, first))


def test_low_storage_is_reported_once_per_threshold():
    harness = ClipHarness({"lock_kb": 400, "keep_h": 0}).boot().run(20)
    while not harness.store.lock.is_full():
        record_clip(harness, 0)
    assert len(harness.low) == 2
    harness.run(20)
    assert len(harness.low) == 2
    for clip in list(harness.store.index.clips)[:2]:
        harness.store.mark_verified(clip.number)
    harness.run(1)
    while not harness.store.lock.is_full():
        record_clip(harness, 0)
    assert len(harness.low) == 4


def removal_stage(harness, name, clips_before):
    """Return the stage of agent.recording.retention at which a file may be removed."""
    file_id = clip_files.parse_file_id(name)
    clips = [clip for clip in clips_before if clip.first <= file_id <= clip.last]
    if not clips:
        return 2
    unverified = [clip for clip in clips if not clip.verified]
    if unverified:
        return 5 if [clip for clip in unverified if clip.sos] else 4
    return 3


def test_files_are_removed_in_the_order_of_retention():
    """Seeded: routine and SOS clips, some verified, on storage that is too small."""
    for seed in range(1, 13):
        below = seeded(seed)
        harness = ClipHarness({"quota_kb": 1000, "lock_kb": 5000, "pre_s": 5, "post_s": 5}).boot().run(10)
        harness.ring_recorder._reserve_max = 65536
        for _ in range(25):
            try:
                number = harness.recorder.trigger(below(4) == 0, 1, "", harness.now)
            except RefusedError:
                pass
            clips_before, files = snapshot_of(harness), set(harness.files.data)
            harness.run(5 + below(20))
            check_order(harness, seed, clips_before, files)
            if below(3) == 0:
                harness.store.mark_verified(1 + below(number))
        assert harness.store.usage.bytes + harness.store._journal.size <= 1000 * 1024, seed


def snapshot_of(harness):
    """Return the ClipState of each clip."""
    clips = harness.store.index.clips
    return [ClipState(clip.first, clip.last, clip.state == clip_index.VERIFIED, clip.sos) for clip in clips]


def check_order(harness, seed, clips_before, files):
    removed = [n for n in files - set(harness.files.data) if n[-4:] == ".pls"]
    stages = sorted([removal_stage(harness, n, clips_before) for n in removed])
    if not stages or stages[-1] < 4:
        return
    # An unverified clip was thinned: no file of an earlier stage may be left.
    verified = [c for c in harness.store.index.clips if c.state == clip_index.VERIFIED and not c.released]
    assert not verified or verified[-1].number in [c.number for c in harness.store.index.clips[-3:]], (seed, stages)
    if stages[-1] == 5:
        for clip in harness.store.index.clips:
            if not clip.sos and clip.state == clip_index.SEALED and not clip.photo:
                assert len(spare_names(harness, clip)) <= 2, (seed, clip.number)
    for name in removed:
        if removal_stage(harness, name, clips_before) >= 4:
            lines = [line for c in harness.store.index.clips for line in harness.manifest(c.number)]
            thinned = [line for line in lines if line.get("access") == "thinned"]
            assert [line for line in thinned if name[:-4] in line["segs"]], (seed, name)


def spare_names(harness, clip):
    """Return the stored segments of a clip that neither the ring nor another unverified clip contains."""
    return [
        n
        for n in stored_names(harness, clip.number)
        if harness.store._retention.is_spare(clip, clip_files.parse_file_id(n))
    ]


def test_each_stage_of_retention_is_exhausted_before_the_next():
    harness = ClipHarness({"quota_kb": 16384, "lock_kb": 16384, "keep_h": 1, "post_s": 5}).boot().run(20)
    for trigger, seconds in ((0, 0), (0, 0), (0, 0), (0, 60), (1, 120)):
        record_clip(harness, trigger, seconds)
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
    ring._pre_ms = 0  # the ring is longer than pre_s
    stages = []
    for priority in (RING, ROUTINE, URGENT):
        while retention.make_room(priority, harness.now, harness.unix(harness.now)):
            assert len(removed) < 200
        stages.append([step for i, step in enumerate(removed) if i == 0 or removed[i - 1] != step])
        removed.clear()
    assert stages == [["release 1", "ring", "release 3", "release 2"], ["thin 4"], ["thin 5"]], stages


def test_a_live_sos_is_recorded_while_anything_else_can_be_removed():
    harness = ClipHarness({"quota_kb": 700, "lock_kb": 100000, "pre_s": 5, "post_s": 5}).boot().run(20)
    harness.ring_recorder._reserve_max = 65536
    first = record_clip(harness, 0, 30)
    live = harness.recorder.trigger(1, 1, "", harness.now, UNTIL_STOPPED)
    harness.run(180)
    assert harness.ring_recorder.loss.total == 0 and not harness.ring_recorder.errors
    assert len(stored_names(harness, first)) == 2  # the first and the last segment
    minute = [s["seg"] for s in harness.segments(live) if s["start_ms"] < harness.segments(live)[0]["start_ms"] + 60000]
    assert [n for n in minute if n + ".pls" not in harness.files.data] == []
    assert harness.stored_pictures(live)[-1] >= (harness.now - 6000) // 200


def test_the_ring_never_removes_files_of_a_clip():
    harness = ClipHarness({"quota_kb": 400, "lock_kb": 100000}).boot().run(20)
    harness.ring_recorder._reserve_max = 65536
    first = record_clip(harness, 0, 40)
    harness.run(100)
    assert stored_names(harness, first) == segment_names(harness, first)
    assert harness.ring_recorder.errors == 4 and harness.ring_recorder.loss.total == 0
    assert RING < ROUTINE < URGENT


def test_slow_removal_removes_no_more_files_than_needed():
    """Storage removes files after all earlier writes; until then the file system reports no more free space."""
    harness = ClipHarness({"quota_kb": 16384, "lock_kb": 16384, "post_s": 5}).boot().run(20)
    clips = [record_clip(harness, 0, 40) for _ in range(4)]
    files = harness.files
    files.behind = []
    files.full = sum([len(d) for d in files.data.values()]) + 40000
    stored = sum([len(stored_names(harness, n)) for n in clips])
    harness.recorder.trigger(1, 1, "", harness.now, 40000)
    harness.run(39, lambda: files.work(1))
    files.work(1 << 30)
    removed = stored - sum([len(stored_names(harness, n)) for n in clips])
    assert 0 < removed <= 24, removed  # 40 s at 5 kB/s in files of 25 kB, and the reserve
    assert harness.ring_recorder.loss.total == 0


def test_a_ring_smaller_than_pre_s_stores_the_last_seconds():
    harness = ClipHarness({"quota_kb": 900, "lock_kb": 900, "pre_s": 60, "post_s": 5}, size=2000).boot().run(20)
    harness.ring_recorder._reserve_max = 65536
    first = record_clip(harness, 0, 40)
    listed = segment_names(harness, first)
    harness.run(100)
    assert stored_names(harness, first) == listed and harness.ring_recorder.loss.total == 0
    assert harness.ring_recorder.errors == 4  # the ring is shorter than pre_s
    number = harness.recorder.trigger(0, 2, "", harness.now)
    trigger = harness.now
    harness.run(4)
    numbers = harness.pictures(number) + harness.ring_recorder._segment.frames * [0]
    assert harness.camera.captured[max(numbers)][1] >= trigger - 5000
    assert harness.camera.captured[numbers[0]][1] <= trigger - 10000


def test_usage_counts_the_access_lines_of_thinned_segments_and_moved_notes():
    harness = ClipHarness({"quota_kb": 700, "lock_kb": 600, "pre_s": 5, "post_s": 5}).boot().run(20)
    harness.ring_recorder._reserve_max = 65536
    harness.store.open_clips.log_access("live_view_start", "duty", harness.now)
    harness.recorder.trigger(0, 1, "", harness.now, 60000)
    harness.run(90)
    number = harness.recorder.trigger(1, 1, "", harness.now, 60000)
    harness.run(90)
    assert [line for line in harness.manifest(number) if line.get("access") == "thinned"]
    total = sum([len(data) for name, data in harness.files.data.items() if name[:5] != "state"])
    assert harness.store.usage.bytes == total
