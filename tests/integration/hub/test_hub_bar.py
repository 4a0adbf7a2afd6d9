"""`patrolink hub bar` and `unbar`: exit codes, output, and their effect on a hub that runs."""

import json
import os
import threading

import pytest
from patrolink.cli import main
from patrolink.core.errors import UserError
from patrolink.hub.infra import bar_file
from patrolink.hub.infra.instance_lock import InstanceLock, is_held

from tests.support import hub_parts, hub_process, json_lines, site_file
from tests.support.device_client import DeviceClient, join_groups, run_until
from tests.support.hub_process import HubProcess, LoopbackNetwork
from tests.support.site_file import GROUP_TEMPLATE, SITE_TEMPLATE

site_folder = hub_parts.site_folder


@pytest.fixture
def run_verb(site_folder, capsys):
    """Return a function that runs a verb at the site with --json, and returns the exit code and the last record."""

    def run(verb: str, *arguments: str) -> tuple[int, dict]:
        code = main(["hub", verb, *arguments, "--site", str(site_folder / "site.toml"), "--json"])
        (record,) = json_lines.records(capsys.readouterr().out)
        return code, record

    return run


def test_bar_without_a_running_hub_is_on_storage_and_idempotent(run_verb, site_folder):
    expected = {"record": "summary", "device": "vest-1", "barred": True, "applied": [{"shard": 0, "state": "off"}]}
    for changed in (True, False):
        assert run_verb("bar", "vest-1", "--reason", " lost at the pier ") == (0, {**expected, "changed": changed})
    content = bar_file.load(site_folder / "state" / bar_file.FILE)
    assert content.devices["vest-1"].reason == "lost at the pier" and content.revision == 1
    assert content.devices["vest-1"].who


def test_admission_needs_a_new_key_or_the_statement_that_the_old_one_is_safe(run_verb, site_folder):
    run_verb("bar", "vest-1", "--reason", "lost")
    code, error = run_verb("unbar", "vest-1", "--reason", "found")
    assert code == 2 and "same key as when it was barred" in error["text"] and "--keep-key" in error["text"]
    code, summary = run_verb("unbar", "vest-1", "--reason", "in the locker", "--keep-key")
    assert (code, summary["barred"], summary["changed"]) == (0, False, True)
    code, summary = run_verb("unbar", "vest-1", "--reason", "again")
    assert (code, summary["changed"]) == (0, False)
    run_verb("bar", "vest-1", "--reason", "lost")
    keys = site_folder / "keys.toml"
    keys.write_text(keys.read_text().replace(site_file.keys_of(["vest-1"])["vest-1"].hex(), "cd" * 32))
    assert run_verb("unbar", "vest-1", "--reason", "new key")[0] == 0
    assert len(bar_file.load(site_folder / "state" / bar_file.FILE).retired["vest-1"]) == 1


def test_wrong_arguments_are_refused(run_verb, site_folder, capsys):
    assert "no device 'vest-9' in keys.toml" in run_verb("bar", "vest-9", "--reason", "lost")[1]["text"]
    assert "--reason must have 1 to 500" in run_verb("bar", "vest-1", "--reason", " ")[1]["text"]
    assert "--reason must have 1 to 500" in run_verb("bar", "vest-1", "--reason", "x" * 501)[1]["text"]
    assert not (site_folder / "state" / bar_file.FILE).exists()
    with pytest.raises(SystemExit) as exit_:
        main(["hub", "bar", "vest-1"])
    assert exit_.value.code == 2 and "--reason" in capsys.readouterr().err
    assert main(["hub", "bar", "vest-1", "--reason", "lost", "--site", str(site_folder / "none.toml")]) == 2
    (site_folder / "state").mkdir()
    (site_folder / "state" / bar_file.FILE).write_text("{")
    assert "restore it from a backup" in run_verb("bar", "vest-1", "--reason", "lost")[1]["text"]


def test_text_output_names_the_device_and_the_hubs(site_folder, capsys):
    site = str(site_folder / "site.toml")
    assert main(["hub", "bar", "vest-1", "--reason", "lost", "--site", site]) == 0
    assert capsys.readouterr().out == (
        "vest-1 is barred\nhub of shard 0: not running here; it applies this when it starts\n"
    )


def test_two_changes_at_the_same_time_lose_none(site_folder, capsys):
    site = str(site_folder / "site.toml")
    threads = [
        threading.Thread(target=main, args=(["hub", "bar", name, "--reason", "lost", "--site", site],))
        for name in hub_parts.NAMES
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(bar_file.load(site_folder / "state" / bar_file.FILE).devices) == set(hub_parts.NAMES)


def test_hub_that_does_not_apply_the_change_is_reported(run_verb, site_folder, monkeypatch):
    monkeypatch.setattr("patrolink.cli._site_change._WAIT_S", 0.1)
    lock = InstanceLock(site_folder / "state" / "shard-0")
    code, error = run_verb("bar", "vest-1", "--reason", "lost")
    assert code == 4 and "the hub of shard 0 runs and has not applied it" in error["text"]
    (site_folder / "state" / "shard-0" / "barred-applied.json").write_text('{"revision": 1, "barred": ["vest-1"]}')
    assert run_verb("bar", "vest-1", "--reason", "lost")[1]["applied"] == [{"shard": 0, "state": "applied"}]
    lock.close()


def test_lock_is_held_by_one_hub_and_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("patrolink.hub.infra.instance_lock._TRIES", 1)
    assert not is_held(tmp_path)
    lock = InstanceLock(tmp_path)
    assert is_held(tmp_path) and is_held(tmp_path)
    with pytest.raises(UserError, match="another hub runs with the state"):
        InstanceLock(tmp_path)
    lock.close()
    assert not is_held(tmp_path)
    InstanceLock(tmp_path).close()


def test_device_is_barred_in_a_running_hub_and_admitted_again(tmp_path, broker, capsys):
    names = ["lost", "other"]
    groups = GROUP_TEMPLATE.format(id=1, devices=json.dumps(names), more="")
    text = SITE_TEMPLATE.format(url=broker.url, ports=hub_process.free_ports(2), top="", hub="", groups=groups)
    hub = HubProcess(tmp_path, text, names)
    lost, other = clients = [DeviceClient(name, LoopbackNetwork(broker.port)) for name in names]
    try:
        join_groups(clients, [1])
        lost.memberships[1].request_floor()
        run_until(clients, lambda: "GRANTED" in lost.memberships[1].events)
        key = other.memberships[1].terms["key"]
        left = lost.memberships[1]
        site = ["--site", str(tmp_path / "site.toml"), "--json"]
        assert main(["hub", "bar", "lost", "--reason", "stolen", *site]) == 0
        assert json.loads(capsys.readouterr().out)["applied"] == [{"shard": 0, "state": "applied"}]
        run_until(clients, lambda: 1 in lost.left_groups and other.memberships[1].terms["key"] == key + 1)
        run_until(clients, lambda: other.memberships[1].events[-1] == "IDLE")
        assert [command["action"] for command in lost.commands] == [10], "stun"
        lost.memberships[1] = left
        for _ in range(5):
            left.send_voice(bytes(160))
        lost.send_keepalives()
        left.request_floor()
        other.memberships[1].request_floor()  # alone now: denied, which also shows that the hub still works
        run_until(clients, lambda: "DENIED" in other.memberships[1].events)
        assert not other.memberships[1].voice
        del lost.memberships[1]
        assert main(["hub", "unbar", "lost", "--reason", "found", "--keep-key", *site]) == 0
        run_until(clients, lambda: 1 in lost.memberships and [c["action"] for c in lost.commands] == [10, 11])
    finally:
        for client in clients:
            client.close()
        counts = hub.stop()
    assert counts["refused"]["ssrc"] >= 5 and counts["barred"] == 0
    assert os.path.exists(tmp_path / "state" / "shard-0" / "barred-applied.json")
