"""Rows and messages of a hub about clips, pictures, retention, and limits against a hostile device."""

import asyncio
import os
import time

import pytest
from patrolink.evidence import evidence_key
from patrolink.evidence.clip_folders import read_signers
from patrolink.hub.clips.clip_record import ClipKey
from patrolink.hub.clips.upload_store import ClipFile

from tests.support import clip_maker
from tests.support.clip_service_harness import DEVICE, ClipServiceHarness, record_clips


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record_clips(tmp_path_factory.mktemp("recorded"))


def test_retention_deletes_incomplete_clips_and_their_numbers_are_not_missing(recorded, tmp_path):
    old_s = time.time() - 40 * 86400

    async def run():
        hub = ClipServiceHarness(tmp_path)
        for number in (1, 2, 3, 4):
            hub.service.intake.announce(recorded.announcements[number])
            names = [f"{number:06d}.plm"] if number == 3 else []
            await hub.receive(recorded.clip(number), number, *names)
        await hub.wait_idle()
        hub.service.access.preserve(DEVICE, 1)
        for number in (1, 2, 3):
            clip = hub.registry.find(DEVICE, number)
            clip.verdict_ms = clip.verdict_ms and int(old_s * 1000)
            os.utime(clip.folder, (old_s, old_s))
        assert not hub.registry.find(DEVICE, 3).verdict_ms
        await hub.service.retention.purge(30)
        rows = await hub.wait_idle()
        assert set(rows) == {1, 4} and not (tmp_path / "clips" / DEVICE / "000003").exists()
        await hub.kill()
        hub = ClipServiceHarness(tmp_path)
        assert set(await hub.wait_idle()) == {1, 4}, "deleted clips are not missing"
        await hub.kill()

    asyncio.run(run())


def test_a_picture_whose_header_names_another_step_is_ignored(recorded, tmp_path):
    """The step decides how long decryption takes: four million keys would delay every verdict."""
    name = next(path.name for path in recorded.clip(3).glob("*.pls"))
    data = bytearray((recorded.clip(3) / name).read_bytes())

    async def run():
        hub = ClipServiceHarness(tmp_path, evidence_key.load(recorded.device.pem))
        await hub.receive(recorded.clip(3), 3, name)
        assert (await hub.wait_idle())[3]["picture"]
        (tmp_path / "altered").mkdir()
        data[14:18] = (4_000_000).to_bytes(4, "big")
        (tmp_path / "altered" / name).write_bytes(data)
        await hub.receive(tmp_path / "altered", 9, name)
        assert not (await hub.wait_idle())[9]["picture"]
        await hub.kill()

    asyncio.run(run())


def test_upload_progress_is_published_once_a_second(tmp_path):
    async def run():
        hub = ClipServiceHarness(tmp_path)
        start = time.monotonic()
        while time.monotonic() - start < 2.5:
            for number in range(3):
                hub.service.intake.upload_progressed(ClipFile(DEVICE, number, "000001-000001.pls"))
            await asyncio.sleep(0.005)
        await hub.kill()
        assert 3 <= len(hub.messages) <= 12, len(hub.messages)

    asyncio.run(run())


def test_missing_numbers_are_published_at_a_hundred_a_second(recorded, tmp_path):
    """A hostile device announces clip 500, 1000, ...: dispatchers must still see an SOS of another device."""

    async def run():
        hub = ClipServiceHarness(tmp_path)
        for number in range(0, 5000, 500):
            hub.service.intake.announce({**recorded.announcements[1], "clip_id": number})
        assert len(hub.messages) == 10 and {row["state"] for row in hub.messages} == {"told"}
        hub.messages.clear()
        deadline = time.monotonic() + 30
        while not hub.messages:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert len(hub.messages) == 100 and {row["state"] for row in hub.messages} == {"missing"}
        while len(hub.messages) < 900:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await hub.kill()

    asyncio.run(run())


def test_a_page_makes_only_its_rows_and_a_list_lets_other_tasks_run(tmp_path, monkeypatch):
    async def run():
        hub = ClipServiceHarness(tmp_path)
        feed, make_row = hub.service.feed, hub.service.feed.row
        for number in range(2000):
            clip = hub.registry.record(DEVICE, number if number < 1500 else number + 1)
            clip.announcement = {"start_ms": clip_maker.EPOCH_MS + number * 1000}
            clip.file_sizes = {f"000001-{i:06d}.pls": 1 for i in range(20)}
        converted = []
        monkeypatch.setattr(feed, "row", lambda clip: converted.append(clip) or make_row(clip))
        newest = feed.newest(200)
        assert [row["clip"] for row in newest] == list(range(2000, 1800, -1)) and len(converted) == 200
        turns, listed = 0, []

        async def count_turns():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count_turns())
        async for row in feed.rows():
            listed.append((row["clip"], row["state"], len(row["files"])))
        counting.cancel()
        assert turns >= 2000 // 50
        assert len(listed) == 2001 and listed[499:502] == [
            (1501, "coming", 20),
            (1500, "missing", 0),
            (1499, "coming", 20),
        ]
        await hub.kill()

    asyncio.run(run())


def test_a_device_has_16_signing_keys_at_most(recorded, tmp_path):
    async def run():
        hub = ClipServiceHarness(tmp_path)
        row = recorded.announcements[1]
        for number in range(40):
            hub.service.intake.announce({**row, "clip_id": number, "signer": f"03{number:064x}"})
        assert len(read_signers(tmp_path / "clips" / "signers.toml")[DEVICE]) == 16
        assert hub.metrics.refused["clip"] == 24
        hub.service.intake.announce({**row, "clip_id": 100, "signer": f"03{7:064x}"})
        assert hub.registry.get(ClipKey(DEVICE, 100)) is not None
        await hub.kill()

    asyncio.run(run())
