"""`patrolink provision`: what it writes, that it repeats, and that nothing is written when something is wrong."""

import datetime
import hashlib
import hmac
import json
import os
import struct

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from patrolink.cli import main
from patrolink.core import keys
from patrolink.hub import config

from tests.support import json_lines
from tests.support.provision_site import HEADER, POLICE_KEY, ROWS, SECRET, ProvisionedSite, key_of


@pytest.fixture
def site(tmp_path):
    """A site that was not provisioned yet."""
    return ProvisionedSite(tmp_path)


# --- what is written --------------------------------------------------------------------------------------------------


def test_keys_are_derived_and_other_lines_of_the_keys_file_stay(site, capsys):
    before = (site.folder / "keys.toml").read_text()
    assert site.run() == 0
    assert (site.folder / "keys.toml").read_text().startswith(before)
    known = keys.load(site.folder / "keys.toml")
    assert known["police-1"].secret.hex() == POLICE_KEY and known["vest-1"] == key_of("vest-1")
    info = b"patrolink-device" + struct.pack(">I", 0) + b"vest-1"
    assert known["vest-1"].secret == hmac.digest(SECRET, info, hashlib.sha256)
    output = capsys.readouterr()
    assert all(key.secret.hex() not in output.out + output.err for key in known.values())


def test_configurations_have_identity_board_and_site(site):
    assert site.run() == 0
    vest = site.config("vest-1")
    assert vest["key"] == key_of("vest-1").secret.hex() and vest["key_epoch"] == 0 and vest["device"] == "vest-1"
    assert (
        vest["gps_uart"] == "/dev/ttyS1" and vest["ptt"]["site"] == "harbour.example" and vest["ptt"]["frame_ms"] == 20
    )
    assert vest["broker"] == {"host": "127.0.0.1", "port": 1883} and "camera" not in vest
    modem = site.config("vest-2")
    assert modem["modem"]["apn"] == "cmnet" and modem["modem"]["power_pin"] == 12 and modem["state_dir"] == "/state"


def test_every_secret_file_is_private(site):
    mask = os.umask(0)
    try:
        assert site.run(*site.labels()) == 0
    finally:
        os.umask(mask)
    modes = {name: mode & 0o777 for name, (mode, _) in site.files().items()}
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {
        name: modes[name] for name in ("devices.csv", "site.toml")
    }
    assert modes["out/vest-1/config.json"] == modes["keys.toml"] == 0o600 and modes["out/vest-1"] == 0o700


def test_hub_has_the_members_and_their_keys(site):
    assert site.run() == 0
    context = config.HubContext(site.folder / "site.toml")
    members = {group.id: [set(entry.devices) for entry in group.member] for group in context.site.group}
    assert members == {1: [{"vest-1", "vest-2"}], 3: [{"police-1"}, {"vest-1"}]}
    assert context.site.group[0].member[0].priority == 10 and set(context.keys) == {"police-1", "vest-1", "vest-2"}


def test_second_table_adds_devices_and_keeps_the_first(site):
    assert site.run() == 0
    first = (site.out / "vest-1" / "config.json").read_bytes()
    site.write_table('S-3,vest-3,"Old town, night",linux,,\n', "S-9,police-1,Harbour circle,linux,3,\n")
    assert site.run() == 0
    groups = {group.id: group.member for group in config.load(site.folder / "site.toml").group}
    assert [entry.devices for entry in groups[1]] == [["police-1", "vest-1", "vest-2"]]
    assert [entry.devices for entry in groups[3]] == [["police-1"], ["vest-1", "vest-3"]]  # the site's own entry counts
    assert (site.out / "vest-1" / "config.json").read_bytes() == first
    assert site.config("police-1")["key"] == POLICE_KEY  # its key was there before


def test_device_that_leaves_a_group_is_removed_from_it(site):
    assert site.run() == 0
    site.write_table(ROWS[0].replace('"Old town, night"', ""), ROWS[1])
    assert site.run() == 0
    assert len(config.load(site.folder / "site.toml").group[1].member) == 1


def certificate(days: int = 30) -> bytes:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(now - datetime.timedelta(9)).not_valid_after(now + datetime.timedelta(days))
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def test_certificate_and_evidence_key_reach_the_device(tmp_path, capsys):
    camera = '[provision.config]\ncamera = { source = "0", indicator = "led" }\nclips = { sound = "never" }'
    site = ProvisionedSite(tmp_path, f'broker_ca = "ca.pem"\n{camera}', 'evidence_key = "evidence.pem"')
    assert main(["hub", "--new-evidence-key", str(tmp_path / "evidence.pem"), "--json"]) == 0
    public = json.loads(capsys.readouterr().out)["evidence_key"]
    (tmp_path / "ca.pem").write_bytes(certificate())
    site.write_table(ROWS[0])
    assert site.run() == 0
    vest = site.config("vest-1")
    assert vest["broker"]["tls"] == {"ca": "ca.pem"} and vest["clips"] == {"evidence_key": public, "sound": "never"}
    assert vest["camera"]["kind"] == "opencv" and vest["camera"]["source"] == "0"
    assert (site.out / "vest-1" / "ca.pem").read_bytes() == (tmp_path / "ca.pem").read_bytes()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"no certificate", "no certificate in PEM format"),
        (b"-----BEGIN PRIVATE KEY-----", "holds a private key, which devices must not get"),
        (certificate(-1), "the certificate expired on"),
        (certificate() + certificate(-1), "certificate 2 expired on"),
        (certificate() * 200, "more than 65536 bytes, which devices cannot hold"),
        (None, "No such file"),
    ],
    ids=["garbage", "private key", "expired", "second expired", "too large", "missing"],
)
def test_certificate_that_devices_cannot_use_is_refused(tmp_path, capsys, content, error):
    site = ProvisionedSite(tmp_path, 'broker_ca = "ca.pem"')
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    before = site.files()
    assert site.run() == 2
    assert error in capsys.readouterr().err and site_files_are(site, before)


def site_files_are(site, before) -> bool:
    """Return whether nothing but an empty ledger was added."""
    after = {name: value for name, value in site.files().items() if not name.startswith("ledger.jsonl")}
    return after == before and not site.history().events


# --- repetition -------------------------------------------------------------------------------------------------------


def test_second_run_changes_nothing_byte_for_byte(site, capsys):
    assert site.run(*site.labels(), "--batch", "monday") == 0
    before, times = site.files(), {path: path.stat().st_mtime_ns for path in site.folder.rglob("*")}
    assert site.run(*site.labels(), "--batch", "tuesday") == 0
    assert site.files() == before
    assert {path: path.stat().st_mtime_ns for path in site.folder.rglob("*")} == times
    assert "keys 0 new, 0 rotated, 2 kept; 0 files written" in capsys.readouterr().out


def test_lost_keys_file_and_folder_are_made_again(site):
    assert site.run() == 0 and site.run("--rotate", "vest-1") == 0
    before = site.files()
    (site.folder / "keys.toml").unlink()
    (site.out / "vest-1" / "config.json").unlink()
    assert site.run() == 0
    known = keys.load(site.folder / "keys.toml")
    assert known == {"vest-1": key_of("vest-1", 1), "vest-2": key_of("vest-2")}
    assert {**site.files(), "keys.toml": 0} == {**before, "keys.toml": 0}


def test_ledger_has_one_event_per_step_and_batch(site):
    assert site.run(*site.labels(), "--batch", "monday") == 0
    events = site.history().events
    assert [(event.device, event.step, event.batch) for event in events] == [
        (device, step, "monday") for device in ("vest-1", "vest-2") for step in ("provision", "label")
    ]
    sha256 = hashlib.sha256((site.out / "vest-1" / "config.json").read_bytes()).hexdigest()
    assert (events[0].serial, events[0].unique_id, events[0].sha256) == ("S-1", "246f28aabbcc", sha256)
    assert (events[0].consent, events[0].epoch, events[1].version) == ("2026-01", 0, "PL1:vest-1:S-1:246f28aabbcc")
    text = (site.folder / "ledger.jsonl").read_text()
    assert key_of("vest-1").secret.hex() not in text and SECRET.hex() not in text


# --- refusals: nothing is written -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda s: s.write_table(*ROWS, ROWS[0]), "serial: S-1 is in row 2, too"),
        (lambda s: s.write_table(ROWS[0].replace("linux", "unix")), "'gps_uart' is missing; add it; correct"),
        (lambda s: s.replace("site.toml", "[provision", "[other"), "other: unknown key"),
        (lambda s: s.replace("site.toml", "board.linux", "board.linus"), "provision.board.linus: unknown board"),
        (lambda s: s.replace("site.toml", 'gps_uart = "/dev', 'key = "/dev'), "board.linux: key differs per device"),
        (lambda s: s.replace("site.toml", '"cmnet"', '""'), "configuration of vest-2 is not valid: modem: give uart"),
        (lambda s: s.replace("site.toml", '"Old town, night"', '"Harbour circle"'), "two groups are named"),
        (lambda s: (s.folder / "site.secret").unlink(), "there is no site secret; create one with"),
        (lambda s: (s.folder / "site.secret").chmod(0o640), "others can read the site secret; run `chmod 600"),
        (lambda s: s.write_secret("site.secret", "xyz"), "a site secret has 64 hexadecimal digits"),
        (lambda s: s.write_secret("keys.toml", "[devices"), "keys.toml: not TOML"),
        (lambda s: s.write_secret("keys.toml", "[devices]\n[other]\n"), "new keys cannot be entered; write one device"),
        (lambda s: (s.folder / "members.toml").write_text("[[member]]\ngroup = 0\n"), "members.toml: member.0.group"),
        (lambda s: s.out.write_text("a file"), "Not a directory; nothing was provisioned"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_nothing_is_written(site, capsys, change, error):
    change(site)
    before = site.files()
    assert site.run() == 2
    errors = capsys.readouterr().err
    assert error in errors and SECRET.hex() not in errors, errors
    assert site.files() == before or site_files_are(site, before)


def test_arguments_that_are_missing_are_named(site, capsys):
    place, table = str(site.folder / "site.toml"), str(site.folder / "devices.csv")
    for words, error in (
        ([], "no site file; name that of the hub"),
        ([place], "no table of devices; name a CSV file"),
        ([place, table], "name it with --out DIR"),
        ([place, table, "--out", str(site.out), "--labels", "x.png"], "ends in .pdf"),
        ([place, table, "--out", str(site.out), "--labels", str(site.folder / "keys.toml")], "has another purpose"),
    ):
        assert main(["provision", *words]) == 2
        assert error in capsys.readouterr().err
    site.replace("site.toml", "[provision", "[[group.member]] #")
    assert not (site.out).exists()


def test_site_without_the_table_is_named(tmp_path, capsys):
    assert main(["hub", "--example"]) == 0
    (tmp_path / "site.toml").write_text(capsys.readouterr().out)
    assert main(["provision", str(tmp_path / "site.toml"), "--new-secret"]) == 2
    assert "`patrolink provision --example` prints one" in capsys.readouterr().err


def test_example_and_new_secret_make_a_site_ready(tmp_path, capsys):
    assert main(["hub", "--example"]) == 0 and main(["provision", "--example"]) == 0
    (tmp_path / "site.toml").write_text(capsys.readouterr().out)
    (tmp_path / "devices.csv").write_text(HEADER + ROWS[0].replace('"Old town, night"', ""))
    assert main(["provision", str(tmp_path / "site.toml"), "--new-secret", "--json"]) == 0
    secret = tmp_path / "site.secret"
    assert json_lines.records(capsys.readouterr().out) == [{"record": "site_secret", "file": str(secret)}]
    assert len(bytes.fromhex(secret.read_text())) == 32 and secret.stat().st_mode & 0o777 == 0o600
    assert main(["provision", str(tmp_path / "site.toml"), "--new-secret"]) == 2  # never replaced
    assert "the file exists, and devices may have keys from it" in capsys.readouterr().err


def test_entry_of_the_site_file_wins_over_an_earlier_run(site):
    assert site.run() == 0
    site.replace("site.toml", '"police-1"', '"police-1", "vest-1"')
    assert [entry.devices for entry in config.load(site.folder / "site.toml").group[1].member] == [
        ["police-1", "vest-1"]
    ]


def test_device_that_the_site_file_has_by_hand_needs_a_key_of_its_own(site, capsys):
    site.replace("site.toml", '"police-1"', '"police-1", "vest-9"')
    assert site.run() == 0 and main(["hub", str(site.folder / "site.toml"), "--check"]) == 2
    assert "device 'vest-9' has no key in keys.toml" in capsys.readouterr().err


def test_records_are_documented(site, capsys):
    assert site.run("--json") == 0
    first, second, summary = json_lines.records(capsys.readouterr().out)
    assert (first["group_ids"], first["key_state"], first["unique_id"]) == ([1, 3], "new", "246f28aabbcc")
    assert second["device"] == "vest-2" and summary["keys_new"] == 2 and summary["events"] == 2
    site.run("--json", "--out", "/proc/none")
    assert json_lines.records(capsys.readouterr().out)[-1]["exit_code"] == 2


def test_semicolons_are_read_and_said(site, capsys):
    text = (site.folder / "devices.csv").read_text().replace(",,", ";;").replace(",", ";")
    (site.folder / "devices.csv").write_text(text.replace('"Old town; night"', "3"))
    assert site.run() == 0
    assert "the columns are separated by semicolons" in capsys.readouterr().err
