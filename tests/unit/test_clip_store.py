from agent.recording import clip_index, retention
from agent.recording.recorder import FOREVER, RefusedError
from clip_harness import World
from seeded_random import seeded


def clip_of(world, trigger, seconds=0):
    """Record a clip and let it be sealed; return its number."""
    number = world.recorder.trigger(trigger, 1, "", world.now, seconds * 1000 or None)
    world.run((seconds or 10) + 6)
    return number


def names(world, number):
    return [s["seg"] + ".pls" for s in world.segments(number)]


def there(world, number):
    return [n for n in names(world, number) if n in world.files.data]


def sent(world):
    """Upload all that is pending; return (clip, name) in the order in which it went."""
    out = []
    while True:
        items = list(world.shelf.pending())
        if not items:
            return out
        item = items[0]
        data = world.files.data[item.name]
        assert item.bytes == len(data)
        out.append((item.clip, item.name))
        world.shelf.uploaded(item.clip, item.name)


def test_an_sos_goes_first_then_snapshots_then_the_rest():
    world = World().boot().run(20)
    clip_of(world, 0)
    clip_of(world, 1)
    world.recorder.snapshot("duty", world.now)
    world.run(5)
    photo = 3
    order = sent(world)
    numbers = [n for n, _ in order]
    assert numbers == [2] * numbers.count(2) + [photo] * 2 + [1] * numbers.count(1)
    assert [n for _, n in order if n[:2] == "00"][0] == "000002.plm"
    assert order[numbers.index(photo)][1][-4:] == ".pls" and order[numbers.index(photo) + 1][1] == "000003.plm"
    assert len(order) == len(set(order))


def test_a_live_sos_sends_what_is_closed():
    world = World().boot().run(20)
    number = world.recorder.trigger(1, 1, "", world.now)
    world.run(3)
    first = sent(world)
    assert first and number not in [v["clip_id"] for v in world.sealed]
    assert first[0][1] == world.manifest(number)[4]["thumb"] + ".pls"
    world.run(30)
    rest = sent(world)
    assert not set(first) & set(rest) and (number, "000001.plm") in rest
    assert sorted([n for _, n in first + rest if n[-4:] == ".pls"]) == sorted(
        [s.get("seg", s.get("thumb")) + ".pls" for s in world.manifest(number) if "bytes" in s]
    )


def test_what_was_sent_and_where_outlives_the_power():
    world = World().boot().run(20)
    number = clip_of(world, 0)
    items = list(world.shelf.pending())
    world.shelf.uploaded(number, items[0].name)
    world.shelf.place(number, items[1].name, "/clips/abc")
    world.boot().run(1)
    again = list(world.shelf.pending())
    assert [i.name for i in again] == [i.name for i in items[1:]]
    assert world.shelf.place(number, again[0].name) == "/clips/abc"
    assert world.shelf.place(number, again[1].name) is None
    sent(world)
    world.boot().run(1)
    assert list(world.shelf.pending()) == []
    world.shelf.damaged(number)
    assert len(list(world.shelf.pending())) == len(items)
    world.boot().run(1)
    assert len(list(world.shelf.pending())) == len(items)


def test_the_journal_stays_short():
    world = World(size=200, fps=2).boot()
    for _ in range(30):
        world.run(60)
        world.recorder.access("live_view_start", "duty", world.now)
    logs = [n for n in world.files.data if n[:5] == "state"]
    assert len(logs) <= 2 and sum([len(world.files.data[n]) for n in logs]) < 45000
    total = sum([len(d) for n, d in world.files.data.items() if n[:5] != "state"])
    assert world.shelf.bytes == total
    assert len([n for n in world.files.data if n[-4:] == ".pls"]) <= 5


def test_every_access_is_in_the_next_manifest_once():
    world = World().boot()
    for i in range(5):
        world.run(4)
        world.recorder.access("live_view_start", "duty-%d" % i, world.now)
    world.boot().run(20)
    number = clip_of(world, 0)
    clip_of(world, 0)
    who = [s["who"] for s in world.manifest(number) if s.get("access") == "live_view_start"]
    assert who == ["duty-%d" % i for i in range(5)]
    assert [s for s in world.manifest(number + 1) if "access" in s] == []
    assert "access" not in world.files.data


def test_verified_clips_go_after_their_time_and_the_chain_goes_on():
    world = World({"keep_h": 0}).boot().run(20)
    first = clip_of(world, 0)
    chain = world.manifest(first)[-1]["chain"]
    assert len(there(world, first)) == len(names(world, first)) > 2
    world.run(30)
    listed = names(world, first)
    sent(world)
    world.shelf.verified(first)
    world.run(1)
    assert [n for n in listed if n in world.files.data] == []
    assert "%06d.plm" % first in world.files.data
    world.boot().run(20)
    second = clip_of(world, 0)
    world.run(1)
    assert world.manifest(second)[0]["previous"] == chain and "%06d.plm" % first not in world.files.data
    assert [s["clip"] for s in world.manifest(second) if s.get("access") == "released"] == [first]


def test_a_preserved_clip_stays_while_there_is_room():
    world = World({"keep_h": 0}).boot().run(20)
    first = clip_of(world, 0)
    assert world.shelf.preserve(first) and not world.shelf.preserve(99)
    world.run(30)
    world.shelf.verified(first)
    world.run(5)
    assert len(there(world, first)) == len(names(world, first))


def test_low_is_told_once():
    world = World({"lock_kb": 400, "keep_h": 0}).boot().run(20)
    while not world.shelf.full():
        clip_of(world, 0)
    assert len(world.low) == 2
    world.run(20)
    assert len(world.low) == 2
    for clip in list(world.shelf.clips)[:2]:
        world.shelf.verified(clip.number)
    world.run(1)
    while not world.shelf.full():
        clip_of(world, 0)
    assert len(world.low) == 4


def rank_of(world, gone, before):
    """Return the stage of the order in agent.recording.retention that the file that went belongs to."""
    clips = [c for c in before if c[1] <= clip_index.key_of(gone) <= c[2]]
    if not clips:
        return 2
    if [c for c in clips if not c[3]]:
        return 5 if [c for c in clips if c[4] and not c[3]] else 4
    return 3


def test_what_goes_goes_in_order():
    """Seeded: clips of both kinds, some verified, on storage that is too small. What goes is what may go first."""
    for seed in range(1, 13):
        below = seeded(seed)
        world = World({"quota_kb": 1000, "lock_kb": 5000, "pre_s": 5, "post_s": 5}).boot().run(10)
        world.recorder._most = 65536
        for _ in range(25):
            try:
                number = world.recorder.trigger(below(4) == 0, 1, "", world.now)
            except RefusedError:
                pass
            before, files = picture_of(world), set(world.files.data)
            world.run(5 + below(20))
            check_order(world, seed, before, files)
            if below(3) == 0:
                world.shelf.verified(1 + below(number))
        assert world.shelf.bytes + world.shelf.journal.size <= 1000 * 1024, seed


def picture_of(world):
    return [(c.number, c.first, c.last, c.state == clip_index.VERIFIED, c.sos) for c in world.shelf.clips]


def check_order(world, seed, before, files):
    gone = [n for n in files - set(world.files.data) if n[-4:] == ".pls"]
    ranks = sorted([rank_of(world, n, before) for n in gone])
    if not ranks or ranks[-1] < 4:
        return
    # A clip that nobody has verified became coarser: then nothing that goes before it was left.
    left = [c for c in world.shelf.clips if c.state == clip_index.VERIFIED and not c.gone]
    assert not left or left[-1].number in [c.number for c in world.shelf.clips[-3:]], (seed, ranks)
    if ranks[-1] == 5:
        for clip in world.shelf.clips:
            if not clip.sos and clip.state == clip_index.KEPT and not clip.photo:
                assert len(alone(world, clip)) <= 2, (seed, clip.number)
    for name in gone:
        if rank_of(world, name, before) >= 4:
            told = [s for c in world.shelf.clips for s in world.manifest(c.number) if s.get("access") == "thinned"]
            assert [s for s in told if name[:-4] in s["segs"]], (seed, name)


def alone(world, clip):
    """Return the files of a clip that are there and that no other unverified clip has."""
    return [n for n in there(world, clip.number) if world.shelf.spares(clip, clip_index.key_of(n))]


def test_each_stage_is_used_up_before_the_next():
    world = World({"quota_kb": 16384, "lock_kb": 16384, "keep_h": 1, "post_s": 5}).boot().run(20)
    for trigger, seconds in ((0, 0), (0, 0), (0, 0), (0, 60), (1, 120)):
        clip_of(world, trigger, seconds)
        world.run(30)
    went = []
    shelf = world.shelf
    release, drop_ring, thin = shelf.release, shelf.drop_ring, shelf.thin
    shelf.release = lambda clip: (went.append("release %d" % clip.number), release(clip))
    shelf.drop_ring = lambda: drop_ring() and (went.append("ring") or True)
    shelf.thin = lambda clip, key: (went.append("thin %d" % clip.number), thin(clip, key))
    shelf.verified(1)
    world.shift = 2 * 3600 * 1000
    shelf.preserve(2)
    shelf.verified(2)
    shelf.verified(3)
    shelf._pre_ms = 0  # the ring has more than an event would want
    stages = []
    for rank in (retention.RING, retention.ROUTINE, retention.URGENT):
        while shelf._room.make(rank, world.unix(world.now)):
            assert len(went) < 200
        stages.append([w for i, w in enumerate(went) if i == 0 or went[i - 1] != w])
        went.clear()
    assert stages == [["release 1", "ring", "release 3", "release 2"], ["thin 4"], ["thin 5"]], stages


def test_a_live_sos_goes_on_while_anything_else_can_go():
    world = World({"quota_kb": 700, "lock_kb": 100000, "pre_s": 5, "post_s": 5}).boot().run(20)
    world.recorder._most = 65536
    first = clip_of(world, 0, 30)
    live = world.recorder.trigger(1, 1, "", world.now, FOREVER)
    start = world.now
    world.run(180)
    assert world.recorder.lost == 0 and not world.recorder.errors
    assert len(there(world, first)) == 2  # its first and its last
    minute = [s["seg"] for s in world.segments(live) if s["start_ms"] < world.segments(live)[0]["start_ms"] + 60000]
    assert [n for n in minute if n + ".pls" not in world.files.data] == []
    assert world.pictures_there(live)[-1] >= (world.now - 6000) // 200 and start


def test_the_ring_never_costs_a_clip_anything():
    world = World({"quota_kb": 400, "lock_kb": 100000}).boot().run(20)
    world.recorder._most = 65536
    first = clip_of(world, 0, 40)
    world.run(100)
    assert there(world, first) == names(world, first)
    assert world.recorder.errors == 4 and world.recorder.lost == 0
    assert retention.RING < retention.ROUTINE < retention.URGENT


def test_room_that_storage_is_slow_to_give_back_costs_nothing_more():
    """Files are removed when all before is done: until then the file system tells no more room than before."""
    world = World({"quota_kb": 16384, "lock_kb": 16384, "post_s": 5}).boot().run(20)
    clips = [clip_of(world, 0, 40) for _ in range(4)]
    files = world.files
    files.behind = []
    files.full = sum([len(d) for d in files.data.values()]) + 40000
    before = sum([len(there(world, n)) for n in clips])
    world.recorder.trigger(1, 1, "", world.now, 40000)
    world.run(39, lambda: files.work(1))
    files.work(1 << 30)
    gone = before - sum([len(there(world, n)) for n in clips])
    assert 0 < gone <= 24, gone  # 40 s at 5 kB/s, in files of 25 kB, and what is kept free
    assert world.recorder.lost == 0


def test_a_ring_that_has_no_room_for_all_its_seconds_keeps_the_last_ones():
    world = World({"quota_kb": 900, "lock_kb": 900, "pre_s": 60, "post_s": 5}, size=2000).boot().run(20)
    world.recorder._most = 65536
    first = clip_of(world, 0, 40)
    listed = names(world, first)
    world.run(100)
    assert there(world, first) == listed and world.recorder.lost == 0
    assert world.recorder.errors == 4  # the ring is shorter than it should be, and says so
    number = world.recorder.trigger(0, 2, "", world.now)
    trigger = world.now
    world.run(4)
    numbers = world.pictures(number) + world.recorder._segment.frames * [0]
    assert world.camera.given[max(numbers)][1] >= trigger - 5000
    assert world.camera.given[numbers[0]][1] <= trigger - 10000
