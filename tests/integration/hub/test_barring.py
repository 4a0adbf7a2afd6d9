"""A barred device: out of every group at once, refused in every way but an SOS, until it is admitted again."""

import contextlib
import json

import patrolink_messages as m
import pytest
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.hub.infra import bar_file
from patrolink.hub.infra.bar_file import BarFile, Entry
from patrolink.hub.service_half import DeviceDirectory
from patrolink_names import NAMES as VALUE_NAMES

from tests.support import hub_parts, site_file
from tests.support.hub_harness import HubHarness
from tests.support.hub_parts import NOW_MS, FakeClock

site_folder = hub_parts.site_folder
ACTIONS = VALUE_NAMES["command", "action"]
KEY = bar_file.fingerprint(DeviceKey(site_file.keys_of(["vest-1"])["vest-1"]))
OTHER_KEY = "ab" * 16
ENTRY = Entry(who="chief", reason="lost at the pier", time_ms=NOW_MS, key=KEY)


@pytest.fixture
def start(site_folder):
    """Return a function that starts a hub of the site, also a second one with the same state: a restart."""
    with contextlib.ExitStack() as stack:

        def start_hub(clock: FakeClock | None = None) -> HubHarness:
            harness = HubHarness(site_folder, clock)
            stack.callback(harness.close)
            harness.poll_bars()
            return harness

        yield start_hub


@pytest.fixture
def hub(start):
    harness = start()
    harness.take_publications()
    return harness


def change(folder, function) -> None:
    """Change the file of barred devices."""
    path = folder / "state" / bar_file.FILE
    bar_file.save(path, function(bar_file.load(path)))


def bar(hub: HubHarness) -> None:
    change(hub.folder, lambda content: content.with_bar("vest-1", ENTRY))
    hub.poll_bars()


def unbar(hub: HubHarness, keep_key: bool = True) -> None:
    entry = ENTRY.model_copy(update={"key": KEY if keep_key else OTHER_KEY, "reason": "found"})
    change(hub.folder, lambda content: content.without_bar("vest-1", entry, keep_key))
    hub.poll_bars()


def group_of(hub: HubHarness):
    return hub.registry.groups[1]


def sent(hub: HubHarness) -> list[tuple]:
    """Return what was sent to devices: device and group of terms with rights, name of a command, or message type."""
    result = []
    for device, kind, values in hub.take_publications():
        if kind == m.PTT_GROUP:
            result.append((device, "terms" if values["rights"] else "left", values["group"]))
        elif kind == m.COMMAND:
            result.append((device, ACTIONS[values["action"]]))
        else:
            result.append((device, kind))
    return result


# --- the file --------------------------------------------------------------------------------------------------------


def test_bar_and_admission_are_idempotent_and_a_key_is_retired():
    content = BarFile().with_bar("vest-1", ENTRY)
    assert content.revision == 1 and content.with_bar("vest-1", ENTRY) is content
    assert content.is_barred("vest-1", KEY) and content.is_barred("vest-1", OTHER_KEY)
    with pytest.raises(UserError, match="same key as when it was barred: provision it with a new one"):
        content.without_bar("vest-1", ENTRY, keep_key=False)
    admitted = content.without_bar("vest-1", ENTRY.model_copy(update={"key": OTHER_KEY}), keep_key=False)
    assert admitted.revision == 2 and admitted.without_bar("vest-1", ENTRY, keep_key=False) is admitted
    assert not admitted.is_barred("vest-1", OTHER_KEY) and admitted.is_barred("vest-1", KEY), "the old key stays barred"
    same_key = content.without_bar("vest-1", ENTRY, keep_key=True)
    assert not same_key.is_barred("vest-1", KEY)
    assert not content.is_barred("vest-2", KEY)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"revision": "1"}', '{"devices": {"a": {}}}', '{"extra": 1}', "[" * 30_000]
)
def test_damaged_file_is_refused_with_the_remedy(tmp_path, text):
    path = tmp_path / bar_file.FILE
    path.write_text(text)
    with pytest.raises(UserError, match="restore it from a backup"):
        bar_file.load(path)


def test_hub_does_not_start_with_a_damaged_file(site_folder):
    (site_folder / "state").mkdir()
    (site_folder / "state" / bar_file.FILE).write_text("{")
    with pytest.raises(UserError, match="restore it from a backup"):
        HubHarness(site_folder)


def test_file_belongs_to_its_owner_only(hub):
    bar(hub)
    path = hub.folder / "state" / bar_file.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert bar_file.load(path).devices["vest-1"] == ENTRY


# --- voice -----------------------------------------------------------------------------------------------------------


def test_barred_device_leaves_all_groups_and_their_keys_change_without_an_overlap(hub):
    group, private = group_of(hub), hub.service._voice.private_group("vest-1")
    old_key = group.key
    bar(hub)
    assert set(group.memberships) == {"vest-2", "police-1"} and group.retired_key is None
    assert group.key.number == old_key.number + 1 and group.key.secret != old_key.secret
    assert not any(membership.device.name == "vest-1" for membership in hub.registry.memberships.values())
    messages = sent(hub)
    assert {("vest-2", "terms", 1), ("police-1", "terms", 1)} < set(messages)
    assert [message for message in messages if message[0] == "vest-1"] == [
        ("vest-1", "stun"), ("vest-1", "left", 1), ("vest-1", "left", private),
    ]  # fmt: skip


def test_burst_in_progress_ends(hub):
    voice, group = hub.voice._voice, group_of(hub)
    hub.call(voice._server.start)
    for port, membership in enumerate(group.memberships.values(), 1):
        membership.device.floor_address = membership.device.media_address = ("127.0.0.1", port)
        membership.device.last_seen_ms = NOW_MS
        membership.member.present = True
    group.update_targets()
    member, address = group.memberships["vest-1"].member, group.memberships["vest-1"].device.media_address
    assert len(group.media_targets) == 3
    hub.request_floor("vest-1", 1)
    ssrc = group.floor.burst.ssrc
    assert group.floor.burst.member is member and voice._bursts.find(ssrc) is not None
    bar(hub)
    assert group.floor.burst is None and voice._bursts.find(ssrc) is None
    assert hub.voice_metrics.counts["floor_end"] == 1 and len(group.media_targets) == 2
    assert address not in group.media_targets and voice._presence.device_at(address) is None
    voice._server.close()


def test_keys_are_replaced_as_soon_as_storage_permits(hub):
    group, key, state = group_of(hub), group_of(hub).key, hub.folder / "state" / "shard-0"
    state.rename(hub.folder / "away")
    bar(hub)
    assert set(group.memberships) == {"vest-2", "police-1"}, "a full disk keeps no device in a group"
    assert group.key is key and hub.voice_metrics.counts["storage_failed"] >= 1
    (hub.folder / "away").rename(state)
    for _ in range(2):
        hub.call(hub.voice._voice.complete_changes)
        assert group.key.number == key.number + 1, "replaced once"


def test_dispatchers_who_have_joined_get_the_new_key(hub, monkeypatch):
    changes = []
    monkeypatch.setattr(hub.service._receiver, "group_key_changed", lambda *change: changes.append(change))
    hub.call(hub.registry.join, 1, "duty", 200, 1)
    bar(hub)
    assert changes == [(1, group_of(hub).key)]


def test_barred_device_cannot_be_added_to_a_dynamic_group(hub):
    bar(hub)
    with pytest.raises(UserError, match="vest-1 is barred"):
        hub.call(hub.registry.make_group, "search", ["vest-1", "vest-2"])


# --- frames and messages ---------------------------------------------------------------------------------------------


def test_frames_of_a_barred_device_are_refused_and_counted(hub):
    bar(hub)
    hub.take_publications()
    hub.send_hello("vest-1")
    hub.send("vest-1", m.DEVICE_STATUS, hub.status_values())
    assert hub.metrics.refused["frame barred"] == 2
    assert sent(hub) == [], "no terms; the stun was sent already"
    hub.send_hello("vest-2")
    assert {message[0] for message in sent(hub)} == {"vest-2"}


def test_sos_of_a_barred_device_is_shown_and_answered_without_names(hub):
    hub.send_sos("vest-1", 6)
    bar(hub)
    hub.take_publications()
    hub.send_sos("vest-1", 7)
    [row] = [row for row in hub.messages("event") if row["event_id"] == 7]
    assert row["barred"] and ("vest-1", 7) in hub.open_alarms()
    hub.service._incidents.answer_event("duty", "vest-1", 7, "accepted")
    answers = [values for _, kind, values in hub.take_publications() if kind == m.EVENT_STATE]
    assert [(values["state"], values["who"]) for values in answers] == [(3, b"")], "received was superseded"
    assert ("vest-1", 6) in hub.open_alarms(), "what was open stays open"


def test_refused_frames_are_no_news_after_the_admission(hub, start):
    """Somebody records what a barred device sends, and sends it again later."""
    bar(hub)
    frame = hub.send_hello("vest-1")
    unbar(hub)
    hub.take_publications()
    restarted = start(hub.clock)
    for harness in (hub, restarted):
        frames = harness.metrics.counts["frames"]
        harness.receive("vest-1", frame)
        assert harness.metrics.counts["frames"] == frames + 1
        assert ("vest-1", "terms", 1) not in sent(harness) or harness is restarted


def test_barred_device_is_sent_no_keys_and_no_commands(hub):
    bar(hub)
    hub.take_publications()
    registry = hub.registry
    hub.call(hub.voice._requests._terms.announce, registry.devices["vest-1"], 1)  # that it has left
    hub.service._sender.send("vest-1", m.PTT_GROUP, hub.voice._requests._terms.term(registry.devices["vest-2"], 1))
    hub.service._sender.send("vest-1", m.CLIP_STATE, {"clip_id": 1, "state": 5, "bytes_done": 0, "time_ms": 0})
    assert sent(hub) == [("vest-1", "left", 1)] and hub.metrics.counts["downlink_barred"] == 2
    with pytest.raises(UserError, match="vest-1 is barred; admit it"):
        hub.service._commands.command("duty", "vest-1", "locate")
    hub.service._commands.command("duty", "vest-1", "stun")
    assert sent(hub) == [("vest-1", "stun")] and registry.devices["vest-1"].memberships == {}


def test_stun_is_repeated_on_contact_until_the_device_has_answered(hub):
    def stuns() -> int:
        return len([message for message in sent(hub) if message == ("vest-1", "stun")])

    bar(hub)
    assert stuns() == 1
    hub.send_hello("vest-1")
    assert stuns() == 0, "at most once a minute"
    hub.clock.now_ms += 60_000
    hub.send_hello("vest-1")
    command = hub.service._barring._stuns["vest-1"].command
    assert stuns() == 1
    values = {"command_id": command, "result": 0, "time_ms": NOW_MS, "text": b"", "ref": None}
    hub.send("vest-1", m.ANSWER, values)
    assert hub.messages("answer")[-1]["command_id"] == command, "dispatchers see it"
    hub.clock.now_ms += 600_000
    hub.send_hello("vest-1")
    assert stuns() == 0


def test_waiting_messages_to_the_device_are_discarded(hub):
    hub.service._commands.command("duty", "vest-1", "locate")
    bar(hub)
    assert ("vest-1", "locate") not in sent(hub)


def test_uploads_are_refused(hub):
    directory = DeviceDirectory(hub.service._keys, hub.service._bars, hub.service._sender)
    assert directory.key_of("vest-1") is not None
    bar(hub)
    assert directory.key_of("vest-1") is None and directory.key_of("vest-2") is not None


# --- admission, restarts, records ------------------------------------------------------------------------------------


def test_admitted_device_gets_its_groups_back(hub):
    bar(hub)
    hub.take_publications()
    unbar(hub)
    private = hub.service._voice.private_group("vest-1")
    assert set(group_of(hub).memberships) == {"vest-1", "vest-2", "police-1"}
    assert group_of(hub).memberships["vest-1"].member.rights == {"talk", "emergency"}
    assert set(sent(hub)) == {("vest-1", "terms", 1), ("vest-1", "terms", private), ("vest-1", "revive")}
    hub.send_hello("vest-1")
    assert hub.metrics.refused["frame barred"] == 0


def test_old_key_stays_barred_after_the_admission_with_a_new_one(hub, start):
    """The running hub has the old key in memory: whoever has the old device must not come in."""
    bar(hub)
    unbar(hub, keep_key=False)
    hub.send_hello("vest-1")
    assert hub.metrics.refused["frame barred"] == 1 and "vest-1" not in group_of(hub).memberships
    keys = hub.folder / "keys.toml"
    keys.write_text(keys.read_text().replace(site_file.keys_of(["vest-1"])["vest-1"].hex(), "cd" * 32))
    restarted = start(hub.clock)
    assert "vest-1" in group_of(restarted).memberships
    assert [row["reason"] for row in restarted.audit() if row["what"] == "unbar"] == ["found"]


def test_bar_survives_a_restart(hub, start):
    bar(hub)
    key = group_of(hub).key
    restarted = start(hub.clock)
    assert "vest-1" not in group_of(restarted).memberships and group_of(restarted).key == key, "no further key"
    restarted._counters = dict(hub._counters)
    restarted.send_hello("vest-1")
    assert restarted.metrics.refused["frame barred"] == 1
    assert [row["what"] for row in restarted.audit() if row["what"] == "bar"] == ["bar"], "recorded once"


def test_bar_while_the_hub_is_down_takes_effect_at_the_start(hub, start):
    key = group_of(hub).key
    change(hub.folder, lambda content: content.with_bar("vest-1", ENTRY))
    restarted = start(hub.clock)
    group = group_of(restarted)
    assert "vest-1" not in group.memberships and group.key.number == key.number + 1 and group.retired_key is None
    assert [row["what"] for row in restarted.audit()][-2:] == ["bar", "command"]
    assert ("vest-1", "stun") in sent(restarted)


def test_dispatchers_and_the_audit_log_learn_who_barred_and_why(hub):
    bar(hub)
    unbar(hub)
    rows = [row for row in hub.audit() if row["what"] in ("bar", "unbar")]
    assert [(row["who"], row["what"], row["device"], row["reason"]) for row in rows] == [
        ("chief", "bar", "vest-1", "lost at the pier"), ("chief", "unbar", "vest-1", "found"),
    ]  # fmt: skip
    assert [(row["device"], row["barred"]) for row in hub.messages("barred")] == [("vest-1", True), ("vest-1", False)]
    assert hub.metrics.gauges["barred"]() == 0


def test_file_that_becomes_unreadable_or_disappears_admits_nobody(hub):
    bar(hub)
    path = hub.folder / "state" / bar_file.FILE
    text = path.read_text()
    for damage in (lambda: path.write_text("{"), path.unlink):
        damage()
        hub.poll_bars()
        hub.send_hello("vest-1")
        assert "vest-1" in hub.service._bars and "vest-1" not in group_of(hub).memberships
    assert hub.metrics.counts["bar_file_unreadable"] == 2
    path.write_text(text)
    hub.poll_bars()
    assert hub.metrics.counts["bar_file_unreadable"] == 2


def test_applied_state_is_on_storage_for_who_waits_for_it(hub):
    path = hub.folder / "state" / "shard-0" / "barred-applied.json"
    assert json.loads(path.read_text()) == {"revision": 0, "barred": []}
    bar(hub)
    assert json.loads(path.read_text()) == {"revision": 1, "barred": ["vest-1"]}
