"""`patrolink call`: two devices and a hub in an emulated network."""

import subprocess
import sys
import wave

import pytest

from tests.support.json_lines import records, summary


def patrolink(*arguments, timeout=180):
    return subprocess.run(
        [sys.executable, "-m", "patrolink", *arguments], capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.timeout(400)
def test_repeated_call_into_the_same_folder_adds_recordings(tmp_path):
    """The default network `city` loses packets. The second run has new keys and keeps the files of the first run."""
    for _ in range(2):
        process = patrolink("call", "--json", "--out", str(tmp_path))
        bursts, results = records(process.stdout, "burst"), summary(process.stdout)
        assert [(b["talker"], b["listener"]) for b in bursts] == [("unix-1", "linux-2"), ("linux-2", "unix-1")]
        assert all(b["access_ms"] for b in bursts), process.stdout + process.stderr
        # A busy machine may lose more than half of the speech, which the exit code reports.
        assert process.returncode == int(any(b["heard_pct"] < 50 for b in bursts)), process.stdout + process.stderr
        assert results["hub"]["recordings"] == 2 and results["hub"]["refused"] == {}
    assert len(list((tmp_path / "recordings").rglob("*.wav"))) == 4
    with wave.open(str(tmp_path / "heard.wav")) as f:
        assert f.getframerate() == 8000 and f.getnframes() > 8000


def test_errors_are_reported_with_their_reason(tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"RIFF, but not a WAV file")
    for arguments, reason in (
        (("--board", "mps2_an385"), "no push-to-talk"),
        (("--network", "moon"), "city, village"),
        ((str(tmp_path / "noise.wav"),), "not a readable WAV file"),
        ((str(tmp_path / "none.wav"),), "none.wav"),
    ):
        process = patrolink("call", *arguments)
        assert process.returncode == 2 and reason in process.stderr and "Traceback" not in process.stderr
