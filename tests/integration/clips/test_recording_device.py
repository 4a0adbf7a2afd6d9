"""A device that records, as a process on both runtimes: what it keeps through a kill, and what its buttons do."""

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

filmed = pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no film for the camera; make media")

KEY = "11" * 32
PRE_S, POST_S, SEGMENT_S = 3, 3, 1


class Recording:
    """A device of a board, its camera and receiver; its card is the folder `card`."""

    def __init__(self, folder: Path, board: str, broker, **clips) -> None:
        self.folder, self.card, self.board = folder, folder / "card", boards.find(board)
        self.evidence = evidence_key.create(folder / "evidence.pem")
        self._receiver = GpsReceiver(nmea.speak(walk(3000)), 1.0)
        self._camera = None
        source = str(DEMO_VIDEO)
        if self.board.camera.kind == "vc0706":
            self._camera = SerialCamera(DEMO_VIDEO)
            source = self._camera.path
        given = {"evidence_key": self.evidence.public.hex(), "dir": str(self.card), "pre_s": PRE_S, "post_s": POST_S}
        self.config = {
            "device": "rec-1",
            "key": KEY,
            "broker": {"host": "127.0.0.1", "port": broker.port},
            "gps_uart": self._receiver.path,
            "camera": {"source": source, "indicator": str(folder / "led")},
            "clips": {**given, "segment_s": SEGMENT_S, **clips},
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
        self.until(lambda: "clips: recording" in device.console_text(), "it does not record")

    def until(self, condition, what: str, seconds: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.device.check()
            assert time.monotonic() < deadline, f"{what}:\n{self.device.console_tail()}"
            time.sleep(0.01)

    def segments(self) -> list[Path]:
        return sorted(self.card.glob("*.pls"))

    def clip(self, number: int) -> ClipVerdict:
        """Return the verdict on a clip, laid out as a hub has it."""
        folder = self.folder / "site" / "rec-1" / f"{number:06d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        manifest = self.card / f"{number:06d}.plm"
        lines = [json.loads(line) for line in manifest.read_text().splitlines()]
        shutil.copy(manifest, folder)
        for line in lines:
            for stem in (line.get("seg"), line.get("thumb")):
                if stem and "bytes" in line:
                    shutil.copy(self.card / f"{stem}.pls", folder)
        return verify_clip(folder, {"rec-1": [lines[0]["signer"]]}, self.evidence)

    def close(self) -> None:
        if self.device is not None:
            self.device.kill()
        self._receiver.close()
        if self._camera:
            self._camera.close()


@pytest.fixture(params=["linux", "unix"])
def recording(request, tmp_path, broker):
    it = Recording(tmp_path, request.param, broker)
    it.until(lambda: it.segments() and int(it.segments()[-1].stem[7:]) > PRE_S + 1, "no segments")
    yield it
    it.close()


@filmed
def test_a_kill_costs_nothing_before_the_last_segment(recording):
    it = recording
    it.device.press("sos")
    there = len(it.segments())
    it.until(lambda: len(it.segments()) > there, "no segments after the button")
    os.kill(it.device._process.pid, signal.SIGKILL)  # the power goes
    before = {path.name for path in it.segments()}
    it.device.kill()
    it.boot()
    it.until(lambda: any(path.name not in before for path in it.segments()), "it does not record again")
    it.until(lambda: b'"sig"' in (it.card / "000001.plm").read_bytes(), "the clip is not sealed")
    verdict = it.clip(1)
    assert verdict.verdict == "valid with gaps", verdict.findings
    segments = verdict.manifest.segments
    read = [segment.read(verdict.folder / f"{s['seg']}.pls", it.evidence) for s in segments[:-1]]
    # The power may go between a segment's end and its line: then the line is made at the next boot, and claims less.
    assert all(one.media and one.complete for one in read) and all(s["whole"] for s in segments[:-2])
    assert sum(s["ms"] for s in segments[:-1]) >= PRE_S * 1000
    it.device.power_off()


@filmed
def test_a_recording_by_button_ends_by_button(recording):
    it = recording
    it.device.press("record")
    it.until((it.card / "000001.plm").exists, "no clip begins")
    time.sleep(5)
    it.device.press("record")
    it.until(lambda: b'"sig"' in (it.card / "000001.plm").read_bytes(), "the clip does not end")
    assert (it.folder / "led").read_text() == "1"  # as long as it films
    told = it.device.power_off()
    assert (it.folder / "led").read_text() == "0"
    verdict = it.clip(1)
    # A machine that is busy may cost pictures, and then both say so.
    assert verdict.verdict == ("valid with gaps" if told["clips"]["lost"] else "valid"), (verdict.findings, told)
    manifest = verdict.manifest
    assert manifest.head["trigger"] == "button"
    mark = manifest.marks[0]
    before_ms = sum(s["ms"] for s in manifest.segments if s["seg"] < mark["seg"]) + mark["at_ms"]
    assert PRE_S * 1000 <= before_ms <= (PRE_S + SEGMENT_S) * 1000 + 300
    assert sum(s["ms"] for s in manifest.segments) >= (PRE_S + 5 + POST_S) * 1000 - 300


@filmed
def test_a_key_that_is_no_point_stops_the_device(tmp_path, broker):
    with pytest.raises(DeviceError, match="clips: "):
        Recording(tmp_path, "linux", broker, evidence_key="02" + "ff" * 32)


@pytest.mark.parametrize(
    "wrong, word",
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
def test_a_configuration_that_cannot_be_used_is_told(tmp_path, wrong, word):
    clips = {"evidence_key": "02" + "11" * 32, **wrong}
    refused(tmp_path, word, camera={"source": "x", "indicator": "y"}, clips=clips)


def test_clips_without_a_camera_and_wrong_fences_are_told(tmp_path):
    refused(tmp_path, "camera", clips={"evidence_key": "02" + "11" * 32})
    refused(tmp_path, "geofences", geofences=[{}])


def refused(folder: Path, word: str, **more) -> None:
    config = {"device": "d", "key": KEY, "broker": {"host": "h", "port": 1}, "gps_uart": "x", "state_dir": "s", **more}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=word):
        load_config(str(folder / "config.json"))
