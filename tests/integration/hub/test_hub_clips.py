"""Clips of a device at a hub on virtual time: verdicts, signers, access log, HTTP routes and retention."""

import contextlib
import json

import aiohttp
import patrolink_enums as enums
import patrolink_messages
from patrolink.hub.clips.access_log import verify_access_log
from patrolink.hub.infra.retention_ledger import DAY_MS

from tests.support import clip_maker, device_client, simulated_clips, upload_clients
from tests.support.simulated_site import CONSOLE_URL

DEVICE = upload_clients.DEVICE

site = simulated_clips.site


def test_a_valid_clip_is_released(site):
    number = site.record_clip("sos")
    site.upload_all()
    assert site.wait_for_states(1) == [(number, enums.CLIP_STATE_STATE_VERIFIED)]
    row = site.rows()[number]
    assert (row["device"], row["trigger"], row["event"], row["verdict"]) == (DEVICE, "sos", 11, "valid")
    assert row["state"] == "here" and row["bytes"] == row["bytes_here"] > 10_000 and row["picture"]
    assert (site.clips / "signers.toml").read_text() == f'[signers]\n"{DEVICE}" = ["{site.device.signer}"]\n'
    site.uploader.announce_clips()  # a repeated announcement, as after a power cut, is answered again
    assert site.wait_for_states(1) == [(number, enums.CLIP_STATE_STATE_VERIFIED)]


def test_a_killed_hub_answers_pending_announcements_after_its_restart(site):
    number = site.record_clip()
    site.uploader.run_until(site.uploader.is_done)  # no announcement, so the signer is unknown
    site.network.run_until(lambda: site.rows()[number]["verdict"] == "unverifiable")
    site.hub.kill()
    site.hub.start()
    site.uploader.announce_clips()
    assert site.wait_for_states(1) == [(number, enums.CLIP_STATE_STATE_VERIFIED)]
    site.hub.kill()
    site.hub.start()
    assert site.rows()[number]["verdict"] == "valid"


def test_altered_files_are_uploaded_again(site):
    number = site.record_clip()
    files = site.device.files.data
    name = next(name for name in sorted(files) if name.endswith(".pls") and name[:13].encode() in files["000001.plm"])
    original, altered = bytes(files[name]), bytearray(files[name])
    altered[-5] ^= 1
    raw = upload_clients.RawTusClient(DEVICE, site.network, site.port)
    # The uploader has the key of the device, or the memory card was altered.
    assert raw.create(number, name, bytes(altered), bytes(altered)).status == 201
    assert site.clips.joinpath(DEVICE, f"{number:06d}", name).exists()
    site.uploader.announce_clips()
    pending = list(site.uploader.uploads.pending())
    for item in pending:
        if item.name != name:
            assert raw.create(number, item.name, bytes(files[item.name]), bytes(files[item.name]))[0] == 201
    assert site.wait_for_states(1) == [(number, enums.CLIP_STATE_STATE_DAMAGED)]
    assert site.rows()[number]["verdict"] == "tampered"
    assert raw.create(number, name, original, original).status == 201
    assert site.wait_for_states(1) == [(number, enums.CLIP_STATE_STATE_VERIFIED)]
    quarantined = list(site.clips.joinpath(DEVICE, f"{number:06d}").glob(f"{name}.*.bad"))
    assert [path.read_bytes() for path in quarantined] == [bytes(altered)]


def test_a_second_signer_is_audited(site):
    site.record_clip()
    site.upload_all()
    site.wait_for_states(1)
    first = site.device.signer
    values = site.uploader.manifest_values(1)
    values.update(clip_id=9, signer=bytes.fromhex("03" + "11" * 32))
    site.session.send_message(patrolink_messages.CLIP_MANIFEST, values)
    site.network.run_until(lambda: "03" + "11" * 32 in site.clips.joinpath("signers.toml").read_text())
    assert first in site.clips.joinpath("signers.toml").read_text()
    changed = [row for row in site.log_rows("audit.jsonl") if row["what"] == "signer changed"]
    assert [row["known"] for row in changed] == [[first]]
    assert {n: row["state"] for n, row in site.rows().items()} == {
        9: "told", 1: "here", **dict.fromkeys(range(2, 9), "missing")
    }  # fmt: skip


def test_a_clip_that_differs_from_its_announcement_is_tampered(site):
    number = site.record_clip()
    values = site.uploader.manifest_values(number)
    site.session.send_message(patrolink_messages.CLIP_MANIFEST, {**values, "chain": bytes(32)})
    site.uploader.run_until(site.uploader.is_done)
    assert site.wait_for_states(1) == [(number, enums.CLIP_STATE_STATE_DAMAGED)]
    row = site.rows()[number]
    assert row["verdict"] == "tampered" and row["findings"][0]["kind"] == "told"


def test_files_ranges_and_pictures_need_a_token_and_are_logged(site):
    number = site.record_clip()
    site.device.recorder.snapshot("duty", site.device.now)
    site.device.run(3)
    site.upload_all()
    site.wait_for_states(2)
    rows = site.rows()
    for row in rows.values():
        for file in row["files"]:
            status, _, body = site.get(f"/clips/{DEVICE}/{row['clip']:06d}/{file['name']}")
            assert status == 200 and body == bytes(site.device.files.data[file["name"]]) and len(body) == file["bytes"]
    name = rows[number]["files"][0]["name"]
    status, fields, body = site.get(f"/clips/{DEVICE}/{number}/{name}", Range="bytes=100-299")
    assert status == 206 and body == bytes(site.device.files.data[name][100:300])
    status, fields, body = site.get(f"/clips/{DEVICE}/{number + 1}/picture")
    assert status == 200 and fields["Content-Type"] == "image/jpeg" and body[:3] == b"\xff\xd8\xff"
    assert body in [jpeg for _, jpeg in clip_maker.pictures()]
    assert site.get("/clips/signers.toml")[2] == (site.clips / "signers.toml").read_bytes()
    for path in (f"{number}/..%2f..%2fsigners.toml", f"{number}/hub.json", "77/picture", f"{number}/000009-000009.pls"):
        assert site.get(f"/clips/{DEVICE}/{path}")[0] == 404
    for path in ("/clips", f"/clips/{DEVICE}/{number}/{name}", f"/clips/{DEVICE}/{number}/picture"):
        assert site.get(path, Authorization="Bearer wrong")[0] == 401
    log = site.log_rows("access.jsonl")
    assert {row["who"] for row in log} == {"duty"} and {row["what"] for row in log} == {"listed", "fetched", "viewed"}
    assert [row["part"] for row in log if "part" in row] == ["bytes=100-299"]
    assert verify_access_log(site.clips / "access.jsonl").lines == len(log)


def test_a_hub_without_evidence_key_verifies_but_shows_no_pictures(tmp_path):
    with contextlib.closing(simulated_clips.SimulatedClipSite(tmp_path, evidence=False)) as site:
        number = site.record_clip()
        site.upload_all()
        assert site.wait_for_states(1) == [(number, enums.CLIP_STATE_STATE_VERIFIED)]
        assert not site.rows()[number]["picture"]
        status, _, body = site.get(f"/clips/{DEVICE}/{number}/picture")
        assert status == 404 and b"no evidence key" in body


def test_a_truncated_access_log_blocks_access_and_nothing_else(site):
    number = site.record_clip()
    site.rows()
    site.hub.stop()
    log = site.clips / "access.jsonl"
    log.write_bytes(log.read_bytes()[:-3])
    site.hub.start()
    site.upload_all()
    assert site.wait_for_states(1) == [(number, enums.CLIP_STATE_STATE_VERIFIED)]
    status, _, body = site.get("/clips")
    assert status == 503 and b"line 1" in body
    assert site.get("/status")[0] == 200


def test_retention_deletes_and_logs_all_but_preserved_clips(site):
    numbers = [site.record_clip(), site.record_clip()]
    site.upload_all()
    site.wait_for_states(2)

    async def preserve():
        async with (
            aiohttp.ClientSession(
                connector=site.network.connector(), headers=upload_clients.CONSOLE_HEADERS
            ) as session,
            session.ws_connect(f"{CONSOLE_URL}/socket", headers=upload_clients.CONSOLE_HEADERS) as ws,
        ):
            await ws.send_json({"do": "preserve_clip", "id": 1, "device": DEVICE, "clip": numbers[0]})
            while (reply := await ws.receive_json()).get("id") != 1:
                pass
            return reply

    assert site.network.run(preserve())["type"] == "reply"
    device_client.run_until([site.session], lambda: site.session.commands)
    assert (site.session.commands[0]["action"], site.session.commands[0]["number"]) == (
        enums.COMMAND_ACTION_PRESERVE_CLIP,
        numbers[0],
    )
    site.hub.stop()
    for number in numbers:
        path = site.clips / DEVICE / f"{number:06d}" / "hub.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "ended_ms": 1000}))
    state = site.clips.parent / "state" / "shard-0"  # as if the hub had run for 31 days
    marks = {f"{DEVICE}/{number}": [1000, 0] for number in numbers}
    (state / "retention-clips.json").write_text(json.dumps(marks))
    (state / "running-time.json").write_text(json.dumps({"running_ms": 31 * DAY_MS, "unix_ms": 1000}))
    site.hub.start()
    site.network.run_until(lambda: not (site.clips / DEVICE / f"{numbers[1]:06d}").exists())
    assert set(site.rows()) == {numbers[0]}
    deleted = [row for row in site.log_rows("access.jsonl") if row["what"] == "deleted"]
    assert [(row["who"], row["clip"]) for row in deleted] == [("retention", numbers[1])]
    assert [row["by_ms"] > DAY_MS for row in site.log_rows("audit.jsonl") if row["what"] == "clock jumped"] == [True]


def test_the_first_picture_of_an_sos_is_shown_during_the_recording(site):
    site.device.run(5)
    number = site.device.recorder.trigger(1, 12, "", site.device.now)
    site.device.run(3)
    site.uploader.run_until(site.uploader.is_done)
    row = site.rows()[number]
    assert row["state"] == "coming" and row["bytes_here"] > 0 and row["picture"]
    assert site.get(f"/clips/{DEVICE}/{number}/picture")[2][:3] == b"\xff\xd8\xff"
