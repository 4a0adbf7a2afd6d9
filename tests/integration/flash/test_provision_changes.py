"""`patrolink provision` after the first run: keys are rotated, devices revoked, and differences found."""

import pytest
from patrolink.cli import _site_change, main
from patrolink.core import keys
from patrolink.core.errors import UserError
from patrolink.flash.ledger import Event, Ledger
from patrolink.hub.infra import bar_file, instance_lock

from tests.support import json_lines
from tests.support.provision_site import ROWS, ProvisionedSite, key_of


@pytest.fixture
def site(tmp_path):
    """A site that was not provisioned yet."""
    return ProvisionedSite(tmp_path)


# --- differences ------------------------------------------------------------------------------------------------------


def differences(site, capsys, code: int = 1) -> list[tuple[str, str]]:
    capsys.readouterr()
    before = site.files()
    assert site.run("--check", "--json") == code
    assert site.files() == before  # only compared
    rows = json_lines.records(capsys.readouterr().out)
    assert rows[-1]["differences"] == len(rows) - 1
    return [(row["device"], row["text"]) for row in rows[:-1]]


def test_check_finds_nothing_after_a_run_but_what_is_not_in_the_table(site, capsys):
    assert site.run() == 0
    assert differences(site, capsys) == [
        ("police-1", "has a key in keys.toml, but no row; add a row, or bar it with --revoke")
    ]
    site.write_table(*ROWS, "S-9,police-1,Harbour circle,linux,3,\n")
    assert site.run() == 0 and differences(site, capsys, 0) == []


@pytest.mark.parametrize(
    ("change", "device", "text"),
    [
        (lambda s: s.write_table(*ROWS, "S-3,vest-3,Harbour circle,linux,,\n"), "vest-3", "no key in keys.toml"),
        (lambda s: s.write_table(ROWS[0], ROWS[1].replace("S-2", "S-4")), "vest-2", "serial is S-4, in the ledger S-2"),
        (lambda s: s.write_table(ROWS[0].replace("cc", "dd"), ROWS[1]), "vest-1", "unique_id is 246f28aabbdd, in"),
        (lambda s: s.write_table(ROWS[0], ROWS[1].replace(",,", ",3,")), "", "members.toml"),
        (lambda s: (s.out / "vest-1" / "config.json").unlink(), "vest-1", "config.json is missing; provision it"),
        (lambda s: (s.out / "vest-2" / "config.json").write_text("{}"), "vest-2", "config.json differs"),
        (lambda s: (s.folder / "members.toml").unlink(), "", "members.toml does not have the groups"),
        (lambda s: (s.folder / "ledger.jsonl").write_text(""), "", "ledger: 2 events missing at the end"),
        (lambda s: s.replace("site.toml", "2026-01", "2026-02"), "vest-1", "consent is 2026-02, in the"),
        (lambda s: s.replace("site.toml", "ttyS1", "ttyS2"), "vest-1", "its configuration has changed"),
        (lambda s: s.write_secret("keys.toml", f'[devices]\n"vest-1" = "{"11" * 32}"\n'), "vest-2", "no key in"),
        (lambda s: s.revoke("vest-2", "--reason", "lost"), "vest-2", "row 3: device: vest-2 is barred"),
    ],
)  # fmt: skip
def test_check_names_each_difference(site, capsys, change, device, text):
    assert site.run() == 0
    change(site)
    rows = differences(site, capsys)
    assert [row for row in rows if row[0] == device and text in row[1]], rows


def test_device_of_the_ledger_without_row_and_key_is_a_difference(site, capsys):
    assert site.run() == 0
    site.write_table(ROWS[0])
    site.write_secret("keys.toml", f'[devices]\n"vest-1" = "{key_of("vest-1").secret.hex()}"\n')
    assert ("vest-2", "is in the ledger, but has neither row nor key; add a row, or restore its key") in differences(
        site, capsys
    )


def test_check_takes_flashed_devices_for_no_difference(site, capsys):
    assert site.run() == 0
    before = differences(site, capsys)
    with Ledger(site.folder / "ledger.jsonl", lambda: 0) as book:
        book.append([Event("", "flash", unique_id=unique_id) for unique_id in ("246f28aabbcc", "246f28000000", "")])
    assert differences(site, capsys) == before


# --- rotation and revocation ------------------------------------------------------------------------------------------


def test_rotation_gives_the_next_epoch_and_replaces_one_line(site):
    assert site.run() == 0
    lines = (site.folder / "keys.toml").read_text().splitlines()
    assert site.run("--rotate", "vest-1") == 0
    after = (site.folder / "keys.toml").read_text().splitlines()
    assert [i for i, pair in enumerate(zip(lines, after, strict=True)) if pair[0] != pair[1]] == [3]
    assert keys.load(site.folder / "keys.toml")["vest-1"] == key_of("vest-1", 1)
    assert site.config("vest-1")["key_epoch"] == 1 and site.history().events[-1].epoch == 1
    assert site.run() == 0 and keys.load(site.folder / "keys.toml")["vest-1"] == key_of("vest-1", 1)


def test_unknown_device_is_not_rotated(site, capsys):
    assert site.run("--rotate", "vest-9") == 2
    assert "there is no such device in the table" in capsys.readouterr().err
    assert site.run("--rotate", "vest-1") == 2
    assert "has no key yet; provision it without --rotate first" in capsys.readouterr().err


def test_revoked_device_is_barred_and_comes_back_with_a_new_key(site, capsys):
    assert site.run() == 0
    assert site.revoke("vest-1", "--reason", "lost at the pier") == 0
    assert "vest-1 is barred" in capsys.readouterr().out
    bars = bar_file.load(site.folder / "state" / bar_file.FILE)
    assert bars.devices["vest-1"].key == bar_file.fingerprint(key_of("vest-1"))
    event = site.history().events[-1]
    assert (event.step, event.epoch, event.serial, event.reason) == ("revoke", 0, "S-1", "lost at the pier")
    assert site.revoke("vest-1", "--reason", "again", "--json") == 0  # nothing more to enter
    assert json_lines.summary(capsys.readouterr().out)["changed"] is False and site.history().events[-1] == event
    before = site.files()
    assert site.run() == 2 and site.files() == before
    assert "row 2: device: vest-1 is barred; remove its row, or give it a new key" in capsys.readouterr().err
    assert site.run("--rotate", "vest-1") == 0
    assert "still barred; admit it with `patrolink hub unbar vest-1 --reason TEXT`" in capsys.readouterr().err
    site_option = ("--site", str(site.folder / "site.toml"))
    assert main(["hub", "unbar", "vest-1", "--reason", "found", *site_option]) == 0
    assert [device for device, _ in differences(site, capsys)] == ["police-1"]
    (site.folder / "keys.toml").unlink()
    (site.folder / "ledger.jsonl").unlink()
    (site.folder / "ledger.jsonl.head").unlink()
    assert site.run() == 0  # the retired key of epoch 0 is not made again, also without the ledger
    assert keys.load(site.folder / "keys.toml")["vest-1"] == key_of("vest-1", 1)


def test_revocation_needs_a_known_device_and_a_reason(site, capsys):
    assert site.run() == 0
    for device, reason, error in (("vest-9", "x", "no device 'vest-9'"), ("vest-1", "", "--reason must have 1 to 500")):
        assert site.revoke(device, "--reason", reason) == 2
        assert error in capsys.readouterr().err
    assert [event.step for event in site.history().events] == ["provision"] * 2


def test_revocation_that_a_hub_does_not_apply_is_in_the_ledger(site, monkeypatch, capsys):
    assert site.run() == 0
    monkeypatch.setattr(instance_lock, "is_held", lambda folder: True)
    monkeypatch.setattr(_site_change, "_WAIT_S", 0)
    assert site.revoke("vest-1", "--reason", "lost") == 4
    assert "vest-1 is barred on storage, but the hub of shard 0 runs" in capsys.readouterr().err
    assert (site.history().events[-1].step, site.history().events[-1].device) == ("revoke", "vest-1")


def test_revocation_that_the_ledger_does_not_take_is_reported_and_repeated(site, monkeypatch, capsys):
    assert site.run() == 0

    def fail(*_):
        raise UserError("no space; free some space")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", fail)
        assert site.revoke("vest-1", "--reason", "lost") == 2
    assert "vest-1 is barred on storage, but no space; free some space; then repeat" in capsys.readouterr().err
    assert site.revoke("vest-1", "--reason", "lost") == 0 and site.history().events[-1].step == "revoke"
