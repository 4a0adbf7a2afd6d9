"""An SOS on an emulated board with a camera: recorded from before the button, uploaded and verified by the hub.

Broker, hub, agent, encoders, cipher and sockets are real; the receiver's track, the camera's film and the microphone's
sound are played.
"""

import contextlib
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av

from patrolink.core import boards, resources, tracks
from patrolink.core.errors import DeviceError, UserError
from patrolink.emulator.boards.device import Device
from patrolink.emulator.boards.process_device import boot
from patrolink.emulator.network.carrier import Profile
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.peripherals.camera import SerialCamera
from patrolink.emulator.peripherals.gps_receiver import GpsReceiver
from patrolink.emulator.peripherals.headset import Headset
from patrolink.emulator.peripherals.modem_port import ModemPort
from patrolink.emulator.scenarios.call import syllables
from patrolink.emulator.scenarios.control_room import HOST, ControlRoom, free_ports
from patrolink.evidence import evidence_key
from patrolink.evidence.clip_folders import SIGNERS_FILE, read_signers
from patrolink.evidence.verify import verify_clip

SEGMENT_S = 2
_UP_S = 30.0
_ARRIVE_S = 240.0
_CARD_KB = 1024  # of a board that stores clips in its flash
_HUB = """uploads = "{host}:{uploads}"
live_port = {live}
"""


Address = tuple[str, int]


def _direct(port: int) -> Address:
    return HOST, port


@dataclass(frozen=True)
class Plan:
    """Settings of an incident; see `patrolink incident --help`.

    Args:
        profile: Network conditions behind a modem.
        modem: Dialect of the modem; "" for Quectel on boards without a network of their own and no modem on others.
    """

    board: str
    film: Path
    pre_s: int
    post_s: int
    profile: Profile
    seed: int
    out: Path
    modem: str = ""


def _check_film(path: Path) -> None:
    """Raise UserError if a file is no video that can be read."""
    try:
        with av.open(str(path)) as film:
            readable = bool(film.streams.video)
    except FileNotFoundError:
        raise UserError(f"{path}: film for the camera not found; name an existing video with --film") from None
    except (av.FFmpegError, OSError) as e:
        raise UserError(f"{path}: not a readable video ({e.strerror}); name another one with --film") from None
    if not readable:
        raise UserError(f"{path}: the file has no picture; name a video with --film")


class Incident:
    """A control room and a recording device, running until the stack ends.

    Args:
        plan: Settings.
        stack: Owner of the processes.
        air: Maps a port of this machine to the (host, port) that the device has to use.
    """

    def __init__(self, plan: Plan, stack: contextlib.ExitStack, air: Callable[[int], Address] = _direct) -> None:
        self.plan, self.out, self._stack = plan, plan.out, stack
        self.modem: ModemPort | None = None
        self.board = boards.find(plan.board)
        self.board.check_emulated()
        if self.board.camera is None:
            raise UserError(f"board {plan.board} has no camera; `patrolink boards` lists the features of all boards")
        _check_film(plan.film)
        self.name = f"{plan.board}-1"
        for folder in (self.clips, self.out / self.name):
            shutil.rmtree(folder, ignore_errors=True)
        self.out.mkdir(parents=True, exist_ok=True)
        self.key = self.out / "evidence.pem"
        self.key.unlink(missing_ok=True)
        public = evidence_key.create(self.key).public.hex()
        (uploads,) = free_ports(1, socket.SOCK_STREAM)
        (live,) = free_ports(1, socket.SOCK_DGRAM)
        hub = _HUB.format(host=HOST, uploads=uploads, live=live)
        self.station = ControlRoom(self.out, [self.name], stack, top='evidence_key = "evidence.pem"\n', hub=hub)
        self._receiver = GpsReceiver(nmea.speak(walk()), 1.0, self.board.gps.baud)
        stack.callback(self._receiver.close)
        self.device = self._boot(public, air(self.station.broker.port), air(uploads))

    @property
    def clips(self) -> Path:
        """Folder in which the hub stores clips."""
        return self.out / "clips"

    @property
    def folder(self) -> Path:
        """Folder of the clip at the hub."""
        return self.clips / self.name / "000001"

    def _boot(self, public: str, broker: Address, uploads: Address) -> Device:
        plan, work = self.plan, self.out / self.name
        work.mkdir(parents=True)
        indicator = str(self.out / f"{self.name}.led")
        source = str(plan.film)
        assert self.board.camera is not None
        if self.board.camera.kind == "vc0706":
            camera = SerialCamera(plan.film)
            self._stack.callback(camera.close)
            source = camera.path
        clips: dict[str, Any] = {"evidence_key": public, "pre_s": plan.pre_s, "post_s": plan.post_s}
        clips |= {"segment_s": SEGMENT_S, "upload": {"host": uploads[0], "port": uploads[1], "kbps": 2000}}
        config: dict[str, Any] = {
            "device": self.name,
            "key": self.station.keys[self.name].hex(),
            "broker": {"host": broker[0], "port": broker[1]},
            "gps_uart": self._receiver.path,
            "batch_fixes": 10,
            "camera": {"source": source, "indicator": indicator},
            "clips": clips,
        }
        if "ptt" in self.board.features:
            headset = Headset()
            self._stack.callback(headset.close)
            headset.speak(syllables(), 1.0)
            config["audio"] = {"mic": headset.mic, "speaker": headset.speaker, "indicator": f"{indicator}.mic"}
        dialect = plan.modem or ("quectel" if self.board.image else "")
        if dialect:
            self.modem = ModemPort(work, dialect, plan.profile, plan.seed)
            self._stack.callback(self.modem.close)
            config["modem"] = {"uart": self.modem.path, "apn": "cmnet", "reset_pin": str(self.modem.reset_pin)}
        if self.board.image:
            clips |= {"dir": "/clips", "quota_kb": _CARD_KB, "lock_kb": _CARD_KB * 3 // 4}
        device = boot(self.board, work, config)
        self._stack.callback(device.kill)
        self._receiver.start()
        return device

    def await_recording(self) -> None:
        """Wait until the device records."""
        recording = "clips: recording"
        self.station.until(
            lambda: recording in self.device.console_text(), [self.device], _UP_S, "the device did not record"
        )

    def run(self) -> dict[str, Any]:
        """Walk, press the button, and wait until the hub has verified the clip.

        Returns:
            The result as JSON-ready data.
        """
        until = self.station.until
        self.await_recording()
        time.sleep(self.plan.pre_s + 2 * SEGMENT_S)
        self.device.press("sos")
        pressed = time.monotonic()
        verified = _ARRIVE_S + self.plan.post_s
        until(self.verified, [self.device], verified, "the hub did not verify the clip")
        took = time.monotonic() - pressed
        result = verify_clip(self.folder, read_signers(self.clips / SIGNERS_FILE), evidence_key.load(self.key))
        manifest = result.manifest
        segments = manifest.segments
        if not segments:
            raise DeviceError(f"the clip has no segments; the hub stores it in {self.folder}")
        summary = self.device.power_off()
        self.station.end()
        return {
            "board": self.plan.board,
            "device": self.name,
            "verdict": result.verdict,
            "findings": [finding.fields() for finding in result.findings],
            "before_s": round((manifest.head["time_ms"] - segments[0]["start_ms"]) / 1000, 2),
            "duration_s": round(sum(segment["ms"] for segment in segments) / 1000, 2),
            "pictures": sum(segment["frames"] for segment in segments),
            "pictures_lost": sum(segment["lost"] for segment in segments),
            "bytes": sum(segment["bytes"] for segment in segments),
            "segments": len(segments),
            "verified_s": round(took, 1),
            "recorder": summary["clips"],
            "runtime": summary["runtime"],
        }

    def verified(self) -> bool:
        """Return whether the hub has a verdict on the clip."""
        rows = self.station.ask("/clips")
        return any(row["device"] == self.name and row["clip"] == 1 and row["verdict"] for row in rows)


def walk() -> list[tracks.TrackPoint]:
    """Return a walk that starts now: the hub refuses requests whose time differs much from its own."""
    points = tracks.read(resources.demo_track())
    later_ms = int(time.time()) * 1000 - points[0].time_ms
    return [replace(point, time_ms=point.time_ms + later_ms) for point in points]
