"""Update campaigns of a hub: commands, blocks, statuses, audit, restarts at any byte, full storage."""

import contextlib
import errno
import json

import patrolink_messages as m
import pytest
from patrolink.core import durable_files
from patrolink.hub.app import Hub
from patrolink.hub.config import HubContext
from patrolink.hub.infra import bar_file, record_journal, shared_file
from patrolink.hub.infra.bar_file import Entry
from patrolink.hub.updates import block_server, campaign_file, image_store
from patrolink.hub.updates.campaign import ONLINE_MS, RESEND_MS
from patrolink_protocol import image_header

from tests.support import hub_parts
from tests.support.hub_harness import FakePlatform
from tests.support.hub_parts import NAMES, NOW_MS, FakeClock
from tests.support.update_site import UpdateSite

site_folder = hub_parts.site_folder
SECOND_HUB = """
[[hub]]
shard = 1
host = "127.0.0.1"
floor_port = 6004
media_port = 6006
"""


@pytest.fixture
def site(site_folder):
    with contextlib.ExitStack() as stack:
        yield UpdateSite(site_folder, stack)


# --- commands and statuses -------------------------------------------------------------------------------------------


def test_device_is_sent_a_command_and_confirms_it(site):
    site.run_campaign()
    assert site.states() == {"deferred": 2} and site.row("vest-1")["update_reason"] == "offline"
    site.say_hello("vest-1")
    site.hub.take_publications()
    site.hub.poll_updates()
    [(device, kind, values)] = site.hub.take_publications()
    assert (device, kind, values["action"]) == ("vest-1", m.FIRMWARE, 1)
    assert values == {
        "command_id": values["command_id"], "action": 1, "image": bytes.fromhex(site.image.id),
        "bytes": len(site.data), "version": b"1.0", "rollback_floor": 1, "operator": b"chief",
        "expires_ms": NOW_MS + 600_000,
    }  # fmt: skip
    site.report("vest-1", "fetching")
    site.report("vest-1", "installed")
    site.say_hello("vest-1", content=bytes.fromhex(site.image.content))
    assert site.row("vest-1")["update_state"] == "installed", "a hello is no confirmation"
    site.report("vest-1", "confirmed", bytes.fromhex(site.image.content))
    assert site.states() == {"confirmed": 1, "deferred": 1}
    assert site.hub.metrics.gauges["update_confirmed"]() == 1 and site.hub.metrics.gauges["update_deferred"]() == 1


def test_campaign_and_its_results_are_audited_and_shown_to_dispatchers(site):
    site.run_campaign(["vest-1"], reason="spring release")
    site.say_hello("vest-1")
    site.commands()
    site.update("vest-1")
    rows = [row for row in site.hub.audit() if row["what"] in ("update running", "firmware", "update")]
    assert [(row["who"], row["what"], row.get("state")) for row in rows] == [
        ("chief", "update running", None), ("chief", "firmware", None), ("vest-1", "update", "offered"),
        ("vest-1", "update", "fetching"), ("vest-1", "update", "installed"), ("vest-1", "update", "confirmed"),
    ]  # fmt: skip
    assert rows[0]["reason"] == "spring release" and rows[1]["device"] == "vest-1"
    shown = [message["update_state"] for message in site.hub.messages("update")]
    assert shown == ["deferred", "offered", "fetching", "installed", "confirmed"]
    assert site.hub.messages("campaign")[-1]["campaign_state"] == "finished"


def test_command_comes_again_and_after_a_restart(site):
    site.run_campaign(["vest-1"])
    site.say_hello("vest-1")
    (first,) = site.commands()
    assert first[:2] == ("vest-1", 1) and site.commands() == []
    site.hub.clock.now_ms += RESEND_MS
    assert site.commands() == [first]
    site.start()
    assert site.commands() == [], "the device is offline until it sends a frame"
    site.say_hello("vest-1")
    assert site.commands() == [first], "the same command"


def test_failures_stop_the_campaign_and_dispatchers_are_told(site):
    site.run_campaign(NAMES, minimum=2, error_pct=10, parallel=2)
    site.say_hello(*NAMES)
    assert len(site.commands()) == 2
    for device in NAMES[:2]:
        site.report(device, "installed")
        site.report(device, "rolled_back")
    assert site.commands() == [] and site.states() == {"failed": 2, "planned": 1}
    [notice] = site.hub.messages("notice")
    assert notice["text"] == "update campaign spring has stopped: 2 of 2 devices failed, more than 10 %"
    site.start()
    site.say_hello(*NAMES)
    assert site.commands() == [] and site.states() == {"failed": 2, "planned": 1}, "a restart does not start it"


def test_pause_and_start_while_the_hub_is_away(site):
    site.run_campaign(["vest-1"])
    site.say_hello("vest-1")
    ((_, _, command),) = site.commands()
    shared_file.save(site.path, campaign_file.load(site.path).paused("spring", "chief", "rain", 5))
    site.start()
    assert site.states() == {"cancelled": 1}
    site.say_hello("vest-1")
    assert site.commands() == [("vest-1", 2, command)]
    site.report("vest-1", "cancelled")
    shared_file.save(site.path, campaign_file.load(site.path).started("spring", "chief", "", 6, lambda *_: True))
    site.start()
    site.say_hello("vest-1")
    ((device, action, second),) = site.commands()
    assert (device, action) == ("vest-1", 1) and second > command


def test_floor_is_the_highest_that_the_device_has_ever_reported(site):
    """A board that has lost its boot records reports a lower floor."""
    site.say_hello("vest-1", rollback_floor=7)
    site.start()
    site.say_hello("vest-1", rollback_floor=0)
    site.run_campaign(["vest-1"])
    site.hub.poll_updates()
    assert site.row("vest-1")["update_reason"] == "rollback number 3 is below 7 of the device"
    assert site.commands() == []


def test_barred_device_gets_nothing(site):
    site.run_campaign(["vest-1"])
    site.say_hello("vest-1")
    site.commands()
    entry = Entry(who="chief", reason="lost", time_ms=NOW_MS, key="ab" * 16)
    path = site.folder / "state" / bar_file.FILE
    bar_file.save(path, bar_file.load(path).with_bar("vest-1", entry))
    site.hub.poll_bars()
    assert site.request("vest-1", 0) == [] and site.hub.metrics.refused["frame barred"] == 1
    assert [command for command in site.commands() if command[0] == "vest-1"] == []
    assert (site.row("vest-1")["update_state"], site.row("vest-1")["update_reason"]) == ("cancelled", "barred")


def test_only_the_home_hub_has_campaigns(site_folder):
    path = site_folder / "site.toml"
    path.write_text(path.read_text() + SECOND_HUB)
    first, second = (Hub(HubContext(path, shard), FakePlatform(FakeClock(NOW_MS))) for shard in (0, 1))
    assert first._service._updates is not None and second._service._updates is None


# --- blocks ----------------------------------------------------------------------------------------------------------


def test_blocks_make_the_image_file(site):
    site.run_campaign(["vest-1"])
    site.say_hello("vest-1")
    site.commands()
    received = b""
    while len(received) < len(site.data):
        [(device, offset, data)] = site.request("vest-1", len(received))
        assert (device, offset) == ("vest-1", len(received))
        received += data
        site.hub.clock.now_ms += 200
    assert received == site.data and site.row("vest-1")["update_state"] == "fetching"
    assert site.hub.metrics.counts["update_bytes"] == len(site.data)


def test_device_gets_blocks_of_its_own_image_only_while_the_campaign_runs(site):
    site.run_campaign(["vest-1"])
    site.say_hello("vest-1", "vest-2")
    site.commands()
    assert site.request("vest-2", 0) == [] and site.request("vest-1", 0, image="00" * 8) == []
    assert site.request("vest-1", len(site.data)) == []
    assert site.hub.metrics.refused["firmware request"] == 2
    assert site.hub.metrics.refused["firmware request offset"] == 1
    assert len(site.request("vest-1", 0)) == 1
    site.change(lambda content: content.paused("spring", "chief", "rain", 5))
    site.hub.take_publications()
    assert site.request("vest-1", 0) == []


def test_device_that_floods_is_limited_and_blocks_of_all_devices_share_a_rate(site, monkeypatch):
    site.run_campaign(["vest-1"])
    site.say_hello("vest-1")
    site.commands()
    n = sum(len(site.request("vest-1", 0)) for _ in range(100))
    assert n == block_server._DEVICE.burst and site.hub.metrics.refused["firmware request rate"] == 100 - n
    site.hub.clock.now_ms += 60_000
    server = site.hub.service._updates._blocks
    monkeypatch.setattr(server, "_total", type(server._total)(block_server.Rate(1, 1000)))
    assert len(site.request("vest-1", 0)) == 1
    assert site.request("vest-1", 900) == [] and site.request("vest-1", 1800) == [], "they wait"
    site.hub.clock.now_ms += 1000
    site.hub.poll_updates()
    assert [(device, offset) for device, offset, _ in site.blocks()] == [("vest-1", 1800)], "the newest request"


def test_lost_or_damaged_image_stops_the_campaign_at_its_start(site):
    (path,) = (site.folder / "state" / campaign_file.IMAGE_FOLDER).iterdir()
    path.write_bytes(site.data[:-1] + b"?")
    site.run_campaign(["vest-1"])
    site.say_hello("vest-1")
    assert site.commands() == []
    (row,) = site.hub.service._updates.rows(0)
    assert row["campaign_state"] == "stopped" and "is damaged; plan the campaign again" in row["campaign_reason"]


def test_image_that_is_no_image_is_refused():
    with pytest.raises(image_header.ImageHeaderError):
        image_store.describe(b"PLIM" + bytes(300))


# --- storage ---------------------------------------------------------------------------------------------------------


def test_hub_killed_while_it_writes_its_journal_continues(site):
    """Whatever part of the last write is on storage, no state that was acted on is lost."""
    site.run_campaign(["vest-1", "vest-2"])
    site.say_hello("vest-1", "vest-2")
    site.commands()
    site.update("vest-1")
    before = site.journal.read_bytes()
    site.report("vest-2", "installed")
    after = site.journal.read_bytes()
    assert after.startswith(before) and len(after) > len(before)
    lines = {before: "offered", after: "installed"}
    for end in (*range(len(before), len(after), 16), len(after) - 1, len(after)):
        site.journal.write_bytes(after[:end])
        site.start()
        expected = lines[after] if end == len(after) else lines[before]
        assert site.row("vest-1")["update_state"] == "confirmed", end
        assert site.row("vest-2")["update_state"] == ("deferred" if expected == "offered" else expected), end
    site.update("vest-2")
    site.start()
    assert site.states() == {"confirmed": 2}


def test_nothing_is_sent_before_it_is_on_storage(site, monkeypatch):
    site.run_campaign(["vest-1"])
    site.say_hello("vest-1")
    real = durable_files.append

    def fail(path, *_, **__):
        if path == site.journal:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *_, **__)

    monkeypatch.setattr(durable_files, "append", fail)
    assert site.commands() == [] and site.hub.metrics.counts["storage_failed"] >= 1
    monkeypatch.setattr(durable_files, "append", real)
    site.hub.clock.now_ms += RESEND_MS
    ((device, action, _),) = site.commands()
    assert (device, action) == ("vest-1", 1)
    command = site.command("vest-1")
    site.start()
    assert site.command("vest-1") == command, "it is on storage"


def test_status_that_storage_refused_is_written_later(site, monkeypatch):
    site.run_campaign(["vest-1"])
    site.say_hello("vest-1")
    site.commands()
    real = durable_files.append
    monkeypatch.setattr(durable_files, "append", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EIO, "failed")))
    site.update("vest-1")
    monkeypatch.setattr(durable_files, "append", real)
    assert site.states() == {"confirmed": 1}
    site.hub.poll_updates()
    site.start()
    assert site.states() == {"confirmed": 1}


def test_file_that_cannot_be_read_changes_nothing(site):
    site.run_campaign(["vest-1"])
    text = site.path.read_text()
    site.path.write_text("{")
    site.say_hello("vest-1")
    assert len(site.commands()) == 1 and site.hub.metrics.counts["campaign_file_unreadable"] >= 1
    site.path.unlink()
    site.hub.poll_updates()
    site.path.write_text(text)
    site.hub.poll_updates()
    assert site.states() == {"offered": 1}


def test_state_of_a_removed_campaign_is_deleted(site):
    site.run_campaign(["vest-1"])
    site.change(lambda content: content.paused("spring", "chief", "", 5))
    site.change(lambda content: content.without("spring"))
    assert [key for key in record_journal.load(site.journal) if key[0] != "device"] == []
    assert site.hub.service._updates.rows(9) == []


def test_applied_revision_is_on_storage_for_who_waits_for_it(site):
    path = site.folder / "state" / "shard-0" / "campaigns-applied.json"
    assert json.loads(path.read_text()) == {"revision": 0}
    site.run_campaign(["vest-1"])
    assert json.loads(path.read_text()) == {"revision": 1}


def test_offline_devices_are_deferred_again(site):
    site.run_campaign(["vest-1"])
    site.say_hello("vest-1")
    site.commands()
    site.report("vest-1", "fetching")
    site.hub.clock.now_ms += ONLINE_MS
    site.hub.poll_updates()
    assert site.row("vest-1")["update_reason"] == "offline" and site.states() == {"deferred": 1}
    site.hub.send("vest-1", m.DEVICE_STATUS, site.hub.status_values())
    site.hub.poll_updates()
    assert site.states() == {"fetching": 1}
