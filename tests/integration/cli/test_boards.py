"""board.toml: every board is loaded, and errors name the invalid key."""

import json
import re

import pytest
from app.config import load_config
from app.errors import ConfigError
from patrolink.core import boards, resources
from patrolink.core.errors import UserError

EMULATED_BOARD = """name = "mine"
title = "My board"
runtime = "micropython"
hal = "posix"
run = "emulated"
heap_kb = 192
features = ["gps"]
flash = "none"

[gps]
baud = 9600
"""
HARDWARE_BOARD = """name = "mine"
title = "My board"
runtime = "micropython"
hal = "baremetal"
run = "not run on hardware yet"
port = "esp32"
features = ["gps"]
flash = "esptool"

[gps]
baud = 9600

[wiring]
gps_uart = { id = 1, tx = 4, rx = 5 }
buttons = { sos = 6 }

[wiring.modem]
uart = { id = 2, tx = 7, rx = 8 }
reset_pin = 0
"""


def test_every_board_is_loaded_by_its_name():
    assert boards.names() == ["lilygo_t_a7670", "linux", "mps2_an385", "rpi_pico", "unix"]
    for name in boards.names():
        assert boards.find(name).name == name


def test_board_is_loaded_by_path(tmp_path):
    (tmp_path / "board.toml").write_text(EMULATED_BOARD)
    assert boards.find(str(tmp_path / "board.toml")).gps.baud == 9600


def test_name_must_equal_folder_name(monkeypatch, tmp_path):
    for folder in ("device", "boards/other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "device" / "main.py").touch()
    (tmp_path / "boards" / "other" / "board.toml").write_text(EMULATED_BOARD)
    monkeypatch.setenv("PATROLINK_HOME", str(tmp_path))
    with pytest.raises(UserError, match="it must be the folder's name, 'other'"):
        boards.find("other")


def test_boards_not_run_on_hardware_are_marked_and_type_checked():
    makefile = (resources.root() / "Makefile").read_text()
    hardware_boards = [b for b in map(boards.find, boards.names()) if not b.emulated]
    assert [b.name for b in hardware_boards] == ["lilygo_t_a7670", "rpi_pico"]
    for board in hardware_boards:
        assert board.run == "not run on hardware yet" and f"build/typings/{board.port}-" in makefile
        page = (resources.root() / "boards" / board.name / "README.md").read_text()
        assert re.search("not run on hardware yet", page, re.I)
        with pytest.raises(UserError, match=f"{board.name} has no emulation.*linux, mps2_an385, unix"):
            board.check_emulated()


def test_wiring_is_a_valid_device_configuration(tmp_path):
    (tmp_path / "board.toml").write_text(HARDWARE_BOARD)
    custom = boards.load(tmp_path / "board.toml")
    assert custom.config() == {
        "gps_uart": {"id": 1, "tx": 4, "rx": 5, "baudrate": 9600},
        "modem": {"uart": {"id": 2, "tx": 7, "rx": 8}, "reset_pin": 0},
        "buttons": {"sos": 6},
    }
    for board in [custom, *map(boards.find, boards.names())]:
        if board.wiring is None:
            continue
        config = board.config()
        config["modem"]["apn"] = "cmnet"
        config |= {"device": "d1", "key": "00" * 32, "broker": {"host": "hub", "port": 1883}, "state_dir": "/state"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        loaded = load_config(str(tmp_path / "config.json"))
        assert {name: loaded[name] for name in board.config()} == {name: config[name] for name in board.config()}


@pytest.mark.parametrize("device", ["", "a" * 33, "vest/1", "vest+", "w\u00e9st-1", 7, None])
def test_device_id_that_the_protocol_does_not_have_is_refused(tmp_path, device):
    config = {"key": "00" * 32, "broker": {"host": "hub", "port": 1883}, "gps_uart": "x", "state_dir": "/state"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, "device": "a" * 32}))
    assert load_config(str(path))["device"] == "a" * 32
    path.write_text(json.dumps({**config, "device": device}))
    with pytest.raises(ConfigError, match="device: must be a text of 1 to 32 characters .* give the id that the hub"):
        load_config(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reset_pin = 0", "reset_pin = 4", "wiring: gps_uart.tx and modem.reset_pin are both on pin 4"),
        ("sos = 6", "sos = 8", "modem.uart.rx and buttons.sos are both on pin 8"),
        ("sos = 6", "panic = 6", "wiring.buttons.panic"),
        ("tx = 4, ", "", "wiring.gps_uart.tx: is missing"),
        ('port = "esp32"\n', "", "needs hal = 'baremetal', its port and [wiring]"),
        ('"not run on hardware yet"', '"emulated"', "an emulated baremetal board needs an [image]"),
        ('"not run on hardware yet"', '"maybe"', "run: input should be 'emulated' or 'not run on hardware yet'"),
    ],
)
def test_invalid_key_of_a_hardware_board_is_named(tmp_path, old, new, message):
    path = tmp_path / "board.toml"
    path.write_text(HARDWARE_BOARD.replace(old, new))
    with pytest.raises(UserError) as e:
        boards.load(path)
    assert message in str(e.value) and str(path) in str(e.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("heap_kb = 192", 'heap_kb = "192"', "heap_kb: input should be a valid integer, but it is '192'"),
        ("heap_kb = 192", "heap_kb = 1", "heap_kb: input should be greater than or equal to 64"),
        ("heap_kb = 192", "heap_bk = 192", "heap_bk: unknown key; did you mean 'heap_kb'?"),
        ('"gps"]', '"radar"]', "features.0: input should be 'gps', 'modem'"),
        ("baud = 9600", "baud = true", "gps.baud: input should be a valid integer"),
        ('title = "My board"\n', "", "title: is missing; add it"),
        ('name = "mine"', 'name = "../mine"', "name: string should match pattern"),
        ("[gps]", "[gps", "not TOML"),
    ],
)
def test_invalid_key_of_an_emulated_board_is_named(tmp_path, old, new, message):
    path = tmp_path / "board.toml"
    path.write_text(EMULATED_BOARD.replace(old, new))
    with pytest.raises(UserError) as e:
        boards.load(path)
    assert message in str(e.value) and str(path) in str(e.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            'kind = "vc0706"\nwidth = 320\nheight = 240\nfps = 5',
            "camera: kind = 'vc0706' needs baud and picture_kb",
        ),
        (
            'kind = "opencv"\nwidth = 320\nheight = 240\nfps = 5\nbaud = 9600',
            "camera: kind = 'vc0706' needs baud and picture_kb, and other kinds have neither",
        ),
        ('kind = "opencv"\nwidht = 320\nheight = 240\nfps = 5', "camera.widht: unknown key; did you mean 'width'?"),
    ],
)
def test_invalid_key_of_a_camera_is_named(tmp_path, table, message):
    path = tmp_path / "board.toml"
    path.write_text(f"{EMULATED_BOARD}\n[camera]\n{table}\n")
    with pytest.raises(UserError, match=re.escape(message)):
        boards.load(path)


def test_heap_includes_voice_and_camera():
    unix = boards.find("unix")
    assert unix.heap({}) == 240
    assert unix.heap({"audio": {}}) == 320 and unix.heap({"camera": {}}) == 496
    assert unix.heap({"audio": {}, "camera": {}}) == 576
    assert boards.find("linux").heap({"camera": {}}) is None
    assert boards.find("mps2_an385").heap({}) == 128 and boards.find("mps2_an385").heap({"camera": {}}) == 160
