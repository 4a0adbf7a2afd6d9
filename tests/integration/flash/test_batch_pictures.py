"""The recorded session and the picture of the labels in the documentation: `make pictures` writes them."""

import json
import re

import cv2
import pytest

from tests.support.batch_rack import BOARDS
from tests.support.import_graph import ROOT
from tests.support.label_sheets import PER_PAGE, read_page
from tests.support.terminal_recording import Screen

IMAGES = ROOT / "docs" / "images"
LABEL_ROWS, PAGE_ROWS = 6, 8


def label_codes() -> list[str]:
    """Return the codes of the labels in the picture, which shows the upper rows of a page."""
    picture = cv2.imread(str(IMAGES / "labels.png"), cv2.IMREAD_GRAYSCALE)
    missing = picture.shape[0] * (PAGE_ROWS - LABEL_ROWS) // LABEL_ROWS
    return read_page(cv2.copyMakeBorder(picture, 0, missing, 0, 0, cv2.BORDER_CONSTANT, value=255))


def recorded() -> tuple[dict, list[tuple[float, str, str]]]:
    header, *events = (json.loads(line) for line in (IMAGES / "batch.cast").read_text(encoding="utf-8").splitlines())
    return header, events


def test_codes_of_the_label_sheet_are_read_back():
    codes = label_codes()
    assert len(codes) == BOARDS <= PER_PAGE
    for i, code in enumerate(codes, 1):
        assert re.fullmatch(rf"PL1:radio-{i}:SN-{i:04d}:[0-9a-f]{{24}}", code)
    assert len({code.rpartition(":")[2] for code in codes}) == BOARDS


def test_session_shows_what_the_labels_say():
    header, events = recorded()
    assert header["version"] == 2 and [at for at, _, _ in events] == sorted(at for at, _, _ in events)
    text = "".join(text for _, _, text in events)
    for words in ("Killed", "--resume", "flash error 28", "no answer within", "not done yet", "16 devices; intact"):
        assert words in text, words
    for code in label_codes():
        assert code.rpartition(":")[2] in text


@pytest.mark.parametrize("name", ["batch.cast", "batch.svg"])
def test_session_shows_no_key(name):
    assert not re.search(r"[0-9a-f]{64}", (IMAGES / name).read_text(encoding="utf-8"))


def test_screen_follows_a_live_table():
    screen = Screen()
    for part in ("$ x\r\n", "one\r\ntwo", "\r\x1b[2K\x1b[1A\x1b", "[2Kone!\r\n\x1b[32mtwo!\x1b[0m", "\r\nend"):
        screen.feed(part)
    assert screen.lines == ["$ x", "one!", "\x1b[32mtwo!\x1b[0m", "end"]
