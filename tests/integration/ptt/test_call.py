"""`patrolink call`: two devices, one on each runtime, and a hub in an emulated network, with sockets and PTYs.

tests/simulation/test_voice_call.py compares what is heard with what was said.
"""

import subprocess
import sys
import wave

import pytest

from tests.support.agent_site import AgentSite, Kit
from tests.support.command import run_command
from tests.support.json_lines import records, summary
from tests.support.speech import make_speech

NAMES = ("unix-1", "linux-2")


@pytest.mark.timeout(400)
def test_call_into_the_folder_of_an_earlier_one_adds_recordings(tmp_path):
    """The default network `city` loses packets. The earlier call had other keys, and its files stay."""
    site = AgentSite(tmp_path, dict.fromkeys(NAMES, Kit()))
    site.pair[0].board.headset.speak(make_speech(1, 1))
    site.pair[0].press("ptt")
    site.run_ms(1500)
    site.pair[0].press("ptt-up")
    site.run_ms(1000)
    site.hub.stop()
    site.close()
    (earlier,) = (tmp_path / "recordings").rglob("*.wav")
    before = earlier.read_bytes()
    process = subprocess.run(
        [sys.executable, "-m", "patrolink", "call", "--json", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    bursts, results = records(process.stdout, "burst"), summary(process.stdout)
    assert [(b["talker"], b["listener"]) for b in bursts] == [NAMES, NAMES[::-1]]
    assert all(b["access_ms"] for b in bursts), process.stdout + process.stderr
    # A busy machine may lose more than half of the speech, which the exit code reports.
    assert process.returncode == int(any(b["heard_pct"] < 50 for b in bursts)), process.stdout + process.stderr
    assert results["hub"]["recordings"] == 2 and results["hub"]["refused"] == {}
    assert len(list((tmp_path / "recordings").rglob("*.wav"))) == 3 and earlier.read_bytes() == before
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
        process = run_command("call", *arguments)
        assert process.returncode == 2 and reason in process.stderr, process.stderr
