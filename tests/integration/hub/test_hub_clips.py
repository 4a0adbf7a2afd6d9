"""A device's clips at a real hub: verified and released, or not; who signs; who looked; over HTTP and the socket."""

import asyncio
import contextlib
import json

import aiohttp
import patrolink_messages
from patrolink.hub.clips.access_log import verify_access_log

from tests.support import clip_maker, hub_process, upload_clients
from tests.support.polling import TIMEOUT_S, wait_until

VERIFIED, DAMAGED = 5, 7
DEVICE = upload_clients.DEVICE

site = upload_clients.site


def test_a_clip_is_verified_and_released(site):
    number = site.film("sos")
    site.send()
    assert site.states(1) == [(number, VERIFIED)]
    row = site.rows()[number]
    assert (row["device"], row["trigger"], row["event"], row["verdict"]) == (DEVICE, "sos", 11, "valid")
    assert row["state"] == "here" and row["bytes"] == row["bytes_here"] > 10_000 and row["picture"]
    assert (site.clips / "signers.toml").read_text() == f'[signers]\n"{DEVICE}" = ["{site.device.signer}"]\n'
    site.courier.manifests()  # told again, as after a power cut: the state is, too
    assert site.states(1) == [(number, VERIFIED)]


def test_what_the_hub_could_not_say_before_it_was_killed_it_says_after(site):
    number = site.film()
    site.courier.run(site.courier.all_sent)  # nobody told the signer yet
    wait_until(lambda: site.rows()[number]["verdict"] == "unverifiable")
    site.hub.kill()
    site.hub.start()
    site.courier.manifests()
    assert site.states(1) == [(number, VERIFIED)]
    site.hub.kill()
    site.hub.start()
    assert site.rows()[number]["verdict"] == "valid"


def test_bytes_that_are_not_the_recorded_ones_come_again(site):
    number = site.film()
    files = site.device.files.data
    name = next(name for name in sorted(files) if name.endswith(".pls") and name[:13].encode() in files["000001.plm"])
    right, wrong = bytes(files[name]), bytearray(files[name])
    wrong[-5] ^= 1
    raw = upload_clients.Raw(DEVICE, site.port)
    assert (
        raw.create(number, name, bytes(wrong), bytes(wrong))[0] == 201
    )  # somebody has its key, or its card was changed
    assert site.clips.joinpath(DEVICE, f"{number:06d}", name).exists()
    site.courier.manifests()
    pending = list(site.courier.uploads.pending())
    for item in pending:
        if item.name != name:
            assert raw.create(number, item.name, bytes(files[item.name]), bytes(files[item.name]))[0] == 201
    assert site.states(1) == [(number, DAMAGED)]
    assert site.rows()[number]["verdict"] == "tampered"
    assert raw.create(number, name, right, right)[0] == 201
    assert site.states(1) == [(number, VERIFIED)]
    kept = list(site.clips.joinpath(DEVICE, f"{number:06d}").glob(f"{name}.*.bad"))
    assert [path.read_bytes() for path in kept] == [bytes(wrong)]


def test_a_second_signer_is_told_to_all(site):
    site.film()
    site.send()
    site.states(1)
    first = site.device.signer
    values = site.courier.manifest_values(1)
    values.update(clip_id=9, signer=bytes.fromhex("03" + "11" * 32))
    site.link.uplink(patrolink_messages.CLIP_MANIFEST, values)
    wait_until(lambda: "03" + "11" * 32 in site.clips.joinpath("signers.toml").read_text())
    assert first in site.clips.joinpath("signers.toml").read_text()
    changed = [row for row in site.lines("audit.jsonl") if row["what"] == "signer changed"]
    assert [row["known"] for row in changed] == [[first]]
    assert {n: row["state"] for n, row in site.rows().items()} == {
        9: "told", 1: "here", **dict.fromkeys(range(2, 9), "missing")
    }  # fmt: skip


def test_a_clip_that_comes_otherwise_than_it_was_told_is_tampered_with(site):
    number = site.film()
    values = site.courier.manifest_values(number)
    site.link.uplink(patrolink_messages.CLIP_MANIFEST, {**values, "chain": bytes(32)})
    site.courier.run(site.courier.all_sent)
    assert site.states(1) == [(number, DAMAGED)]
    row = site.rows()[number]
    assert row["verdict"] == "tampered" and row["findings"][0]["kind"] == "told"


def test_files_ranges_and_pictures_are_given_to_who_may_and_written_down(site):
    number = site.film()
    site.device.recorder.snapshot("duty", site.device.now)
    site.device.run(3)
    site.send()
    site.states(2)
    rows = site.rows()
    for row in rows.values():
        for one in row["files"]:
            status, _, body = site.get(f"/clips/{DEVICE}/{row['clip']:06d}/{one['name']}")
            assert status == 200 and body == bytes(site.device.files.data[one["name"]]) and len(body) == one["bytes"]
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
    log = site.lines("access.jsonl")
    assert {row["who"] for row in log} == {"duty"} and {row["what"] for row in log} == {"listed", "fetched", "viewed"}
    assert [row["part"] for row in log if "part" in row] == ["bytes=100-299"]
    assert verify_access_log(site.clips / "access.jsonl").lines == len(log)


def test_without_an_evidence_key_all_is_verified_and_nothing_shown(tmp_path, broker):
    with contextlib.closing(upload_clients.Site(tmp_path, broker, evidence=False)) as site:
        number = site.film()
        site.send()
        assert site.states(1) == [(number, VERIFIED)]
        assert not site.rows()[number]["picture"]
        status, _, body = site.get(f"/clips/{DEVICE}/{number}/picture")
        assert status == 404 and b"no evidence key" in body


def test_an_access_log_that_was_cut_off_stops_looking_and_nothing_else(site):
    number = site.film()
    site.rows()
    site.hub.stop()
    log = site.clips / "access.jsonl"
    log.write_bytes(log.read_bytes()[:-3])
    site.hub.start()
    site.send()
    assert site.states(1) == [(number, VERIFIED)]
    status, _, body = site.get("/clips")
    assert status == 503 and b"line 1" in body
    assert site.get("/status")[0] == 200


def test_retention_deletes_and_tells_but_what_is_preserved(site):
    numbers = [site.film(), site.film()]
    site.send()
    site.states(2)

    async def preserve():
        async with (
            aiohttp.ClientSession(headers=upload_clients.TOKEN) as session,
            session.ws_connect(f"http://127.0.0.1:{site.console}/socket") as ws,
        ):
            await ws.send_json({"do": "preserve_clip", "id": 1, "device": DEVICE, "clip": numbers[0]})
            while (told := await ws.receive_json(timeout=TIMEOUT_S)).get("id") != 1:
                pass
            return told

    assert asyncio.run(preserve())["type"] == "reply"
    hub_process.run([site.link], lambda: site.link.commands)
    assert (site.link.commands[0]["action"], site.link.commands[0]["number"]) == (14, numbers[0])
    site.hub.stop()
    for number in numbers:
        path = site.clips / DEVICE / f"{number:06d}" / "hub.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "ended_ms": 1000}))
    site.hub.start()
    wait_until(lambda: not (site.clips / DEVICE / f"{numbers[1]:06d}").exists())
    assert set(site.rows()) == {numbers[0]}
    deleted = [row for row in site.lines("access.jsonl") if row["what"] == "deleted"]
    assert [(row["who"], row["clip"]) for row in deleted] == [("retention", numbers[1])]


def test_the_first_of_an_sos_is_shown_while_it_goes_on(site):
    site.device.run(5)
    number = site.device.recorder.trigger(1, 12, "", site.device.now)
    site.device.run(3)
    site.courier.run(site.courier.all_sent)
    row = site.rows()[number]
    assert row["state"] == "coming" and row["bytes_here"] > 0 and row["picture"]
    assert site.get(f"/clips/{DEVICE}/{number}/picture")[2][:3] == b"\xff\xd8\xff"
