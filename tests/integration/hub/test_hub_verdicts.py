"""Verdicts of a hub on clips that arrive in any order, over restarts and faults, and its answers to devices."""

import asyncio
import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from patrolink.evidence import verify
from patrolink.evidence.clip_folders import read_signers
from patrolink.hub.clips.clip_record import ClipKey
from patrolink_enums import CLIP_STATE_STATE_DAMAGED as DAMAGED
from patrolink_enums import CLIP_STATE_STATE_VERIFIED as VERIFIED

from tests.support import clip_maker
from tests.support.clip_service_harness import DEVICE, ClipServiceHarness, record_clips

SEEDS = range(20261125, 20261125 + 12)


@pytest.fixture(scope="module")
def recorded_clips(tmp_path_factory):
    return record_clips(tmp_path_factory.mktemp("recorded"))


def audited_verdicts(folder: Path) -> list[tuple[int, str]]:
    log = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    return [(row["clip"], row["verdict"]) for row in log if row["what"] == "clip verified"]


def altered_copy(source: Path, target: Path) -> str:
    """Copy a clip, flip one bit of its first segment, and return the name of that file."""
    shutil.copytree(source, target)
    name = next(name for name in sorted(os.listdir(target)) if name.endswith(".pls"))
    data = bytearray((target / name).read_bytes())
    data[-5] ^= 1
    (target / name).write_bytes(data)
    return name


@pytest.mark.parametrize("seed", SEEDS)
def test_verdicts_do_not_depend_on_the_order_of_arrival(recorded_clips, tmp_path, seed):
    rng = random.Random(seed)
    steps = [
        (number, name)
        for number in recorded_clips.announcements
        for name in sorted(os.listdir(recorded_clips.clip(number)))
    ]
    steps += [(number, "") for number in recorded_clips.announcements]  # announcement
    rng.shuffle(steps)

    async def run():
        hub = ClipServiceHarness(tmp_path)
        for number, name in steps:
            if name:
                await hub.receive(recorded_clips.clip(number), number, name)
            else:
                hub.service.intake.announce(recorded_clips.announcements[number])
            if rng.random() < 0.3:
                await hub.wait_idle()
            if rng.random() < 0.1:
                await hub.kill()
                hub = ClipServiceHarness(tmp_path)
                # A device repeats its announcements until they are answered.
                for row in recorded_clips.announcements.values():
                    if hub.registry.get(ClipKey(DEVICE, row["clip_id"])) and rng.random() < 0.5:
                        hub.service.intake.announce(row)
        rows = await hub.wait_idle()
        published = {row["clip"]: row["verdict"] for row in hub.messages if row.get("type") == "clip"}
        await hub.kill()
        return rows, published

    rows, published = asyncio.run(run())
    clips = tmp_path / "clips"
    result = verify.verify_device(clips / DEVICE, read_signers(clips / "signers.toml"))
    assert {number: row["verdict"] for number, row in rows.items()} == dict.fromkeys(range(1, 5), "valid"), seed
    assert result.verdict == "valid", seed
    assert all(published[number] == "valid" for number in published if published[number]), seed
    stored = {n: json.loads((clips / DEVICE / f"{n:06d}" / "hub.json").read_text()) for n in rows}
    assert {n: document["verdict"] for n, document in stored.items()} == dict.fromkeys(range(1, 5), "valid"), seed


def test_a_late_clip_closes_the_gap_before_the_next_clip(recorded_clips, tmp_path):
    async def run():
        hub = ClipServiceHarness(tmp_path)
        for number in (2, 4, 3):
            hub.service.intake.announce(recorded_clips.announcements[number])
            await hub.receive(recorded_clips.clip(number), number)
        rows = await hub.wait_idle()
        assert {n: row["verdict"] for n, row in rows.items() if row["verdict"]} == {
            2: "valid with gaps", 3: "valid", 4: "valid"
        }  # fmt: skip
        assert rows[2]["findings"][0]["words"] == "the clip before this one is missing"
        assert hub.states == [(2, VERIFIED), (4, VERIFIED), (3, VERIFIED)]
        hub.messages.clear()
        hub.service.intake.announce(recorded_clips.announcements[1])
        await hub.receive(recorded_clips.clip(1), 1)
        rows = await hub.wait_idle()
        assert {row["verdict"] for row in rows.values()} == {"valid"} and not rows[2]["findings"]
        assert [row["verdict"] for row in hub.messages if row["clip"] == 2] == ["valid"]
        await hub.kill()

    asyncio.run(run())
    verdicts = audited_verdicts(tmp_path)
    assert verdicts[0] == (2, "valid with gaps") and verdicts[-1] == (2, "valid")


def test_a_killed_hub_checks_pending_links_of_the_chain_at_its_start(recorded_clips, tmp_path):
    async def run():
        hub = ClipServiceHarness(tmp_path)
        for number in (2, 1):
            hub.service.intake.announce(recorded_clips.announcements[number])
            await hub.receive(recorded_clips.clip(number), number)
            await hub.wait_idle()
        await hub.kill()
        path = tmp_path / "clips" / DEVICE / "000002" / "hub.json"
        gap = {"grade": "gap", "kind": "chain", "where": "000002", "words": "the clip before this one is missing"}
        path.write_text(json.dumps({**json.loads(path.read_text()), "verdict": "valid with gaps", "findings": [gap]}))
        hub = ClipServiceHarness(tmp_path)
        rows = await hub.wait_idle()
        assert rows[2]["verdict"] == "valid" and not rows[2]["findings"]
        await hub.kill()

    asyncio.run(run())


def test_another_clip_under_a_used_number_is_not_released(recorded_clips, tmp_path):
    """A device with new storage restarts at clip 1. Its clips are not those of the hub."""

    async def run():
        hub = ClipServiceHarness(tmp_path)
        announce, row = hub.service.intake.announce, recorded_clips.announcements[1]
        announce(row)
        await hub.receive(recorded_clips.clip(1), 1)
        await hub.wait_idle()
        assert hub.states == [(1, VERIFIED)]
        for _ in range(3):
            announce({**row, "chain": "11" * 32})
            announce({**row, "signer": "03" + "11" * 32, "chain": "22" * 32})
        await hub.wait_idle()
        assert hub.states == [(1, VERIFIED)]
        announce(row)
        await hub.wait_idle()
        assert hub.states == [(1, VERIFIED)] * 2
        await hub.kill()

    asyncio.run(run())


def test_an_announcement_after_the_verdict_is_compared_with_the_clip(recorded_clips, tmp_path):
    (tmp_path / "clips").mkdir()
    shutil.copy(recorded_clips.folder / "clips" / "signers.toml", tmp_path / "clips" / "signers.toml")

    async def run():
        hub = ClipServiceHarness(tmp_path)
        await hub.receive(recorded_clips.clip(1), 1)
        assert (await hub.wait_idle())[1]["verdict"] == "valid"
        hub.states.clear()
        hub.service.intake.announce({**recorded_clips.announcements[1], "chain": "11" * 32})
        assert (await hub.wait_idle())[1]["verdict"] == "tampered"
        assert hub.states == [(1, DAMAGED)]
        await hub.kill()

    asyncio.run(run())


def test_a_file_that_no_manifest_lists_is_quarantined_whenever_it_arrives(recorded_clips, tmp_path):
    (tmp_path / "more").mkdir()
    extra = "000009-000009.pls"
    shutil.copy(next(recorded_clips.clip(1).glob("*.pls")), tmp_path / "more" / extra)
    verify_clip = verify.verify_clip

    def slow_verify(*args):
        result = verify_clip(*args)
        time.sleep(0.3)
        return result

    async def run():
        hub = ClipServiceHarness(tmp_path)
        hub.service.intake.announce(recorded_clips.announcements[1])
        await hub.receive(recorded_clips.clip(1), 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(verify, "verify_clip", slow_verify)
            await asyncio.sleep(0.1)  # verification is running
            await hub.receive(tmp_path / "more", 1, extra)
            rows = await hub.wait_idle()
        assert rows[1]["verdict"] == "valid" and set(hub.states) == {(1, VERIFIED)}
        await hub.receive(tmp_path / "more", 1, extra)
        assert (await hub.wait_idle())[1]["verdict"] == "valid" and set(hub.states) == {(1, VERIFIED)}
        assert len(list((tmp_path / "clips").glob(f"*/*/{extra}.*.bad"))) == 2
        await hub.kill()

    asyncio.run(run())
    verdicts = [verdict for _, verdict in audited_verdicts(tmp_path)]
    assert verdicts in (["tampered", "valid"] * 2, ["valid", *["tampered", "valid"] * 2])


def test_a_damaged_clip_does_not_change_the_verdict_of_the_next_clip(recorded_clips, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(recorded_clips.clip(1), damaged)
    lines = (damaged / "000001.plm").read_bytes().splitlines(keepends=True)
    (damaged / "000001.plm").write_bytes(b"".join(lines[:2] + lines[3:]))

    async def run():
        hub = ClipServiceHarness(tmp_path / "hub")
        for number in (1, 2):
            hub.service.intake.announce(recorded_clips.announcements[number])
            await hub.receive(damaged if number == 1 else recorded_clips.clip(2), number)
            rows = await hub.wait_idle()
        assert hub.states == [(1, DAMAGED), (2, VERIFIED)] and rows[2]["verdict"] == "valid with gaps"
        await hub.receive(recorded_clips.clip(1), 1)
        rows = await hub.wait_idle()
        assert {row["verdict"] for row in rows.values()} == {"valid"}
        await hub.kill()

    (tmp_path / "hub").mkdir()
    asyncio.run(run())


def test_a_clip_that_does_not_follow_a_valid_one_is_tampered_and_not_quarantined(recorded_clips, tmp_path):
    """The device has signed two different clips 1, so one has replaced the other."""
    other = clip_maker.Device(DEVICE, recorded_clips.device.pem)
    records = recorded_clips.device.store.records.items()
    other.store.records.update({k: v for k, v in records if not k.startswith("clip")})
    other.boot()
    other.run(9)
    other.event("button", 77)
    folder = other.write(tmp_path / "other")
    assert os.listdir(folder) == ["000001"] and other.signer == recorded_clips.device.signer

    async def run():
        hub = ClipServiceHarness(tmp_path)
        hub.service.signers.pin(DEVICE, other.signer)
        await hub.receive(recorded_clips.clip(2), 2)
        assert (await hub.wait_idle())[2]["verdict"] == "valid with gaps"
        await hub.receive(folder / "000001", 1)
        rows = await hub.wait_idle()
        assert (rows[1]["verdict"], rows[2]["verdict"]) == ("valid", "tampered")
        assert "does not follow clip 1" in rows[2]["findings"][0]["words"]
        assert hub.states == [(2, VERIFIED), (1, VERIFIED)], "both clips are complete, so neither is requested again"
        assert not list((tmp_path / "clips").glob("*/*/*.bad"))
        await hub.kill()

    asyncio.run(run())


def test_an_answer_is_repeated_when_the_device_repeats_its_announcement(recorded_clips, tmp_path):
    name = altered_copy(recorded_clips.clip(1), tmp_path / "altered")

    async def run():
        hub = ClipServiceHarness(tmp_path)
        hub.service.intake.announce(recorded_clips.announcements[1])
        await hub.receive(tmp_path / "altered", 1)
        await hub.wait_idle()
        assert hub.states == [(1, DAMAGED)]
        await hub.kill()
        hub = ClipServiceHarness(tmp_path)
        for _ in range(5):
            hub.service.intake.announce(recorded_clips.announcements[1])
            await hub.wait_idle()
        assert hub.states == [(1, DAMAGED)] * 2, "at most three requests, including restarts"
        await hub.receive(recorded_clips.clip(1), 1, name)
        assert (await hub.wait_idle())[1]["verdict"] == "valid"
        hub.service.intake.announce(recorded_clips.announcements[1])
        await hub.wait_idle()
        assert hub.states[2:] == [(1, VERIFIED)] * 2
        await hub.kill()

    asyncio.run(run())


def test_files_that_a_hub_has_lost_are_requested_again(recorded_clips, tmp_path):
    async def run():
        hub = ClipServiceHarness(tmp_path)
        hub.service.intake.announce(recorded_clips.announcements[1])
        await hub.wait_idle()
        assert not hub.states  # the upload is expected to start
        # The device has uploaded everything, but the storage was lost.
        hub.service.intake.announce(recorded_clips.announcements[1])
        await hub.wait_idle()
        assert hub.states == [(1, DAMAGED)]
        await hub.kill()

    asyncio.run(run())


def test_a_storage_fault_or_an_exception_does_not_stop_other_verdicts(recorded_clips, tmp_path, monkeypatch, capsys):
    verify_clip = verify.verify_clip

    def failing_verify(folder, *args):
        if folder.name == "000002":
            raise ValueError("a defect")
        return verify_clip(folder, *args)

    async def run():
        no_folder = tmp_path / "file"
        no_folder.write_text("")
        hub = ClipServiceHarness(tmp_path, audit_path=no_folder / "audit.jsonl")  # the audit log cannot be written
        (tmp_path / "clips" / DEVICE / "000001" / "hub.json.new").mkdir(parents=True)
        with monkeypatch.context() as patch:
            patch.setattr(verify, "verify_clip", failing_verify)
            for number in (1, 2, 3):
                hub.service.intake.announce(recorded_clips.announcements[number])
                await hub.receive(recorded_clips.clip(number), number)
            rows = await hub.wait_idle()
        assert [rows[n]["verdict"] for n in (1, 2, 3)] == ["valid", "", "valid with gaps"]
        assert hub.metrics.counts["storage_failed"] > 2 and hub.metrics.counts["clips_not_verified"]
        hub.service.intake.announce(recorded_clips.announcements[2])
        rows = await hub.wait_idle()
        assert [rows[n]["verdict"] for n in (1, 2, 3)] == ["valid"] * 3
        await hub.kill()

    asyncio.run(run())
    assert "ValueError: a defect" in capsys.readouterr().err


def test_files_that_a_later_clip_lists_as_deleted_are_not_expected(recorded_clips, tmp_path):
    device = clip_maker.Device(DEVICE, tmp_path / "evidence.pem", quota_kb=12288)
    device.run(5)
    first = device.event("button", 11)
    device.run(20)
    retention = device.clip_store._retention
    clip = device.clip_store.index.find(first)
    key = retention._thinnable(clip, -1)
    retention.thin(clip, key, device.now)
    second = device.event("button", 12)
    device.run(3)
    folder = device.write(tmp_path / "device")

    async def run():
        hub = ClipServiceHarness(tmp_path)
        hub.service.signers.pin(DEVICE, device.signer)
        await hub.receive(folder / f"{second:06d}", second)
        rows = await hub.wait_idle()
        assert hub.states == [(second, VERIFIED)]
        await hub.receive(folder / f"{first:06d}", first)
        rows = await hub.wait_idle()
        assert rows[first]["verdict"] == "valid with gaps" and rows[second]["verdict"] in ("valid", "valid with gaps")
        assert hub.states == [(second, VERIFIED), (first, VERIFIED)]
        await hub.kill()

    asyncio.run(run())
