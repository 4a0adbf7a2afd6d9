"""A recording device runs as a process on both runtimes: kills, configuration."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from app.config import load_config
from app.errors import ConfigError
from patrolink.core import boards
from patrolink.core.errors import DeviceError
from patrolink.emulator.boards.process_device import boot
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.peripherals.camera import SerialCamera
from patrolink.emulator.peripherals.gps_receiver import GpsReceiver
from patrolink.evidence import evidence_key, segment
from patrolink.evidence.verify import ClipVerdict, verify_clip

from tests.support.device_rig import walk
from tests.support.paths import DEMO_VIDEO
from tests.support.polling import TIMEOUT_S

needs_video = pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no video for the camera; run `make media`")

KEY = "11" * 32
PRE_S, POST_S, SEGMENT_S = 3, 3, 1


class RecordingRig:
    """A device with its camera and receiver. Its clips are in the folder `clips`."""

    def __init__(self, folder: Path, board: str, broker, **settings) -> None:
        self.folder, self.clips, self.board = folder, folder / "clips", boards.find(board)
        self.evidence = evidence_key.create(folder / "evidence.pem")
        self._receiver = GpsReceiver(nmea.speak(walk(3000)), 1.0)
        self._camera = None
        source = str(DEMO_VIDEO)
        if self.board.camera.kind == "vc0706":
            self._camera = SerialCamera(DEMO_VIDEO)
            source = self._camera.path
        defaults = {
            "evidence_key": self.evidence.public.hex(),
            "dir": str(self.clips),
            "pre_s": PRE_S,
            "post_s": POST_S,
        }
        self.config = {
            "device": "rec-1",
            "key": KEY,
            "broker": {"host": "127.0.0.1", "port": broker.port},
            "gps_uart": self._receiver.path,
            "camera": {"source": source, "indicator": str(folder / "led")},
            "clips": {**defaults, "segment_s": SEGMENT_S, **settings},
        }
        self._receiver.start()
        self.device = None
        try:
            self.boot()
        except BaseException:
            self.close()
            raise

    def boot(self) -> None:
        device = self.device = boot(self.board, self.folder / "work", self.config)
        self.until(lambda: "clips: recording" in device.console_text(), "the device does not record")

    def until(self, condition, failure: str, seconds: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.device.check()
            assert time.monotonic() < deadline, f"{failure}:\n{self.device.console_tail()}"
            time.sleep(0.01)

    def segments(self) -> list[Path]:
        return sorted(self.clips.glob("*.pls"))

    def verify(self, number: int) -> ClipVerdict:
        """Copy a clip to the layout of a hub and return its verdict."""
        folder = self.folder / "site" / "rec-1" / f"{number:06d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        manifest = self.clips / f"{number:06d}.plm"
        lines = [json.loads(line) for line in manifest.read_text().splitlines()]
        shutil.copy(manifest, folder)
        for line in lines:
            for stem in (line.get("seg"), line.get("thumb")):
                if stem and "bytes" in line:
                    shutil.copy(self.clips / f"{stem}.pls", folder)
        return verify_clip(folder, {"rec-1": [lines[0]["signer"]]}, self.evidence)

    def close(self) -> None:
        if self.device is not None:
            self.device.kill()
        self._receiver.close()
        if self._camera:
            self._camera.close()


@pytest.fixture(params=["linux", "unix"])
def rig(request, tmp_path, broker):
    rig = RecordingRig(tmp_path, request.param, broker)
    rig.until(lambda: rig.segments() and int(rig.segments()[-1].stem[7:]) > PRE_S + 1, "no segments")
    yield rig
    rig.close()


@needs_video
def test_a_kill_loses_at_most_the_last_segment(rig):
    before = rig.segments()
    rig.device.press("sos")
    rig.until(lambda: len(set(rig.segments()) - set(before)) >= 2, "no picture and no segment after the button")
    os.kill(rig.device._process.pid, signal.SIGKILL)  # like a power cut
    names = {path.name for path in rig.segments()}
    rig.device.kill()
    rig.boot()
    rig.until(
        lambda: any(path.name not in names for path in rig.segments()), "the device does not record after the restart"
    )
    rig.until(lambda: b'"sig"' in (rig.clips / "000001.plm").read_bytes(), "the clip is not sealed")
    verdict = rig.verify(1)
    assert verdict.verdict == "valid with gaps", verdict.findings
    segments = verdict.manifest.segments
    read = [segment.read(verdict.folder / f"{s['seg']}.pls", rig.evidence) for s in segments[:-1]]
    # If the cut is between the end record and the manifest line, the next boot writes the line with `whole` false.
    assert all(part.media and part.complete for part in read) and all(s["whole"] for s in segments[:-2])
    lines = [json.loads(line) for line in (rig.clips / "000001.plm").read_text().splitlines()]
    listed = {line[kind] for line in lines for kind in ("seg", "thumb") if kind in line}
    assert segments[0]["seg"] < before[-1].stem, "the clip begins before the button"
    written = {Path(name).stem for name in names if Path(name).stem >= segments[0]["seg"]}
    assert len(written) >= 4 and len(written - listed) <= 1, (written, listed)
    assert (rig.folder / "led").read_text() == "1"  # on while the camera is in use
    rig.device.power_off()
    assert (rig.folder / "led").read_text() == "0"


@needs_video
def test_an_evidence_key_that_is_not_a_point_stops_the_device(tmp_path, broker):
    with pytest.raises(DeviceError, match="clips: "):
        RecordingRig(tmp_path, "linux", broker, evidence_key="02" + "ff" * 32)


@pytest.mark.parametrize(
    "settings, word",
    [
        ({"evidence_key": ""}, "evidence_key"),
        ({"evidence_key": "02" * 32}, "evidence_key"),
        ({"evidence_key": "zz" * 33}, "evidence_key"),
        ({"pre_s": 121}, "pre_s"),
        ({"segment_s": 0}, "segment_s"),
        ({"lock_kb": 1 << 20, "quota_kb": 1024}, "lock_kb"),
        ({"sound": "loud"}, "sound"),
        ({"sand": 1}, "sand"),
        ({"upload": {"host": "h", "port": 0}}, "upload"),
        ({"upload": {"host": "h", "port": 80, "path": "clips"}}, "upload"),
        ({"upload": {"host": "h", "port": "80"}}, "port"),
    ],
)
def test_an_invalid_clips_configuration_is_refused_with_its_key(tmp_path, settings, word):
    clips = {"evidence_key": "02" + "11" * 32, **settings}
    check_refused(tmp_path, word, camera={"source": "x", "indicator": "y"}, clips=clips)


def test_clips_without_a_camera_and_invalid_geofences_are_refused(tmp_path):
    check_refused(tmp_path, "camera", clips={"evidence_key": "02" + "11" * 32})
    check_refused(tmp_path, "geofences", geofences=[{}])


def check_refused(folder: Path, word: str, **options) -> None:
    config = {
        "device": "d",
        "key": KEY,
        "broker": {"host": "h", "port": 1},
        "gps_uart": "x",
        "state_dir": "s",
        **options,
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=word):
        load_config(str(folder / "config.json"))
