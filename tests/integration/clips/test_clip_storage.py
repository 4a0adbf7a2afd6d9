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

from clip_harness import World  # noqa: E402
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
def world(tmp_path):
    world = World(size=4000, fps=10)
    world.store = Store(str(tmp_path / "state"))
    world.files = Disk(str(tmp_path / "clips"), background.WriteQueue())
    return world.boot()


def settled(world, seconds):
    """Let time pass, each second of it with all on storage that was given to it."""
    for _ in range(seconds):
        world.run(1)
        world.files.flush(5000)
    return world


def test_a_clip_on_real_files_is_whole_and_a_restart_goes_on(world):
    settled(world, 20)
    number = world.recorder.trigger(1, 7, "", world.now)
    settled(world, 20)
    numbers = world.pictures(number)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) >= 200
    assert world.recorder.lost == world.recorder.errors == 0
    again = settled(world.boot(), 5).recorder.trigger(0, 8, "", world.now)
    settled(world, 20)
    assert world.manifest(again)[0]["previous"] == world.manifest(number)[-1]["chain"]


def test_a_sync_that_hangs_stops_nothing(world, monkeypatch):
    settled(world, 20)
    number = world.recorder.trigger(0, 7, "", world.now)
    released, hung = threading.Event(), threading.Event()
    fsync = os.fsync

    def hang(fd):
        hung.set()
        assert released.wait(30)
        fsync(fd)

    monkeypatch.setattr(background.os, "fsync", hang)
    world.run(12)  # none of this waits: the thread stands until it is released
    assert hung.wait(10) and not [n for n, data in world.files.data.items() if n == "000001.plm" and b'"sig"' in data]
    released.set()
    settled(world, 10)
    assert world.recorder.lost == 0 and "sig" in world.manifest(number)[-1]
    assert all(s["whole"] for s in world.segments(number))


def test_a_folder_that_goes_away_and_comes_back(world):
    settled(world, 20)
    folder = Path(world.files._dir)
    number = world.recorder.trigger(0, 7, "", world.now, 20000)
    settled(world, 3)
    away = folder.with_name("away")
    shutil.move(folder, away)
    settled(world, 6)  # what is open stays so: the next file finds nothing
    assert world.recorder.errors
    shutil.move(away, folder)
    settled(world, 30)
    assert world.recorder.errors == 0 and "sig" in world.manifest(number)[-1]
    assert world.segments(number)[-1]["start_ms"] > world.segments(number)[0]["start_ms"] + 20000
    assert world.recorder.lost > 0


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
