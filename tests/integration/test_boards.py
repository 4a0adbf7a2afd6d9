"""board.toml: every board loads, and what is wrong in one is named."""

import pytest
from patrolink import boards
from patrolink.errors import UserError

GOOD = """name = "mine"
title = "My board"
runtime = "micropython"
hal = "posix"
heap_kb = 192
features = ["gps"]
flash = "none"

[gps]
baud = 9600
"""


def test_every_board_loads_under_its_own_name():
    assert boards.names() == ["linux", "mps2_an385", "unix"]
    for name in boards.names():
        assert boards.find(name).name == name


def test_a_board_of_ones_own(tmp_path):
    (tmp_path / "board.toml").write_text(GOOD)
    assert boards.find(str(tmp_path / "board.toml")).gps.baud == 9600


def test_a_name_that_is_not_the_folders(monkeypatch, tmp_path):
    for folder in ("device", "boards/other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "device" / "main.py").touch()
    (tmp_path / "boards" / "other" / "board.toml").write_text(GOOD)
    monkeypatch.setenv("PATROLINK_HOME", str(tmp_path))
    with pytest.raises(UserError, match="it has to be the folder's, 'other'"):
        boards.find("other")


@pytest.mark.parametrize(
    ("old", "new", "told"),
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
def test_what_is_wrong_is_named(tmp_path, old, new, told):
    path = tmp_path / "board.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UserError) as e:
        boards.load(path)
    assert told in str(e.value) and str(path) in str(e.value)
