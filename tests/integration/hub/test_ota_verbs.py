"""`patrolink ota`: what it plans and refuses, its exit codes and output, and its effect on a hub."""

import hashlib
import json
import random

import pytest
from patrolink.cli import main
from patrolink.core.keys import load as load_keys
from patrolink.hub.infra.instance_lock import InstanceLock
from patrolink.hub.updates import campaign_file, planning
from patrolink.hub.updates.image_store import image_id
from patrolink_messages import FIRMWARE_STATUS
from patrolink_protocol import image_header as ih

from tests.support import flash_images, hub_parts, json_lines, release_keys
from tests.support.hub_harness import HubHarness
from tests.support.hub_parts import NAMES

site_folder = hub_parts.site_folder
CONTENT = random.Random(5).randbytes(2000)
OLD = bytes(range(32))


@pytest.fixture
def site(site_folder):
    """A site with release keys and two images: a packed full one and a delta."""
    text = (site_folder / "site.toml").read_text()
    (site_folder / "site.toml").write_text('release_keys = "trust.pem"\n' + text)
    (site_folder / "trust.pem").write_bytes(release_keys.TRUST.read_bytes())
    write(site_folder, "full.plimg")
    new = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).digest()}
    write(site_folder, "delta.plimg", bytes(100), base_sha256=OLD, **new)
    return site_folder


def write(folder, name: str, content: bytes = CONTENT, **fields):
    """Write a signed image whose payload is its content, packed for the air."""
    values = {"kind": ih.AGENT_DELTA, "version": "2.0", **fields}
    return flash_images.write_signed_image(folder / name, content, **values)


@pytest.fixture
def ota(site, capsys):
    """Return a function that runs a verb at the site with --json, and returns the exit code and the records."""

    def run(verb: str, *arguments: str) -> tuple[int, list[dict]]:
        words = [str(site / word) if word.endswith(".plimg") else word for word in arguments]
        code = main(["ota", verb, *words, "--site", str(site / "site.toml"), "--json"])
        rows = json_lines.records(capsys.readouterr().out)
        return code, rows

    return run


def refusal(result: tuple[int, list[dict]]) -> str:
    """Return the text of an error with exit code 2."""
    code, rows = result
    assert code == 2 and rows[-1]["record"] == "error", rows
    return rows[-1]["text"]


def content_of(site):
    return campaign_file.load(site / "state" / campaign_file.FILE)


# --- plan ------------------------------------------------------------------------------------------------------------


def test_plan_stores_verified_images_and_sends_nothing(ota, site):
    code, rows = ota("plan", "spring", "full.plimg", "delta.plimg", "--all", "--waves", "40")
    assert code == 0 and rows[-1] == {"record": "summary", "campaign": "spring", "devices": 3, "waves": [2]}
    assert {(row["device"], row["update_state"], row["update_reason"]) for row in rows[:-1]} == {
        (name, "deferred", "no hello yet") for name in NAMES
    }
    plan = content_of(site).find("spring")
    assert (plan.requested, plan.run, len(plan.images)) == ("planned", 0, 2) and plan.limits.waves == [2]
    stored = {path.stem: path.read_bytes() for path in (site / "state" / "updates").iterdir()}
    assert {image_id(data) for data in stored.values()} == set(stored) == {image.id for image in plan.images}
    assert (site / "state" / "updates").stat().st_mode & 0o777 == 0o700


def test_plan_shows_the_image_of_each_device(ota, site, capsys):
    hub = HubHarness(site)
    new = hashlib.sha256(CONTENT).digest()
    for name, content in (("vest-1", OLD[:8]), ("vest-2", bytes(8)), ("police-1", new[:8])):
        hub.send_hello(name, board=b"mps2_an385", platform=1, content=content)
    hub.close()
    _, rows = ota("plan", "spring", "full.plimg", "delta.plimg", "--all")
    states = {row["device"]: (row["update_state"], row["update_reason"]) for row in rows[:-1]}
    assert states == {
        "vest-1": ("planned", ""), "vest-2": ("planned", ""), "police-1": ("skipped", "runs version 2.0 already"),
    }  # fmt: skip
    images = {row["device"]: row["image_id"] for row in rows[:-1]}
    assert images["vest-1"] != images["vest-2"] and images["police-1"] is None
    files = [str(site / name) for name in ("full.plimg", "delta.plimg")]
    assert main(["ota", "plan", "spring", *files, "--all", "--site", str(site / "site.toml")]) == 0
    out = capsys.readouterr()
    assert out.out.splitlines()[0] == "spring: version 2.0 for 3 devices, waves end at 1"
    assert "     1 planned: delta of 356 bytes" in out.out and "skipped: runs version 2.0 already" in out.out
    assert "nothing was sent; `patrolink ota start spring`" in out.err


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": ih.PLATFORM}, "a platform image; it is flashed by cable"),
        ({"kind": ih.AGENT}, "not packed for the air; pack it with `patrolink image diff --full`"),
        ({"board": "no_such_board"}, "no_such_board"),
        ({"architecture": "xtensawin"}, "for xtensawin, but board mps2_an385 runs armv7m"),
    ],
)
def test_image_that_must_not_be_sent_is_refused(ota, site, fields, reason):
    write(site, "wrong.plimg", **fields)
    assert reason in refusal(ota("plan", "spring", "wrong.plimg", "--all"))
    assert not (site / "state").exists()


def test_signature_has_to_be_of_a_release_key_of_the_site(ota, site):
    flash_images.write_image(site / "unsigned.plimg", CONTENT, kind=ih.AGENT_DELTA)
    assert "signature: unsigned; sign it with a key of" in refusal(ota("plan", "spring", "unsigned.plimg", "--all"))
    key = release_keys.private_key("somebody else")
    flash_images.write_signed_image(site / "other.plimg", CONTENT, key, kind=ih.AGENT_DELTA)
    assert "signature: unknown key" in refusal(ota("plan", "spring", "other.plimg", "--all"))
    path = write(site, "altered.plimg")
    data = bytearray(path.read_bytes())
    data[8] ^= 1  # the rollback number
    path.write_bytes(data)
    assert "signature: invalid" in refusal(ota("plan", "spring", "altered.plimg", "--all"))
    path.write_bytes(data[:-1])
    assert "truncated or damaged" in refusal(ota("plan", "spring", "altered.plimg", "--all"))
    text = (site / "site.toml").read_text().replace('release_keys = "trust.pem"', "")
    (site / "site.toml").write_text(text)
    assert "set `release_keys` in the site file" in refusal(ota("plan", "spring", "full.plimg", "--all"))


def test_images_of_one_board_lead_to_one_agent(ota, site):
    write(site, "other.plimg", CONTENT[::-1])
    assert "a campaign has one new agent per board" in refusal(ota("plan", "x", "full.plimg", "other.plimg", "--all"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "no devices; name some with --device or --group"),
        (["--device", "vest-9"], "no device 'vest-9' in keys.toml"),
        (["--group", "Nobody"], "the site has no talk group 'Nobody'; it has Harbour circle"),
        (["--all", "--percent", "0"], "--percent is 0; give more than 0"),
        (["--all", "--percent", "101"], "--percent is 101"),
        (["--all", "--percent", "nan"], "--percent is nan"),
        (["--all", "--waves", "5,x"], "--waves is '5,x'; give per cents"),
        (["--all", "--waves", "nan"], "--waves is 'nan'; give per cents"),
        (["--all", "--waves", "5,101"], "--waves is '5,101'; give per cents"),
        (["--all", "--parallel", "0"], "--parallel: give 1 to 10000"),
        (["--all", "--errors", "101"], "--errors: give 0 to 100"),
        (["--all", "--minimum", "0"], "--minimum: give at least 1"),
        (["--all", "--limit", "0"], "--limit: give 1 to 43200 minutes"),
    ],
)
def test_wrong_devices_and_limits_are_refused(ota, arguments, reason):
    assert reason in refusal(ota("plan", "spring", "full.plimg", *arguments))


def test_name_of_a_campaign_is_short_and_plain(ota):
    for name in ("Spring", "../x", "x" * 41, "a b"):
        assert "NAME: give 1 to 40 of" in refusal(ota("plan", name, "full.plimg", "--all"))


def test_sample_is_stable_and_part_of_each_larger_one():
    names = [f"vest-{n}" for n in range(200)]
    samples = [planning.ordered(names, percent) for percent in (1, 5, 10, 50, 100)]
    assert [len(sample) for sample in samples] == [2, 10, 20, 100, 200]
    assert all(later[: len(sample)] == sample for sample, later in zip(samples, samples[1:], strict=False))
    assert planning.ordered(reversed(names), 5) == samples[1] != sorted(samples[1])
    assert planning.ordered(["a"], 0.1) == ["a"]
    assert planning.wave_ends(200, [5, 25, 100]) == [10, 50] and planning.wave_ends(3, [1, 2, 40]) == [1, 2]


def test_group_is_given_by_name_or_number(ota, site):
    for group in ("Harbour circle", "1"):
        assert ota("plan", "spring", "full.plimg", "--group", group)[1][-1]["devices"] == 3
    assert set(content_of(site).find("spring").devices) == set(NAMES) == set(load_keys(site / "keys.toml"))


# --- start, pause, status, remove ------------------------------------------------------------------------------------


def test_campaign_is_started_paused_and_removed(ota, site):
    ota("plan", "spring", "full.plimg", "--device", "vest-1")
    code, rows = ota("start", "spring", "--reason", "approved")
    assert code == 0 and rows[0]["campaign_state"] == "running" and rows[0]["campaign_reason"] == "approved"
    assert rows[-1]["applied"] == [{"shard": 0, "state": "off"}] and rows[0]["who"]
    assert "has been started and cannot be planned again" in refusal(ota("plan", "spring", "full.plimg", "--all"))
    assert "spring runs; end it with" in refusal(ota("remove", "spring"))
    code, rows = ota("pause", "spring", "--reason", "storm")
    assert (code, rows[0]["campaign_state"], rows[0]["campaign_reason"]) == (0, "paused", "storm")
    assert ota("remove", "spring")[0] == 0
    assert content_of(site).campaigns == [] and list((site / "state" / "updates").iterdir()) == []
    for verb in ("start", "pause", "remove", "status"):
        assert "no campaign 'spring'; planned are: none" in refusal(ota(verb, "spring"))
    assert ota("status") == (0, [{"record": "summary", "campaigns": 0}])


def test_device_of_a_running_campaign_is_in_no_other(ota):
    ota("plan", "a", "full.plimg", "--device", "vest-1")
    ota("plan", "b", "full.plimg", "--device", "vest-1", "--device", "vest-2")
    assert ota("start", "a")[0] == 0
    assert "vest-1 is also in campaign a, which runs" in refusal(ota("start", "b"))
    ota("pause", "a")
    assert ota("start", "b")[0] == 0


def test_status_shows_what_a_hub_has_stored(ota, site):
    ota("plan", "spring", "full.plimg", "--device", "vest-1", "--minimum", "1")
    ota("start", "spring")
    hub = HubHarness(site)
    hub.send_hello("vest-1", board=b"mps2_an385", platform=1)
    hub.poll_updates()
    code, rows = ota("status", "spring")
    assert code == 0 and rows[1]["update_state"] == "offered" and rows[1]["command_id"] == 1
    assert rows[0]["update_states"] == {"offered": 1}
    values = {"command_id": 1, "state": 6, "reason": 11, "content": bytes(8), "rollback_floor": 0, "text": b"bad flash"}
    hub.send("vest-1", FIRMWARE_STATUS, values)
    hub.close()
    code, rows = ota("status")
    assert code == 1 and rows[1]["update_reason"] == "failed: damaged: bad flash"


def test_running_hub_applies_a_decision_or_is_reported(ota, site, monkeypatch):
    monkeypatch.setattr("patrolink.cli._site_change._WAIT_S", 0.1)
    ota("plan", "spring", "full.plimg", "--all")
    lock = InstanceLock(site / "state" / "shard-0")
    code, rows = ota("start", "spring")
    assert code == 4 and "spring is changed on storage, but the hub of shard 0 runs" in rows[-1]["text"]
    (site / "state" / "shard-0" / "campaigns-applied.json").write_text(json.dumps({"revision": 2}))
    assert ota("pause", "spring")[0] == 4
    (site / "state" / "shard-0" / "campaigns-applied.json").write_text(json.dumps({"revision": 3}))
    assert ota("pause", "spring")[1][-1]["applied"] == [{"shard": 0, "state": "applied"}]
    lock.close()


def test_damaged_file_of_campaigns_is_refused(ota, site):
    ota("plan", "spring", "full.plimg", "--all")
    (site / "state" / campaign_file.FILE).write_text('{"revision": 1, "campaigns": [{}]}')
    assert "restore it from a backup" in refusal(ota("start", "spring"))
