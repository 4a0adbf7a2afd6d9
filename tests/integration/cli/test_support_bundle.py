"""The support bundle of `patrolink doctor`: it has everything that helps, and no secrets."""

import json
import zipfile
from pathlib import Path

import pytest
from patrolink.core import resources
from patrolink.doctor import bundle

from tests.support.doctor_site import make_certificate, make_site, run


def bundle_of(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_a_bundle_has_everything_but_secrets(tmp_path, broker):
    path = make_site(tmp_path, "mqtt://hub:hunter2@127.0.0.1")
    make_certificate(tmp_path / "hub.pem", -1, 90)
    log = tmp_path / "港 hub.log"
    log.write_text(
        f"key {'5a' * 32}\nIMEI 860584030000017\nfix 45.542012 13.724012\n{(tmp_path / 'key.pem').read_text()}end\n"
    )
    (tmp_path / "patrolink.toml").write_text('[monitor]\nkeys = "/etc/keys.toml"\npassword = "hunter2"\n')
    out = tmp_path / "support.zip"
    done = run(
        "--site", path, "--bundle", out, log,
        PATROLINK_MQTT_PASSWORD="hunter2", PATROLINK_CONFIG=str(tmp_path / "patrolink.toml"),
    )  # fmt: skip
    assert "read it before you send it" in done.stderr and "--positions" in done.stderr
    files = bundle_of(out)
    assert out.stat().st_mode & 0o077 == 0
    assert {"doctor.json", "versions.json", "environment.txt", "boards/unix.toml", "logs/港 hub.log"} <= files.keys()
    assert {"configuration/site.toml", "configuration/patrolink.toml"} <= files.keys()
    everything = "\n".join(files.values())
    for secret in ("hunter2", "5a" * 8, "860584030000017", "45.542", "PRIVATE KEY"):
        assert secret not in everything, secret
    assert files["logs/港 hub.log"] == "key [removed]\nIMEI [removed]\nfix [position]\n[removed]\nend\n"
    assert any(finding["check"] == "python" for finding in json.loads(files["doctor.json"]))
    assert json.loads(files["versions.json"])["distributions"]["rich"]
    assert files["boards/unix.toml"] == (resources.root() / "boards" / "unix" / "board.toml").read_text()


def test_positions_are_kept_on_request(tmp_path):
    log = tmp_path / "hub.log"
    log.write_bytes("fix 45.542012 13.724012 token=hunter2\r\n".encode("utf-16"))  # as PowerShell redirects output
    assert run("--bundle", tmp_path / "a.zip", "--positions", log, log).returncode == 0
    files = bundle_of(tmp_path / "a.zip")
    assert files["logs/hub.log"].lstrip("\ufeff") == "fix 45.542012 13.724012 token=[removed]\r\n"
    assert "logs/hub-2.log" in files


def test_the_end_of_a_long_log_is_taken(tmp_path):
    line = "2026-11-30 05:12:33 INFO link: connected to mqtt://hub:hunter2@broker.example, lat_deg=45.542012\n"
    (tmp_path / "hub.log").write_text("first\n" + line * 40_000 + "last\n")
    contents = bundle.collect([], [], [tmp_path / "hub.log"], keep_positions=False)
    text = contents.files["logs/hub.log"]
    assert (
        text.startswith("2026-11-30 ") and text.endswith("last\n") and "hunter2" not in text and len(text) > 1_500_000
    )
    assert contents.secrets > 19_000 and contents.positions > 19_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("missing.log", None, "No such file"), ("binary.log", b"\0\1\2\3", "not a text file")],
)
def test_a_log_that_cannot_be_searched_for_secrets_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run("--bundle", tmp_path / "a.zip", tmp_path / name)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "a.zip").exists()


def test_a_bundle_replaces_no_file(tmp_path):
    (tmp_path / "a.zip").write_text("precious")
    done = run("--bundle", tmp_path / "a.zip")
    assert done.returncode == 2 and "the file exists" in done.stderr and (tmp_path / "a.zip").read_text() == "precious"
    done = run("--bundle", tmp_path / "no folder" / "a.zip")
    assert done.returncode == 2 and "name a writable file with --bundle" in done.stderr
