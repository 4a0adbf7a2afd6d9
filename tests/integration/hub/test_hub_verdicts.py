"""Verdicts of a hub on clips in any order, over restarts and faults; what their devices are told, and when."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import time

import pytest
from patrolink.evidence import evidence_key, verify
from patrolink.hub.clips.clip_service import Clips
from patrolink.hub.clips.tus_server import Uploads
from patrolink.hub.clips.upload_authorization import Authorization
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.metrics import Metrics

from tests.support import clip_maker, upload_clients

SEEDS = range(20261125, 20261125 + 12)
VERIFIED, DAMAGED = 5, 7
DEVICE = upload_clients.DEVICE


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A device that has filmed: 1 a button's clip, 2 an SOS's, 3 a snapshot, 4 a dispatcher's; what it sent of them."""
    folder = tmp_path_factory.mktemp("filmed")
    device = clip_maker.make(folder / "clips", DEVICE)
    courier = upload_clients.Courier(device, 1)
    device.told = {}
    for number in (1, 2, 3, 4):
        values = courier.shelf.values(courier.shelf.find(number))
        device.told[number] = {
            **{name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()},
            "device": DEVICE,
        }
    device.folder = folder
    return device


class Hub:
    """The clips of a hub, without its sockets; `said` is what devices are told, `shown` what desks are."""

    def __init__(self, folder, evidence=None, log=None) -> None:
        self.folder, self.metrics = folder, Metrics()
        note = AuditLog(log or folder / "audit.jsonl", self.metrics).note
        self.uploads = Uploads(folder / "clips", Authorization(lambda name: None), 1 << 30, self.metrics, note)
        self.clips = Clips(folder / "clips", self.uploads, evidence, self.metrics, note)
        self.said, self.shown = [], []
        self.clips.state_of = lambda device, values: self.said.append((values["clip_id"], values["state"]))
        self.clips.tell = self.shown.append
        self._job = asyncio.ensure_future(self.clips.run())

    async def put(self, source, number, *names) -> None:
        """Files of a clip come, all unless some are named."""
        there = self.folder / "clips" / DEVICE / f"{number:06d}"
        there.mkdir(parents=True, exist_ok=True)
        for name in names or sorted(os.listdir(source)):
            shutil.copy(source / name, there / name)
            await self.uploads.taken(DEVICE, number, name)

    async def settled(self) -> dict:
        """Wait until nothing is left to look at; return the rows by number."""
        deadline = time.monotonic() + 30
        while not self._job.done() and (self.clips._queued or self.clips._waiting.qsize() or not self._idle()):
            assert time.monotonic() < deadline, self.clips._queued
            await asyncio.sleep(0.01)
        assert not self._job.done(), self._job
        return {row["clip"]: row for row in self.clips.newest(1000)}

    def _idle(self) -> bool:
        """Whether the job waits for the next clip to look at."""
        waits = self._job.get_coro().cr_await
        return waits is not None and getattr(waits, "__qualname__", "") == "Queue.get"

    async def kill(self) -> None:
        self._job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._job


def of(filmed, number):
    return filmed.folder / "clips" / DEVICE / f"{number:06d}"


@pytest.mark.parametrize("seed", SEEDS)
def test_in_any_order_the_verdicts_are_those_of_all_together(filmed, tmp_path, seed):
    chance = random.Random(seed)
    order = [(number, name) for number in filmed.told for name in sorted(os.listdir(of(filmed, number)))]
    order += [(number, "") for number in filmed.told]  # told of
    chance.shuffle(order)

    async def run():
        hub = Hub(tmp_path)
        for number, name in order:
            if name:
                await hub.put(of(filmed, number), number, name)
            else:
                hub.clips.manifest(filmed.told[number])
            if chance.random() < 0.3:
                await hub.settled()
            if chance.random() < 0.1:
                await hub.kill()
                hub = Hub(tmp_path)
                for told in filmed.told.values():  # a device tells its clips until it has heard of them
                    if told["clip_id"] in hub.clips._numbers[DEVICE] and chance.random() < 0.5:
                        hub.clips.manifest(told)
        rows = await hub.settled()
        shown = {row["clip"]: row["verdict"] for row in hub.shown if row.get("type") == "clip"}
        await hub.kill()
        return rows, shown

    rows, shown = asyncio.run(run())
    together = verify.device(tmp_path / "clips" / DEVICE, verify.signers(tmp_path / "clips" / "signers.toml"))
    assert {number: row["verdict"] for number, row in rows.items()} == dict.fromkeys(range(1, 5), "valid"), seed
    assert together.verdict == "valid", seed
    assert all(shown[number] == "valid" for number in shown if shown[number]), seed
    kept = {n: json.loads((tmp_path / "clips" / DEVICE / f"{n:06d}" / "hub.json").read_text()) for n in rows}
    assert {n: it["verdict"] for n, it in kept.items()} == dict.fromkeys(range(1, 5), "valid"), seed


def test_a_gap_closes_when_the_clip_before_comes_and_desks_and_log_follow(filmed, tmp_path):
    async def run():
        hub = Hub(tmp_path)
        for number in (2, 4, 3):
            hub.clips.manifest(filmed.told[number])
            await hub.put(of(filmed, number), number)
        rows = await hub.settled()
        assert {n: row["verdict"] for n, row in rows.items() if row["verdict"]} == {
            2: "valid with gaps", 3: "valid", 4: "valid"
        }  # fmt: skip
        assert rows[2]["findings"][0]["words"] == "the clip before it is missing"
        assert hub.said == [(2, VERIFIED), (4, VERIFIED), (3, VERIFIED)]
        hub.shown.clear()
        hub.clips.manifest(filmed.told[1])
        await hub.put(of(filmed, 1), 1)
        rows = await hub.settled()
        assert {row["verdict"] for row in rows.values()} == {"valid"} and not rows[2]["findings"]
        assert [row["verdict"] for row in hub.shown if row["clip"] == 2] == ["valid"]
        await hub.kill()

    asyncio.run(run())
    log = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    said = [(it["clip"], it["verdict"]) for it in log if it["what"] == "clip verified"]
    assert said[0] == (2, "valid with gaps") and said[-1] == (2, "valid")


def test_a_hub_killed_between_a_clip_and_the_next_ones_verdict_closes_the_gap_at_its_start(filmed, tmp_path):
    async def run():
        hub = Hub(tmp_path)
        for number in (2, 1):
            hub.clips.manifest(filmed.told[number])
            await hub.put(of(filmed, number), number)
            await hub.settled()
        await hub.kill()
        path = tmp_path / "clips" / DEVICE / "000002" / "hub.json"
        gap = {"grade": "gap", "kind": "chain", "where": "000002", "words": "the clip before it is missing"}
        path.write_text(json.dumps({**json.loads(path.read_text()), "verdict": "valid with gaps", "findings": [gap]}))
        hub = Hub(tmp_path)
        rows = await hub.settled()
        assert rows[2]["verdict"] == "valid" and not rows[2]["findings"]
        await hub.kill()

    asyncio.run(run())


def test_another_clip_under_a_number_that_is_taken_is_not_let_go(filmed, tmp_path):
    """A device that was set up anew counts from 1 again: its clips are not those that the hub has."""

    async def run():
        hub = Hub(tmp_path)
        hub.clips.manifest(filmed.told[1])
        await hub.put(of(filmed, 1), 1)
        await hub.settled()
        assert hub.said == [(1, VERIFIED)]
        for _ in range(3):
            hub.clips.manifest({**filmed.told[1], "chain": "11" * 32})
            hub.clips.manifest({**filmed.told[1], "signer": "03" + "11" * 32, "chain": "22" * 32})
        await hub.settled()
        assert hub.said == [(1, VERIFIED)]
        hub.clips.manifest(filmed.told[1])
        await hub.settled()
        assert hub.said == [(1, VERIFIED)] * 2
        await hub.kill()

    asyncio.run(run())


def test_what_is_told_after_the_verdict_is_held_against_it(filmed, tmp_path):
    async def run():
        hub = Hub(tmp_path)
        (tmp_path / "clips").mkdir(exist_ok=True)
        await hub.kill()
        shutil.copy(filmed.folder / "clips" / "signers.toml", tmp_path / "clips" / "signers.toml")
        hub = Hub(tmp_path)
        await hub.put(of(filmed, 1), 1)
        assert (await hub.settled())[1]["verdict"] == "valid"
        hub.said.clear()
        hub.clips.manifest({**filmed.told[1], "chain": "11" * 32})
        assert (await hub.settled())[1]["verdict"] == "tampered"
        assert hub.said == [(1, DAMAGED)]
        await hub.kill()

    asyncio.run(run())


def test_a_file_that_no_manifest_lists_is_set_aside_whenever_it_comes(filmed, tmp_path):
    (tmp_path / "more").mkdir()
    extra = "000009-000009.pls"
    shutil.copy(next(of(filmed, 1).glob("*.pls")), tmp_path / "more" / extra)

    async def run():
        hub = Hub(tmp_path)
        hub.clips.manifest(filmed.told[1])
        await hub.put(of(filmed, 1), 1)
        right = verify.clip

        def slow(*args):
            found = right(*args)
            time.sleep(0.3)
            return found

        verify.clip = slow
        try:
            await asyncio.sleep(0.1)  # it is being judged
            await hub.put(tmp_path / "more", 1, extra)
            rows = await hub.settled()
        finally:
            verify.clip = right
        # It is told, put away, and all else is what was recorded.
        assert rows[1]["verdict"] == "valid" and set(hub.said) == {(1, VERIFIED)}
        await hub.put(tmp_path / "more", 1, extra)
        assert (await hub.settled())[1]["verdict"] == "valid" and set(hub.said) == {(1, VERIFIED)}
        assert len(list((tmp_path / "clips").glob(f"*/*/{extra}.*.bad"))) == 2
        await hub.kill()

    asyncio.run(run())
    log = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    said = [it["verdict"] for it in log if it["what"] == "clip verified"]
    assert said in (["tampered", "valid"] * 2, ["valid", *["tampered", "valid"] * 2])


def test_an_earlier_clip_that_is_damaged_says_nothing_of_the_next_one(filmed, tmp_path):
    bent = tmp_path / "bent"
    shutil.copytree(of(filmed, 1), bent)
    lines = (bent / "000001.plm").read_bytes().splitlines(keepends=True)
    (bent / "000001.plm").write_bytes(b"".join(lines[:2] + lines[3:]))

    async def run():
        hub = Hub(tmp_path / "hub")
        for number in (1, 2):
            hub.clips.manifest(filmed.told[number])
            await hub.put(bent if number == 1 else of(filmed, 2), number)
            rows = await hub.settled()
        assert hub.said == [(1, DAMAGED), (2, VERIFIED)] and rows[2]["verdict"] == "valid with gaps"
        await hub.put(of(filmed, 1), 1)
        rows = await hub.settled()
        assert {row["verdict"] for row in rows.values()} == {"valid"}
        await hub.kill()

    (tmp_path / "hub").mkdir()
    asyncio.run(run())


def test_a_clip_that_does_not_follow_a_right_one_is_tampered_with_and_stays_where_it_is(filmed, tmp_path):
    """Another clip 1 that the device signed: one of the two took the other's place."""
    other = clip_maker.Device(DEVICE, filmed.pem)
    other.store.records.update({k: v for k, v in filmed.store.records.items() if not k.startswith("clip")})
    other.boot()
    other.run(9)
    other.event("button", 77)
    there = other.write(tmp_path / "other")
    assert os.listdir(there) == ["000001"] and other.signer == filmed.signer

    async def run():
        hub = Hub(tmp_path)
        hub.clips._pin(DEVICE, other.signer)
        await hub.put(of(filmed, 2), 2)
        assert (await hub.settled())[2]["verdict"] == "valid with gaps"
        await hub.put(there / "000001", 1)
        rows = await hub.settled()
        assert (rows[1]["verdict"], rows[2]["verdict"]) == ("valid", "tampered")
        assert "does not follow clip 1" in rows[2]["findings"][0]["words"]
        assert hub.said == [(2, VERIFIED), (1, VERIFIED)], "what both are is known: it need not come again"
        assert not list((tmp_path / "clips").glob("*/*/*.bad"))
        await hub.kill()

    asyncio.run(run())


def test_a_state_that_was_lost_is_said_again_when_the_device_tells_its_clip_again(filmed, tmp_path):
    bent = tmp_path / "bent"
    shutil.copytree(of(filmed, 1), bent)
    name = next(name for name in sorted(os.listdir(bent)) if name.endswith(".pls"))
    data = bytearray((bent / name).read_bytes())
    data[-5] ^= 1
    (bent / name).write_bytes(data)

    async def run():
        hub = Hub(tmp_path)
        hub.clips.manifest(filmed.told[1])
        await hub.put(bent, 1)
        await hub.settled()
        assert hub.said == [(1, DAMAGED)]
        await hub.kill()
        hub = Hub(tmp_path)
        for _ in range(5):
            hub.clips.manifest(filmed.told[1])
            await hub.settled()
        assert hub.said == [(1, DAMAGED)] * 2, "three times at most, over restarts"
        await hub.put(of(filmed, 1), 1, name)
        assert (await hub.settled())[1]["verdict"] == "valid"
        hub.clips.manifest(filmed.told[1])
        await hub.settled()
        assert hub.said[2:] == [(1, VERIFIED)] * 2
        await hub.kill()

    asyncio.run(run())


def test_files_that_a_hub_has_lost_are_asked_for_again(filmed, tmp_path):
    async def run():
        hub = Hub(tmp_path)
        hub.clips.manifest(filmed.told[1])
        await hub.settled()
        assert not hub.said  # it begins to come
        hub.clips.manifest(filmed.told[1])  # its device has sent all of it, to a storage that is gone
        await hub.settled()
        assert hub.said == [(1, DAMAGED)]
        await hub.kill()

    asyncio.run(run())


def test_storage_that_refuses_and_a_bug_stop_no_other_verdict(filmed, tmp_path, monkeypatch, capsys):
    async def run():
        nowhere = tmp_path / "file"
        nowhere.write_text("")
        hub = Hub(tmp_path, log=nowhere / "audit.jsonl")  # no log can be written
        (tmp_path / "clips" / DEVICE / "000001" / "hub.json.new").mkdir(parents=True)
        right = verify.clip

        def wrong(folder, *more):
            if folder.name == "000002":
                raise ValueError("a bug")
            return right(folder, *more)

        with monkeypatch.context() as patch:
            patch.setattr(verify, "clip", wrong)
            for number in (1, 2, 3):
                hub.clips.manifest(filmed.told[number])
                await hub.put(of(filmed, number), number)
            rows = await hub.settled()
        assert [rows[n]["verdict"] for n in (1, 2, 3)] == ["valid", "", "valid with gaps"]
        assert hub.metrics.counts["storage_failed"] > 2 and hub.metrics.counts["clips_not_verified"]
        hub.clips.manifest(filmed.told[2])
        rows = await hub.settled()
        assert [rows[n]["verdict"] for n in (1, 2, 3)] == ["valid"] * 3
        await hub.kill()

    asyncio.run(run())
    assert "ValueError: a bug" in capsys.readouterr().err


def test_retention_takes_what_never_came_whole_and_leaves_no_number_as_missing(filmed, tmp_path):
    old = time.time() - 40 * 86400

    async def run():
        hub = Hub(tmp_path)
        for number in (1, 2, 3, 4):
            hub.clips.manifest(filmed.told[number])
            await hub.put(of(filmed, number), number, *([f"{number:06d}.plm"] if number == 3 else []))
        await hub.settled()
        hub.clips.preserve(DEVICE, 1)
        for number in (1, 2, 3):
            it = hub.clips.get(DEVICE, number)
            it.ended_ms = it.ended_ms and int(old * 1000)
            os.utime(it.folder, (old, old))
        assert not hub.clips.get(DEVICE, 3).ended_ms
        await hub.clips.purge(30)
        rows = await hub.settled()
        assert set(rows) == {1, 4} and not (tmp_path / "clips" / DEVICE / "000003").exists()
        await hub.kill()
        hub = Hub(tmp_path)
        assert set(await hub.settled()) == {1, 4}, "deleted is not missing"
        await hub.kill()

    asyncio.run(run())


def test_what_is_thinned_of_a_clip_that_comes_later_is_known(filmed, tmp_path):
    device = clip_maker.Device(DEVICE, tmp_path / "evidence.pem", quota_kb=12288)
    device.run(5)
    first = device.event("button", 11)
    device.run(20)
    shelf = device.recorder.shelf
    clip = shelf.find(first)
    key = shelf._room._spare(clip, -1)
    shelf.thin(clip, key)
    second = device.event("button", 12)
    device.run(3)
    there = device.write(tmp_path / "there")

    async def run():
        hub = Hub(tmp_path)
        hub.clips._pin(DEVICE, device.signer)
        await hub.put(there / f"{second:06d}", second)
        rows = await hub.settled()
        assert hub.said == [(second, VERIFIED)]
        await hub.put(there / f"{first:06d}", first)
        rows = await hub.settled()
        assert rows[first]["verdict"] == "valid with gaps" and rows[second]["verdict"] in ("valid", "valid with gaps")
        assert hub.said == [(second, VERIFIED), (first, VERIFIED)]
        await hub.kill()

    asyncio.run(run())


def test_a_picture_that_names_another_step_is_none(filmed, tmp_path):
    """Its step says how long it takes to decipher: four million keys hold up every verdict."""
    name = next(path.name for path in of(filmed, 3).glob("*.pls"))
    data = bytearray((of(filmed, 3) / name).read_bytes())

    async def run():
        hub = Hub(tmp_path, evidence_key.load(filmed.pem))
        await hub.put(of(filmed, 3), 3, name)
        assert (await hub.settled())[3]["picture"]
        (tmp_path / "bent").mkdir()
        data[14:18] = (4_000_000).to_bytes(4, "big")
        (tmp_path / "bent" / name).write_bytes(data)
        await hub.put(tmp_path / "bent", 9, name)
        assert not (await hub.settled())[9]["picture"]
        await hub.kill()

    asyncio.run(run())


def test_how_far_a_clip_is_is_told_once_a_second(tmp_path):
    async def run():
        hub = Hub(tmp_path)
        begin = time.monotonic()
        while time.monotonic() - begin < 2.5:
            for number in range(3):
                hub.uploads.moved(DEVICE, number)
            await asyncio.sleep(0.005)
        await hub.kill()
        assert 3 <= len(hub.shown) <= 12, len(hub.shown)

    asyncio.run(run())


def test_numbers_that_a_device_leaves_out_are_told_a_hundred_a_second(filmed, tmp_path):
    """A device in wrong hands tells of clip 900, 1800, ...: desks keep their time for an SOS of others."""

    async def run():
        hub = Hub(tmp_path)
        for number in range(0, 5000, 500):
            hub.clips.manifest({**filmed.told[1], "clip_id": number})
        assert len(hub.shown) == 10 and {row["state"] for row in hub.shown} == {"told"}
        hub.shown.clear()
        deadline = time.monotonic() + 30
        while not hub.shown:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert len(hub.shown) == 100 and {row["state"] for row in hub.shown} == {"missing"}
        while len(hub.shown) < 900:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await hub.kill()

    asyncio.run(run())


def test_however_many_clips_there_are_a_page_costs_its_rows_and_a_list_leaves_turns_to_others(tmp_path):
    async def run():
        hub = Hub(tmp_path)
        for number in range(2000):
            it = hub.clips._clip(DEVICE, number if number < 1500 else number + 1)
            it.told = {"start_ms": clip_maker.EPOCH_MS + number * 1000}
            it.sizes = {f"000001-{i:06d}.pls": 1 for i in range(20)}
        made = []
        row = hub.clips._row
        hub.clips._row = lambda it: made.append(it) or row(it)
        newest = hub.clips.newest(200)
        assert [row["clip"] for row in newest] == list(range(2000, 1800, -1)) and len(made) == 200
        turns, listed = 0, []

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        async for one in hub.clips.rows():
            listed.append((one["clip"], one["state"], len(one["files"])))
        counting.cancel()
        assert turns >= 2000 // 50
        assert len(listed) == 2001 and listed[499:502] == [
            (1501, "coming", 20),
            (1500, "missing", 0),
            (1499, "coming", 20),
        ]
        await hub.kill()

    asyncio.run(run())


def test_a_device_has_few_signing_keys(filmed, tmp_path):
    async def run():
        hub = Hub(tmp_path)
        for number in range(40):
            hub.clips.manifest({**filmed.told[1], "clip_id": number, "signer": f"03{number:064x}"})
        assert len(verify.signers(tmp_path / "clips" / "signers.toml")[DEVICE]) == 16
        assert hub.metrics.refused["clip"] == 24
        hub.clips.manifest({**filmed.told[1], "clip_id": 100, "signer": f"03{7:064x}"})
        assert 100 in hub.clips._numbers[DEVICE]
        await hub.kill()

    asyncio.run(run())
