"""`patrolink clip` is interrupted by a full disk or by Ctrl-C and leaves no partial result."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from patrolink.cli import main
from patrolink.core.signals import StopSignal

from tests.simulation.forging_device import ForgingDevice, chunk, end, jpeg
from tests.support.json_lines import records
from tests.support.polling import changing_files, wait_until
from tests.support.progress_lines import without_progress


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Return the folder and the evidence key of a clip whose export takes about a second."""
    device = ForgingDevice(tmp_path_factory.mktemp("made") / "clips")
    picture = jpeg(640, 480)
    stream = b"".join(chunk(i * 100, picture) for i in range(10)) + end(10)
    return device.write([stream] * 8, frames=10), device.pem


def command(clip, verb, out, *options):
    folder, pem = clip
    arguments = [str(folder), "--evidence-key", str(pem), "--out", str(out)]
    return [sys.executable, "-m", "patrolink", "clip", verb, *arguments, *options]


def test_a_full_disk_leaves_no_partial_export(clip, tmp_path):
    def limit_file_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = subprocess.run(
        command(clip, "export", tmp_path / "out"),
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=limit_file_size,
    )
    assert result.returncode == 2 and result.stdout == "" and "Traceback" not in result.stderr
    assert without_progress(result.stderr) == (
        f"error: {tmp_path}/out: File too large; give a writable folder with enough space with --out\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_no_partial_export_and_a_retry_succeeds(clip, tmp_path):
    out = tmp_path / "out"
    (out / ".linux-1-clip-000001.part").mkdir(parents=True)  # left by an export that a power failure interrupted
    (out / ".linux-1-clip-000001.part" / "left.mp4").write_bytes(b"half")
    process = subprocess.Popen(command(clip, "export", out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def film_begun() -> bool:
        assert process.poll() is None, process.communicate()
        films = {path.name for path in changing_files(out) if path.suffix == ".mp4"}
        return bool(films) and "left.mp4" not in films

    wait_until(film_begun, seconds=120)
    process.send_signal(signal.SIGINT)
    out_text, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and (out_text, without_progress(errors)) == ("", ""), errors
    assert list(out.iterdir()) == []
    retry = subprocess.run(
        command(clip, "export", out, "--json"), capture_output=True, text=True, timeout=300, check=True
    )
    (export,) = records(retry.stdout, "clip")
    assert export["pictures"] == 80 and sorted(export["files"]) == sorted(map(str, out.iterdir()))


def test_user_without_a_name_has_to_pass_one(clip, tmp_path, monkeypatch, capsys):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)  # a user without an entry, as in a container
    assert main(command(clip, "export", tmp_path / "out")[3:]) == 2
    assert "give the name of who exports with --by NAME" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_an_unreadable_folder_is_skipped_with_a_warning(capsys):
    with tempfile.TemporaryDirectory() as folder:
        device = ForgingDevice(Path(folder) / "clips")
        device.write([chunk(0, jpeg()) + end(1)])
        (device.clips / "lost+found").mkdir(mode=0)
        Path(folder).chmod(0o755)
        assert main(["clip", "list", str(device.clips)]) == 0  # imports all modules before the user changes
        capsys.readouterr()
        user = os.geteuid()
        if user == 0:
            os.seteuid(54_321)  # root can read everything
        try:
            assert main(["clip", "verify", str(device.clips)]) == 0
        finally:
            os.seteuid(user)
    output = capsys.readouterr()
    assert output.out == "linux-1 clip 1: valid (1 segment; files, chain and signature only)\n"
    assert output.err.startswith("warning: ") and "lost+found: Permission denied" in output.err


@pytest.mark.parametrize("verb", ["export", "show"])
def test_an_output_folder_that_is_a_file_is_an_error(clip, tmp_path, verb):
    (tmp_path / "out").write_text("a file")
    result = subprocess.run(
        command(clip, verb, tmp_path / "out", "--json"), capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 2 and "give a writable folder" in result.stderr, result
    assert records(result.stdout)[-1]["record"] == "error"


def test_an_interrupt_while_files_are_moved_leaves_no_files(clip, tmp_path, monkeypatch):
    """The files of an export are moved to the target folder one at a time."""
    replace = Path.replace

    def interrupted_replace(path, target):
        if target.suffix == ".json":
            raise StopSignal(signal.SIGINT)
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted_replace)
        assert main(command(clip, "export", tmp_path / "out")[3:]) == 130
    assert list(tmp_path.iterdir()) == []
