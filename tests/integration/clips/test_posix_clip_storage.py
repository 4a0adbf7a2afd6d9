"""A recorder on real files of a process board. A thread writes the files."""

import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
for subfolder in ("tests/unit", "device", "protocol", "protocol/generated"):
    if str(ROOT / subfolder) not in sys.path:
        sys.path.insert(0, str(ROOT / subfolder))

from clip_harness import ClipHarness  # noqa: E402
from hal.clip_storage import ClipStorage  # noqa: E402
from hal.common import Store  # noqa: E402
from hal.posix import background  # noqa: E402


class DiskFiles(ClipStorage):
    """Clip storage that has the `data` attribute of MemoryFiles."""

    @property
    def data(self):
        folder = Path(self._dir)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def harness(tmp_path):
    harness = ClipHarness(size=4000, fps=10)
    harness.state = Store(str(tmp_path / "state"))
    harness.files = DiskFiles(str(tmp_path / "clips"), background.WriteQueue())
    return harness.boot()


def run_flushed(harness, seconds):
    """Run the harness; wait after each second until storage has written everything."""
    for _ in range(seconds):
        harness.run(1)
        harness.files.flush(5000)
    return harness


def test_a_clip_on_real_files_is_complete_and_a_restart_continues_the_chain(harness):
    run_flushed(harness, 20)
    number = harness.recorder.trigger(1, 7, "", harness.now)
    run_flushed(harness, 20)
    numbers = harness.pictures(number)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) >= 200
    assert harness.ring_recorder.loss.total == harness.ring_recorder.errors == 0
    next_number = run_flushed(harness.boot(), 5).recorder.trigger(0, 8, "", harness.now)
    run_flushed(harness, 20)
    assert harness.manifest(next_number)[0]["previous"] == harness.manifest(number)[-1]["chain"]


def test_a_blocked_sync_delays_no_recording(harness, monkeypatch):
    run_flushed(harness, 20)
    number = harness.recorder.trigger(0, 7, "", harness.now)
    released, blocked = threading.Event(), threading.Event()
    fsync = os.fsync

    def blocked_fsync(fd):
        blocked.set()
        assert released.wait(60)
        fsync(fd)

    monkeypatch.setattr(background.os, "fsync", blocked_fsync)
    harness.run(12)  # must not wait for the blocked thread
    assert blocked.wait(60) and not [
        n for n, data in harness.files.data.items() if n == "000001.plm" and b'"sig"' in data
    ]
    released.set()
    run_flushed(harness, 10)
    assert harness.ring_recorder.loss.total == 0 and "sig" in harness.manifest(number)[-1]
    assert all(s["whole"] for s in harness.segments(number))


def test_recording_continues_after_its_folder_was_absent(harness):
    run_flushed(harness, 20)
    folder = Path(harness.files._dir)
    number = harness.recorder.trigger(0, 7, "", harness.now, 20000)
    run_flushed(harness, 3)
    moved = folder.with_name("away")
    shutil.move(folder, moved)
    run_flushed(harness, 6)  # open files stay open; the next file cannot be created
    assert harness.ring_recorder.errors
    shutil.move(moved, folder)
    run_flushed(harness, 30)
    assert harness.ring_recorder.errors == 0 and "sig" in harness.manifest(number)[-1]
    assert harness.segments(number)[-1]["start_ms"] > harness.segments(number)[0]["start_ms"] + 20000
    assert harness.ring_recorder.loss.total > 0


def test_a_file_that_cannot_be_opened_is_reported_by_its_writer(tmp_path):
    files = ClipStorage(str(tmp_path / "clips"), background.WriteQueue())
    shutil.rmtree(tmp_path / "clips")
    writer = files.open("x")
    writer.write(b"data")
    writer.close()
    files.flush(5000)
    assert "No such file" in writer.fault and writer.behind == 0
    assert files.free_kb() is None
    assert (ClipStorage(str(tmp_path / "clips")).free_kb() or 0) > 0
