"""`patrolink flash`: images and ports that cannot be used, exit codes, output for people and as JSON Lines."""

import os
from pathlib import Path

import pytest
from patrolink.cli import main
from patrolink.core import boards
from patrolink.core.errors import UserError
from patrolink.emulator.peripherals.esp_rom import Faults
from patrolink.flash import flash_image, ledger, ports, screen
from patrolink.flash.device_flow import State
from patrolink.flash.fleet import Device
from patrolink.flash.image import image_file as stored
from patrolink.flash.image import release_key
from patrolink.flash.records import Identity, Port, RefusedError
from patrolink_protocol import image_header

from tests.support.esp_boards import EspBoard
from tests.support.flash_images import write_image
from tests.support.json_lines import records

PLATFORM = {"kind": image_header.PLATFORM, "board": "lilygo_t_a7670", "architecture": "xtensawin"}
CONTENT = os.urandom(20_000)


@pytest.fixture
def platform(tmp_path):
    return str(write_image(tmp_path / "platform.plimg", CONTENT, **PLATFORM))


def test_boards_are_flashed_and_failures_counted(platform, tmp_path, capsys):
    good, dead = EspBoard(1), EspBoard(2, Faults(silent=True))
    try:
        options = ["--unverified", "--ledger", str(tmp_path / "ledger.jsonl"), "--retries", "0"]
        assert main(["flash", platform, good.path, dead.path, *options, "--json"]) == 1
        first, second, summary = records(capsys.readouterr().out)
        assert (first["flash_state"], first["unique_id"], first["chip"]) == ("flashed", good.mac.hex(), "ESP32")
        assert second["flash_state"] == "failed" and "check cable" in second["why"]
        assert (summary["devices"], summary["flashed_devices"], summary["failed_devices"]) == (2, 1, 1)
        assert main(["flash", platform, good.path, *options]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines()[-1] == "1 device: 1 unchanged"
        assert "identifying" in err and f"{good.mac.hex()}: unchanged: platform 1.0 for lilygo_t_a7670" in out
        assert good.rom.flash[0x1000 : 0x1000 + len(CONTENT)] == CONTENT
        content = ledger.read(tmp_path / "ledger.jsonl")
        assert not content.damage
        assert {(event.step, event.result, event.unique_id) for event in content.events} == {
            ("flash", "ok", good.mac.hex()),
            ("flash", "failed", ""),
            ("verify", "ok", good.mac.hex()),
        }
    finally:
        good.close()
        dead.close()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["PLATFORM"], 2, "name the ports of the devices, or use --all"),
        (["PLATFORM", "a", "--all"], 2, "name the ports of the devices, or use --all"),
        (["PLATFORM", "/dev/a", "/dev/../dev/a"], 2, "named twice"),
        (["PLATFORM", "--all"], 3, "no serial port on USB"),
        (["PLATFORM", "a", "--board", "rpi_pico"], 2, "for board lilygo_t_a7670, not rpi_pico"),
        (["PLATFORM", "a", "--method", "serial"], 2, "the method serial writes agent images"),
        (["nothing.plimg", "a"], 2, "nothing.plimg: no such file or directory; name another path"),
        (["README", "a"], 2, "not an image ("),
        (["CUT", "a"], 2, "the header says 20000 bytes of payload"),
        (["ALTERED", "a"], 2, "it is damaged, copy it again"),
        (["DELTA", "a"], 2, "a delta image, which only goes over the air"),
        (["MPS2", "a"], 2, "takes no platform image"),
        (["LINUX", "--all"], 2, "cameras are not on USB"),
        (["LINUX", "a b"], 2, "no address of a camera"),
        (["LINUX", "a", "--method", "serial"], 2, "the method serial does not reach board linux"),
        (["PICO", "a", "--method", "linux"], 2, "the method linux does not reach board rpi_pico"),
        (["PACKAGE", "a"], 2, "is a Debian package"),
    ],
)
def test_what_cannot_work_is_refused_before_any_port_is_opened(
    platform, tmp_path, monkeypatch, capsys, words, code, message
):
    monkeypatch.setattr(ports, "list_ports", lambda: [Port("/dev/ttyS0")])
    data = Path(platform).read_bytes()
    delta = {"kind": image_header.AGENT_DELTA, "base_sha256": bytes([1] * 32)}
    files = {
        "PLATFORM": platform,
        "README": tmp_path / "readme",
        "CUT": tmp_path / "cut",
        "ALTERED": tmp_path / "altered",
        "DELTA": write_image(tmp_path / "delta", CONTENT, **delta),
        "MPS2": write_image(tmp_path / "mps2", CONTENT, kind=image_header.PLATFORM),
        "LINUX": write_image(tmp_path / "linux", CONTENT, board="linux", architecture="cpython"),
        "PACKAGE": write_image(tmp_path / "package", CONTENT, board="linux", kind=image_header.PLATFORM),
        "PICO": write_image(tmp_path / "pico", CONTENT, board="rpi_pico", architecture="armv6m"),
    }
    files["README"].write_text("x" * 300)
    files["CUT"].write_bytes(data[:-1])
    files["ALTERED"].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert main(["flash", "--unverified", *(str(files.get(word, word)) for word in words)]) == code
    out, err = capsys.readouterr()
    assert message in err and out == ""


def test_board_without_slots_takes_no_agent_image(tmp_path, monkeypatch, capsys):
    slotless = boards.find("lilygo_t_a7670").model_copy(update={"update": None})
    monkeypatch.setattr(boards, "find", lambda name: slotless)
    agent = write_image(tmp_path / "agent", CONTENT, board="lilygo_t_a7670", architecture="xtensawin")
    assert main(["flash", str(agent), "a", "--unverified"]) == 2
    assert "board lilygo_t_a7670 has no slots for agent images" in capsys.readouterr().err


@pytest.fixture
def keys(tmp_path):
    """Return two release keys, and the path of a trust store with the first one."""
    pair = [release_key.create(tmp_path / f"{name}.pem", None) for name in ("ours", "other")]
    trust = tmp_path / "trust.pem"
    trust.write_text(release_key.public_pem(pair[0].public_key()))
    return pair, trust


def test_only_images_of_a_trusted_key_are_flashed(platform, keys, capsys, monkeypatch):
    pair, trust = keys
    unsigned = stored.load(Path(platform))
    for private, altered, message in (
        (None, False, "signature: unsigned"),
        (pair[1], False, "signature: unknown key"),
        (pair[0], True, "signature: invalid"),
    ):
        header = release_key.sign(unsigned.header, private) if private else unsigned.header
        header = header._replace(rollback=7) if altered else header
        stored.save(Path(platform), stored.Image(header, unsigned.payload))
        assert main(["flash", platform, "nothing", "--trust", str(trust)]) == 2
        assert message in capsys.readouterr().err
    assert main(["flash", platform, "nothing"]) == 2
    assert "name the release keys with --trust" in capsys.readouterr().err
    stored.save(Path(platform), stored.Image(release_key.sign(unsigned.header, pair[0]), unsigned.payload))
    monkeypatch.setenv("PATROLINK_FLASH_TRUST", str(trust))
    board = EspBoard(1)
    try:
        assert main(["flash", platform, board.path]) == 0
    finally:
        board.close()


def test_a_dry_run_enters_nothing_in_the_ledger(platform, tmp_path, capsys):
    path = tmp_path / "ledger.jsonl"
    board = EspBoard(1)
    try:
        options = ["--unverified", "--retries", "0", "--ledger", str(path)]
        assert main(["flash", platform, board.path, *options]) == 0
        before = path.read_bytes()
        assert main(["flash", platform, board.path, *options, "--dry-run"]) == 0
    finally:
        board.close()
    assert main(["flash", platform, str(tmp_path / "gone"), *options, "--dry-run"]) == 1
    assert path.read_bytes() == before
    assert len(ledger.read(path).events) == 1


@pytest.mark.parametrize("option", ["--trust", "--ledger"])
def test_file_that_does_not_exist_is_named(platform, tmp_path, capsys, option):
    missing = str(tmp_path / "none" / "file")
    more = [] if option == "--trust" else ["--unverified"]
    assert main(["flash", platform, "a", option, missing, *more]) == 2
    out, err = capsys.readouterr()
    assert missing in err and "o such file or directory" in err and "Traceback" not in err and out == ""


def test_port_that_does_not_exist_fails(platform, tmp_path, capsys):
    assert main(["flash", platform, str(tmp_path / "gone"), "--unverified", "--retries", "0"]) == 1
    assert "failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (Identity(board="unix"), "the image is for board mps2_an385, but this is unix"),
        (Identity(architecture="armv6m"), "code for armv7m, but this board runs armv6m"),
        (Identity(platform=0), "needs platform 1, but the board has 0"),
        (Identity(rollback_floor=2), "rollback number 1 of the image is below the floor of the device, 2"),
        (Identity(release_keys=("11" * 8,)), "signed with no release key, but the platform of the board accepts 1111"),
        (Identity(release_keys=()), "accepts no key at all"),
    ],
)
def test_image_that_does_not_fit_a_device(tmp_path, identity, message):
    image = flash_image.load(write_image(tmp_path / "agent", CONTENT))
    with pytest.raises(RefusedError, match=message):
        image.check_fits("port", identity)
    image.check_fits("port", Identity(board="mps2_an385", architecture="armv7m", platform=1, rollback_floor=1))


def test_a_changed_bit_in_any_byte_of_an_image_is_noticed_or_harmless(tmp_path):
    """Without a signature: a changed header may be valid, but never with other content than it says."""
    path = write_image(tmp_path / "agent", CONTENT[:64])
    good = path.read_bytes()
    for i in range(len(good)):
        data = bytearray(good)
        data[i] ^= 1 << (i & 7)
        path.write_bytes(data)
        try:
            image = flash_image.load(path)
        except UserError:
            continue
        assert image.content == CONTENT[:64]


def test_lines_hide_control_characters(monkeypatch):
    device = Device(Port("/dev/x"), "/dev/x", State.FAILED, "\x1b[2J", Identity(unique_id="a\nb"))
    assert screen.line(device) == "/dev/x a\\nb: failed: \\x1b[2J"
    table = screen._table([device])
    assert "\\x1b" in str(list(table.columns[-1].cells)[0])
