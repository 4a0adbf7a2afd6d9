"""`patrolink image`: build, key, sign, inspect, diff, and what they refuse."""

import hashlib
import os
import random
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from patrolink.cli import main
from patrolink.core import boards
from patrolink.core.errors import UserError
from patrolink.flash.image import build, delta, image_file, release_key, romfs
from patrolink_protocol import image_header

from tests.support.json_lines import records

BOARD = "mps2_an385"
SEED = 20_261_130


@pytest.fixture(scope="module")
def agent():
    """The agent image of the board, not signed."""
    return build.build_agent(boards.find(BOARD), build.BuildInfo("1.2.3", 4, 5))


@pytest.fixture(scope="module")
def key():
    return ec.derive_private_key(19, ec.SECP256R1())


@pytest.fixture
def folder(tmp_path, monkeypatch, agent):
    """An empty current folder with an image, agent.plimg."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(release_key.PASSPHRASE_VARIABLE, raising=False)
    image_file.save(tmp_path / "agent.plimg", agent)
    return tmp_path


@pytest.fixture
def keys(folder, capsys):
    """A release key and its trust store: release.pem, trust.pem."""
    assert main(["image", "key", "release.pem"]) == 0
    (folder / "trust.pem").write_text(capsys.readouterr().out)
    return folder


def refusal(capsys, *words: str) -> str:
    """Run a command that must end with exit code 2, and return its message."""
    assert main(["image", *words]) == 2
    return capsys.readouterr().err


def other_content(agent, rollback: int = 5, **fields):
    """Return an agent image whose content differs in one module."""
    files = romfs.read(agent.payload)
    files["boot.mpy"] += b"more"
    content = romfs.write(files)
    digest = hashlib.sha256(content).digest()
    values = {"size": len(content), "sha256": digest, "payload_size": len(content), "payload_sha256": digest}
    return image_file.Image(agent.header._replace(rollback=rollback, **values, **fields), content)


# --- build ---


def test_agent_image_has_the_modules_of_the_firmware(agent):
    files = romfs.read(agent.payload)
    assert {"boot.mpy", "app/start.mpy", "agent/update/delta.mpy", "umqtt/simple.mpy"} <= files.keys()
    assert {
        "hal/baremetal/platform.mpy",
        "patrolink_protocol/image_header.mpy",
        "patrolink_messages.mpy",
    } <= files.keys()
    assert not [path for path in files if "posix" in path or "_cpython" in path or path == "compat/udp.mpy"]
    assert all(content[:2] == b"M\x06" for content in files.values())
    header = agent.header
    assert (header.board, header.architecture, header.version) == (BOARD, "armv7m", "1.2.3")
    assert (header.rollback, header.minimum_platform, header.signature) == (4, 5, bytes(64))
    assert header.sha256 == hashlib.sha256(agent.payload).digest()


def test_builds_are_equal_to_the_byte(folder, agent, capsys):
    words = ["--board", BOARD, "--version", "1.2.3", "--rollback", "4", "--platform-number", "5"]
    assert main(["image", "build", *words, "--out", "again.plimg"]) == 0
    assert "wrote again.plimg: agent 1.2.3 for mps2_an385 (armv7m)" in capsys.readouterr().out
    assert (folder / "again.plimg").read_bytes() == agent.pack()


def test_architecture_of_the_board_is_compiled_for():
    image = build.build_agent(boards.find("rpi_pico"), build.BuildInfo("1", 0, 1))
    loops = romfs.read(image.payload)["agent/update/byte_loops.mpy"]
    assert image.header.architecture == "armv6m"
    assert loops[2] >> 2 & 15 == 4  # MP_NATIVE_ARCH_ARMV6M in the header of a .mpy with machine code


def test_platform_image(folder, capsys):
    (folder / "firmware.bin").write_bytes(b"firmware")
    words = ["--board", BOARD, "--platform", "firmware.bin", "--platform-number", "7", "--rollback", "1"]
    assert main(["image", "build", *words, "--out", "platform.plimg"]) == 0
    image = image_file.load(folder / "platform.plimg")
    assert (image.kind, image.payload, image.header.minimum_platform) == ("platform", b"firmware", 7)
    assert main(["image", "inspect", "platform.plimg"]) == 0
    (folder / "empty").touch()
    words[3] = "empty"
    assert "1 to 16777216 bytes" in refusal(capsys, "build", *words, "--out", "platform.plimg")
    with (folder / "empty").open("wb") as f:
        f.truncate(image_header.CONTENT_MAX + 1)
    assert "1 to 16777216 bytes" in refusal(capsys, "build", *words, "--out", "platform.plimg")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--board", "unix", "--rollback", "1"], "runs a process, not firmware"),
        (["--board", "mps2", "--rollback", "1"], "mps2"),
        (["--board", BOARD, "--rollback", "-1"], "rollback is -1"),
        (["--board", BOARD, "--rollback", "4294967296"], "rollback is 4294967296"),
        (["--board", BOARD, "--rollback", "1", "--platform-number", "65536"], "minimum_platform is 65536"),
        (["--board", BOARD, "--rollback", "1", "--version", "1 2"], "version has to be"),
        (["--board", BOARD, "--rollback", "1", "--version", "1" * 25], "version has to be"),
    ],
)
def test_wrong_values_are_refused_and_nothing_is_written(folder, capsys, words, reason):
    message = refusal(capsys, "build", *words, "--out", "new.plimg")
    assert reason in message and "; " in message
    assert [path.name for path in folder.iterdir()] == ["agent.plimg"]


def test_module_that_cannot_be_compiled_is_named(tmp_path):
    (tmp_path / "wrong.py").write_text("def (:\n")
    with pytest.raises(UserError, match=r"mpy-cross refuses wrong\.py for armv7m"):
        build.compile_module(tmp_path / "wrong.py", tmp_path, "armv7m")


# --- key and sign ---


def test_signed_image_is_valid_under_its_key_only(keys, capsys):
    assert main(["image", "sign", "agent.plimg", "--key", "release.pem"]) == 0
    capsys.readouterr()
    assert main(["image", "inspect", "agent.plimg", "--trust", "trust.pem"]) == 0
    assert "signature        valid" in capsys.readouterr().out
    assert main(["image", "key", "other.pem"]) == 0
    (keys / "other-trust.pem").write_text(capsys.readouterr().out)
    assert main(["image", "inspect", "agent.plimg", "--trust", "other-trust.pem"]) == 1
    assert "unknown key" in capsys.readouterr().out
    (keys / "both.pem").write_text((keys / "other-trust.pem").read_text() + (keys / "trust.pem").read_text())
    assert main(["image", "inspect", "agent.plimg", "--trust", "both.pem"]) == 0
    assert main(["image", "inspect", "agent.plimg"]) == 0
    assert "not verified" in capsys.readouterr().out


def test_signatures_are_reproducible_and_have_the_lower_s(agent):
    rng = random.Random(SEED)
    for _ in range(20):
        private = ec.derive_private_key(rng.randrange(1, 2**255), ec.SECP256R1())
        header = release_key.sign(agent.header, private)
        assert header == release_key.sign(header, private), f"seed {SEED}"
        assert release_key.TrustStore([private.public_key()]).check(header) == release_key.VALID
        image_header.pack(header)  # refuses an upper s


def test_every_altered_byte_of_a_signed_header_is_refused(agent, key):
    data = image_header.pack(release_key.sign(agent.header, key))
    trust = release_key.TrustStore([key.public_key()])
    accepted = []
    for at in range(len(data)):
        altered = bytearray(data)
        altered[at] ^= 1
        try:
            state = trust.check(image_header.unpack(altered))
        except image_header.ImageHeaderError:
            continue
        accepted += [at] if state == release_key.VALID else []
    assert accepted == []


def test_key_file_is_private_and_never_replaced(keys, capsys):
    mode = (keys / "release.pem").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert "the file exists" in refusal(capsys, "key", "release.pem")
    assert "PRIVATE" not in (keys / "trust.pem").read_text()


def test_encrypted_key_needs_its_passphrase(folder, capsys, monkeypatch):
    monkeypatch.setenv(release_key.PASSPHRASE_VARIABLE, "correct horse")
    assert main(["image", "key", "release.pem"]) == 0
    assert b"ENCRYPTED" in (folder / "release.pem").read_bytes()
    assert main(["image", "sign", "agent.plimg", "--key", "release.pem"]) == 0
    monkeypatch.setenv(release_key.PASSPHRASE_VARIABLE, "wrong horse")
    message = refusal(capsys, "sign", "agent.plimg", "--key", "release.pem")
    assert "passphrase is wrong" in message and "horse" not in message
    monkeypatch.delenv(release_key.PASSPHRASE_VARIABLE)
    assert "is encrypted; set PATROLINK_RELEASE_PASSPHRASE" in refusal(
        capsys, "sign", "agent.plimg", "--key", "release.pem"
    )


def test_wrong_keys_and_trust_stores_are_refused(keys, capsys):
    for content, reason in (
        (b"", "not a private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a private key"),
        (b"1" * 5000, "more than 4096 bytes"),
    ):
        (keys / "wrong.pem").write_bytes(content)
        assert reason in refusal(capsys, "sign", "agent.plimg", "--key", "wrong.pem")
    p384 = release_key.public_pem(ec.generate_private_key(ec.SECP384R1()).public_key()).encode()
    for content, reason in (
        (b"", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "key 1 is not a public key"),
        ((keys / "release.pem").read_bytes(), "no public key"),
        (b"1" * 70000, "more than 65536 bytes"),
        (p384, "not on the curve P-256"),
    ):
        (keys / "wrong.pem").write_bytes(content)
        assert reason in refusal(capsys, "inspect", "agent.plimg", "--trust", "wrong.pem")


def test_key_is_not_replaced_by_an_image(keys, capsys):
    before = (keys / "release.pem").read_bytes()
    assert "would replace" in refusal(capsys, "sign", "agent.plimg", "--key", "release.pem", "--out", "release.pem")
    assert (keys / "release.pem").read_bytes() == before


# --- inspect ---


def test_records_of_an_image_and_its_files(folder, agent, capsys):
    assert main(["image", "inspect", "agent.plimg", "--json"]) == 0
    image, *files, summary = records(capsys.readouterr().out)
    assert image["content_sha256"] == agent.header.sha256.hex() and image["signature"] == "unsigned"
    assert image["base_sha256"] is None and image["bytes"] == len(agent.payload) + 256
    assert {row["path"]: row["bytes"] for row in files} == {
        path: len(content) for path, content in romfs.read(agent.payload).items()
    }
    assert summary["image_files"] == len(files)


def test_damaged_files_are_refused(folder, agent, capsys):
    data = agent.pack()
    cases = (
        (b"", "0 bytes"),
        (data[:255], "255 bytes"),
        (data[:-1], "truncated or damaged"),
        (data + b"1", "truncated or damaged"),
        (data[:300] + bytes([data[300] ^ 1]) + data[301:], "SHA-256"),
        (b"X" + data[1:], "PLIM"),
    )
    for content, reason in cases:
        (folder / "damaged.plimg").write_bytes(content)
        for words in (["inspect", "damaged.plimg"], ["diff", "agent.plimg", "damaged.plimg", "--out", "d"]):
            assert reason in refusal(capsys, *words)
    with (folder / "damaged.plimg").open("wb") as f:
        f.truncate(1 << 40)  # sparse
    assert "more than" in refusal(capsys, "inspect", "damaged.plimg")
    assert refusal(capsys, "inspect", "missing.plimg")


def test_agent_content_has_to_be_a_romfs(folder, agent, capsys):
    digest = hashlib.sha256(b"1234").digest()
    header = agent.header._replace(size=4, payload_size=4, sha256=digest, payload_sha256=digest)
    image_file.save(folder / "other.plimg", image_file.Image(header, b"1234"))
    assert "not a ROMFS" in refusal(capsys, "inspect", "other.plimg")


# --- diff ---


def test_delta_gives_the_content_of_the_new_image(keys, agent, capsys):
    new = other_content(agent)
    image_file.save(keys / "new.plimg", new)
    assert main(["image", "diff", "agent.plimg", "new.plimg", "--out", "delta.plimg"]) == 0
    result = image_file.load(keys / "delta.plimg")
    assert (result.kind, result.header.rollback, result.header.sha256) == ("agent_delta", 5, new.header.sha256)
    assert result.header.base_sha256 == agent.header.sha256
    assert delta.apply_delta(agent.payload, result.payload, result.header.size) == new.payload
    assert len(result.payload) < 200
    assert main(["image", "sign", "delta.plimg", "--key", "release.pem"]) == 0
    assert main(["image", "inspect", "delta.plimg", "--trust", "trust.pem"]) == 0


def test_packed_full_image_needs_no_base(keys, agent, capsys):
    assert main(["image", "diff", "--full", "agent.plimg", "--out", "full.plimg"]) == 0
    result = image_file.load(keys / "full.plimg")
    assert result.kind == "agent_delta" and not any(result.header.base_sha256)
    assert delta.apply_delta(b"", result.payload, result.header.size) == agent.payload
    assert len(result.payload) < 0.7 * len(agent.payload)
    for images in (["agent.plimg"], ["--full", "agent.plimg", "agent.plimg"]):
        assert "give BASE and NEW, or --full and NEW" in refusal(capsys, "diff", *images, "--out", "d.plimg")


def test_images_that_do_not_fit_are_refused(folder, agent, capsys):
    image_file.save(folder / "new.plimg", other_content(agent))
    assert main(["image", "diff", "agent.plimg", "new.plimg", "--out", "delta.plimg"]) == 0
    assert "of kind agent_delta" in refusal(capsys, "diff", "agent.plimg", "delta.plimg", "--out", "d.plimg")
    for fields, reason in (({"board": "rpi_pico"}, "board mps2_an385 and rpi_pico"), ({"architecture": "x64"}, "x64")):
        image_file.save(folder / "new.plimg", other_content(agent, **fields))
        assert reason in refusal(capsys, "diff", "agent.plimg", "new.plimg", "--out", "d.plimg")
    assert "would replace" in refusal(capsys, "diff", "agent.plimg", "new.plimg", "--out", "new.plimg")


def test_equal_content_is_noted(folder, agent, capsys):
    image_file.save(folder / "new.plimg", agent)
    assert main(["image", "diff", "agent.plimg", "new.plimg", "--out", "delta.plimg"]) == 0
    assert "the same content" in capsys.readouterr().err


# --- files ---


def test_a_failed_write_leaves_the_old_file(folder, agent, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    before = (folder / "agent.plimg").read_bytes()
    with pytest.raises(OSError, match="No space"):
        image_file.save(folder / "agent.plimg", other_content(agent))
    assert (folder / "agent.plimg").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["agent.plimg"]
