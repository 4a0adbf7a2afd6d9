"""`patrolink clip` that the disk or the officer ends in the midst: nothing half made stays."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from patrolink.cli import main

from tests.simulation.lying_device import Liar, chunk, end, jpeg


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip that takes a while: (its folder, the evidence key)."""
    liar = Liar(tmp_path_factory.mktemp("made") / "clips")
    picture = jpeg(640, 480)
    stream = b"".join(chunk(i * 100, picture) for i in range(10)) + end(10)
    return liar.write([stream] * 20, frames=10), liar.pem


def command(clip, what, out, *more):
    folder, pem = clip
    place = [str(folder), "--evidence-key", str(pem), "--out", str(out)]
    return [sys.executable, "-m", "patrolink", "clip", what, *place, *more]


def test_a_full_disk_leaves_nothing_of_an_export(clip, tmp_path):
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    full = subprocess.run(
        command(clip, "export", tmp_path / "out"), capture_output=True, text=True, timeout=300, preexec_fn=small
    )
    assert full.returncode == 2 and full.stdout == "" and "Traceback" not in full.stderr
    assert (
        full.stderr == f"error: {tmp_path}/out: File too large; give a writable folder with enough space with --out\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing_of_an_export_and_it_can_be_done_again(clip, tmp_path):
    out = tmp_path / "out"
    (out / ".linux-1-clip-000001.part").mkdir(parents=True)  # the power went in an export before
    (out / ".linux-1-clip-000001.part" / "left.mp4").write_bytes(b"half")
    process = subprocess.Popen(command(clip, "export", out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(out.glob(".*/*.mp4")) or list(out.glob(".*/left.mp4")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)
    assert process.returncode == 130 and told == ("", ""), told
    assert list(out.iterdir()) == []
    again = subprocess.run(
        command(clip, "export", out, "--json"), capture_output=True, text=True, timeout=300, check=True
    )
    (made,) = json.loads(again.stdout)
    assert made["frames"] == 200 and sorted(made["files"]) == sorted(map(str, out.iterdir()))


def test_a_user_without_a_name_is_asked_for_it(clip, tmp_path, monkeypatch, capsys):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)  # as in a container
    assert main(command(clip, "export", tmp_path / "out")[3:]) == 2
    assert "give the name of who exports with --by NAME" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_a_folder_that_others_keep_to_themselves_is_told_and_left_out(capsys):
    with tempfile.TemporaryDirectory() as place:
        liar = Liar(Path(place) / "clips")
        liar.write([chunk(0, jpeg()) + end(1)])
        (liar.clips / "lost+found").mkdir(mode=0)
        Path(place).chmod(0o755)
        assert main(["clip", "list", str(liar.clips)]) == 0  # all that is needed is loaded
        capsys.readouterr()
        us = os.geteuid()
        if us == 0:
            os.seteuid(54_321)  # root may read all
        try:
            assert main(["clip", "verify", str(liar.clips)]) == 0
        finally:
            os.seteuid(us)
    told = capsys.readouterr()
    assert told.out == "linux-1 clip 1: valid (1 segment; files, chain and signature only)\n"
    assert told.err.startswith("warning: ") and "lost+found: Permission denied" in told.err


@pytest.mark.parametrize("what", ["export", "show"])
def test_a_folder_that_cannot_be_one_is_told(clip, tmp_path, what):
    (tmp_path / "out").write_text("a file")
    done = subprocess.run(command(clip, what, tmp_path / "out", "--json"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stdout == "" and "give a writable folder" in done.stderr, done


def test_what_ends_an_export_at_its_very_end_leaves_nothing(clip, tmp_path, monkeypatch):
    """Files are moved to their place one by one."""
    moved = Path.replace

    def stop(path, target):
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return moved(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        assert main(command(clip, "export", tmp_path / "out")[3:]) == 130
    assert list(tmp_path.iterdir()) == []
