"""A recorder over the real files of a board that is a process: a thread writes them, whatever the storage does."""

import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
for room in ("tests/unit", "device", "protocol", "protocol/generated"):
    if str(ROOT / room) not in sys.path:
        sys.path.insert(0, str(ROOT / room))

from clip_harness import ClipHarness  # noqa: E402
from hal.clip_storage import ClipStorage  # noqa: E402
from hal.common import Store  # noqa: E402
from hal.posix import background  # noqa: E402


class Disk(ClipStorage):
    """`data` is what MemoryFiles has."""

    @property
    def data(self):
        folder = Path(self._dir)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def harness(tmp_path):
    harness = ClipHarness(size=4000, fps=10)
    harness.state = Store(str(tmp_path / "state"))
    harness.files = Disk(str(tmp_path / "clips"), background.WriteQueue())
    return harness.boot()


def settled(harness, seconds):
    """Let time pass, each second of it with all on storage that was given to it."""
    for _ in range(seconds):
        harness.run(1)
        harness.files.flush(5000)
    return harness


def test_a_clip_on_real_files_is_whole_and_a_restart_goes_on(harness):
    settled(harness, 20)
    number = harness.recorder.trigger(1, 7, "", harness.now)
    settled(harness, 20)
    numbers = harness.pictures(number)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) >= 200
    assert harness.ring_recorder.loss.total == harness.ring_recorder.errors == 0
    again = settled(harness.boot(), 5).recorder.trigger(0, 8, "", harness.now)
    settled(harness, 20)
    assert harness.manifest(again)[0]["previous"] == harness.manifest(number)[-1]["chain"]


def test_a_sync_that_hangs_stops_nothing(harness, monkeypatch):
    settled(harness, 20)
    number = harness.recorder.trigger(0, 7, "", harness.now)
    released, hung = threading.Event(), threading.Event()
    fsync = os.fsync

    def hang(fd):
        hung.set()
        assert released.wait(30)
        fsync(fd)

    monkeypatch.setattr(background.os, "fsync", hang)
    harness.run(12)  # none of this waits: the thread stands until it is released
    assert hung.wait(10) and not [n for n, data in harness.files.data.items() if n == "000001.plm" and b'"sig"' in data]
    released.set()
    settled(harness, 10)
    assert harness.ring_recorder.loss.total == 0 and "sig" in harness.manifest(number)[-1]
    assert all(s["whole"] for s in harness.segments(number))


def test_a_folder_that_goes_away_and_comes_back(harness):
    settled(harness, 20)
    folder = Path(harness.files._dir)
    number = harness.recorder.trigger(0, 7, "", harness.now, 20000)
    settled(harness, 3)
    away = folder.with_name("away")
    shutil.move(folder, away)
    settled(harness, 6)  # what is open stays so: the next file finds nothing
    assert harness.ring_recorder.errors
    shutil.move(away, folder)
    settled(harness, 30)
    assert harness.ring_recorder.errors == 0 and "sig" in harness.manifest(number)[-1]
    assert harness.segments(number)[-1]["start_ms"] > harness.segments(number)[0]["start_ms"] + 20000
    assert harness.ring_recorder.loss.total > 0


def test_what_cannot_be_opened_is_told_by_the_writer(tmp_path):
    files = ClipStorage(str(tmp_path / "clips"), background.WriteQueue())
    shutil.rmtree(tmp_path / "clips")
    writer = files.open("x")
    writer.write(b"data")
    writer.close()
    files.flush(5000)
    assert "No such file" in writer.fault and writer.behind == 0
    assert files.free_kb() is None
    assert (ClipStorage(str(tmp_path / "clips")).free_kb() or 0) > 0
