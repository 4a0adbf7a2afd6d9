"""Rows and messages of a hub about its clips, pictures, retention, and limits for hostile devices."""

import asyncio
import os
import time

import pytest
from patrolink.evidence import evidence_key
from patrolink.evidence.clip_folders import read_signers
from patrolink.hub.clips.clip_record import ClipKey
from patrolink.hub.clips.upload_store import ClipFile
from patrolink.hub.infra.retention_ledger import DAY_MS

from tests.support import clip_maker
from tests.support.clip_service_harness import DEVICE, ClipServiceHarness, record_clips
from tests.support.simulated_network import SimulatedNetwork


@pytest.fixture(scope="module")
def recorded_clips(tmp_path_factory):
    return record_clips(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def network():
    simulated = SimulatedNetwork()
    yield simulated
    simulated.close()


def test_retention_deletes_incomplete_clips_and_their_numbers_are_not_missing(recorded_clips, network, tmp_path):
    old_s = time.time() - 40 * 86400

    async def run():
        hub = ClipServiceHarness(tmp_path)
        for number in (1, 2, 3, 4):
            hub.service.intake.announce(recorded_clips.announcements[number])
            names = [f"{number:06d}.plm"] if number == 3 else []
            await hub.receive(recorded_clips.clip(number), number, *names)
        await hub.wait_idle()
        hub.service.access.preserve(DEVICE, 1)
        for number in (1, 2, 3):
            clip = hub.registry.find(DEVICE, number)
            clip.verdict_ms = clip.verdict_ms and int(old_s * 1000)
            os.utime(clip.folder, (old_s, old_s))
        assert not hub.registry.find(DEVICE, 3).verdict_ms
        await hub.service.retention.purge(0)
        assert set(await hub.wait_idle()) == {1, 2, 3, 4}, "deletion needs running time"
        await hub.service.retention.purge(30 * DAY_MS)
        rows = await hub.wait_idle()
        assert set(rows) == {1, 4} and not (tmp_path / "clips" / DEVICE / "000003").exists()
        await hub.kill()
        hub = ClipServiceHarness(tmp_path)
        assert set(await hub.wait_idle()) == {1, 4}, "deleted clips must not be reported as missing"
        await hub.kill()

    network.run(run())


def test_a_picture_with_an_altered_step_in_its_header_is_ignored(recorded_clips, network, tmp_path):
    """Key derivation takes one operation per step: step 4,000,000 would delay every verdict."""
    name = next(path.name for path in recorded_clips.clip(3).glob("*.pls"))
    data = bytearray((recorded_clips.clip(3) / name).read_bytes())

    async def run():
        hub = ClipServiceHarness(tmp_path, evidence_key.load(recorded_clips.device.pem))
        await hub.receive(recorded_clips.clip(3), 3, name)
        assert (await hub.wait_idle())[3]["picture"]
        (tmp_path / "altered").mkdir()
        data[14:18] = (4_000_000).to_bytes(4, "big")
        (tmp_path / "altered" / name).write_bytes(data)
        await hub.receive(tmp_path / "altered", 9, name)
        assert not (await hub.wait_idle())[9]["picture"]
        await hub.kill()

    network.run(run())


def test_upload_progress_is_published_once_a_second(network, tmp_path):
    async def run():
        hub = ClipServiceHarness(tmp_path)
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        while loop.time() - start_s < 2.5:
            for number in range(3):
                hub.service.intake.upload_progressed(ClipFile(DEVICE, number, "000001-000001.pls"))
            await asyncio.sleep(0.005)
        await hub.kill()
        assert len(hub.messages) == 3 * 2

    network.run(run())


def test_missing_numbers_are_published_at_most_100_per_second(recorded_clips, network, tmp_path):
    """A hostile device announces clips 500, 1000, ... An SOS of another device must still reach the dispatchers."""

    async def run():
        hub = ClipServiceHarness(tmp_path)
        for number in range(0, 5000, 500):
            hub.service.intake.announce({**recorded_clips.announcements[1], "clip_id": number})
        assert len(hub.messages) == 10 and {row["state"] for row in hub.messages} == {"told"}
        hub.messages.clear()
        for second in range(1, 10):
            await asyncio.sleep(1)
            assert len(hub.messages) == 100 * second and {row["state"] for row in hub.messages} == {"missing"}
        await hub.kill()

    network.run(run())


def test_a_page_converts_only_its_rows_and_a_list_lets_other_tasks_run(network, tmp_path, monkeypatch):
    async def run():
        hub = ClipServiceHarness(tmp_path)
        feed, convert_row = hub.service.feed, hub.service.feed.row
        for number in range(2000):
            clip = hub.registry.record(DEVICE, number if number < 1500 else number + 1)
            clip.announcement = {"start_ms": clip_maker.EPOCH_MS + number * 1000}
            clip.file_sizes = {f"000001-{i:06d}.pls": 1 for i in range(20)}
        converted_clips = []
        monkeypatch.setattr(feed, "row", lambda clip: converted_clips.append(clip) or convert_row(clip))
        newest = feed.newest(200)
        assert [row["clip"] for row in newest] == list(range(2000, 1800, -1)) and len(converted_clips) == 200
        other_rounds, rows = 0, []

        async def count_rounds():
            nonlocal other_rounds
            while True:
                other_rounds += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count_rounds())
        async for row in feed.rows():
            rows.append((row["clip"], row["state"], len(row["files"])))
        counting.cancel()
        assert other_rounds >= 2000 // 50
        assert len(rows) == 2001 and rows[499:502] == [
            (1501, "coming", 20),
            (1500, "missing", 0),
            (1499, "coming", 20),
        ]
        await hub.kill()

    network.run(run())


def test_signing_keys_of_a_device_are_limited_to_16(recorded_clips, network, tmp_path):
    async def run():
        hub = ClipServiceHarness(tmp_path)
        row = recorded_clips.announcements[1]
        for number in range(40):
            hub.service.intake.announce({**row, "clip_id": number, "signer": f"03{number:064x}"})
        assert len(read_signers(tmp_path / "clips" / "signers.toml")[DEVICE]) == 16
        assert hub.metrics.refused["clip"] == 24
        hub.service.intake.announce({**row, "clip_id": 100, "signer": f"03{7:064x}"})
        assert hub.registry.get(ClipKey(DEVICE, 100)) is not None
        await hub.kill()

    network.run(run())
