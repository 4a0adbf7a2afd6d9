"""One patrol on an emulated board, from the receiver's first byte to the last decoded row."""

import contextlib
import fcntl
import itertools
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patrolink.core import boards, keys, resources, tracks
from patrolink.core.capture import CaptureWriter, Record
from patrolink.core.decoder import Decoder, Row
from patrolink.core.errors import DeadlineError, DeviceError, UserError
from patrolink.core.text import plural
from patrolink.emulator.boards.device import Device
from patrolink.emulator.boards.process_device import boot
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.peripherals.gps_receiver import GpsReceiver
from patrolink.emulator.peripherals.modem_port import ModemPort

_ARRIVE_S = 20.0
_REST_S = 30.0


@dataclass(frozen=True)
class Plan:
    """Settings of a run; see `patrolink emulate --help`."""

    board: str
    track: Path | None
    log: Path | None
    speed: float
    fixes: int | None
    batch: int
    broker: str
    device: str
    count: int
    out: Path
    live: bool
    quiet: bool
    network: str
    modem: str
    seed: int

    @property
    def source(self) -> Path:
        """File that the receiver plays."""
        return self.log or self.track or resources.demo_track()

    def epochs(self) -> Iterable[tuple[float, bytes]]:
        """Return the epochs that the receiver sends. Raises UserError if the file cannot be read."""
        return nmea.replay(self.source) if self.log else nmea.speak(tracks.read(self.source))

    def check(self) -> None:
        """Raise UserError if the track or the folder cannot be used; before anything is started."""
        self.epochs()
        _make_folder(self.out)


class Patrol:
    """A board with receiver and modem, started by the constructor.

    Call `take` and `step` until there is a `summary`. The capture and its keys stay in `out`.
    """

    def __init__(self, plan: Plan, device: str, seed: int, out: Path, broker: tuple[str, int]) -> None:
        self.plan, self.name, self.out = plan, device, out
        self.board = boards.find(plan.board)
        self.rows: list[Row] = []
        self.summary: dict[str, Any] = {}
        self._device_summary: dict[str, Any] = {}
        self._doubled = 0
        self._frame_of: dict[str, int] = {}
        self._start_s = time.monotonic()
        self._leaving = False
        self._deadline = 0.0
        self._stack = contextlib.ExitStack()
        self.modem: ModemPort | None = None
        try:
            self._power_on(seed, broker)
        except BaseException:
            self.close()
            raise

    def _power_on(self, seed: int, broker: tuple[str, int]) -> None:
        plan, enter = self.plan, self._stack.callback
        capture, work = self.out / "patrol.plcap", self.out / "device"
        epochs = plan.epochs()
        _make_folder(self.out)
        try:
            self._claim()
            key = keys.create(keys.sidecar(capture), self.name)
            _remove_old_state(work)
            self._writer = CaptureWriter(capture)
        except OSError as e:
            raise _unusable(self.out, e) from None
        enter(self._writer.close)
        self.decoder = Decoder(keys.load(keys.sidecar(capture)))
        self.receiver = GpsReceiver(itertools.islice(epochs, plan.fixes), plan.speed, self.board.gps.baud)
        enter(self.receiver.close)
        config: dict[str, Any] = {
            "device": self.name,
            "key": key.hex(),
            "broker": {"host": broker[0], "port": broker[1]},
            "gps_uart": self.receiver.path,
            "batch_fixes": plan.batch,
        }
        if plan.modem != "none":
            self.modem = ModemPort(work, plan.modem, PROFILES[plan.network], seed)
            enter(self.modem.close)
            config["modem"] = {"uart": self.modem.path, "apn": "cmnet", "reset_pin": str(self.modem.reset_pin)}
        self.device: Device = boot(self.board, work, config)
        enter(self.device.kill)
        self.receiver.start()

    def _claim(self) -> None:
        """Lock the folder: two runs in it would mix their state."""
        folder = os.open(self.out, os.O_RDONLY)
        self._stack.callback(os.close, folder)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{self.out}: another run uses this folder; name another one with --out") from None

    def take(self, record: Record) -> list[Row]:
        """Take a frame of this device and return its rows; each fix counts once."""
        self._writer.write(record)
        rows = self.decoder.rows(record)
        self.rows += rows
        for row in rows:
            # A receiver may repeat a time within one frame; two frames must not share one.
            if row["record"] == "position" and self._frame_of.setdefault(row["time"], row["counter"]) != row["counter"]:
                self._doubled += 1
        return rows

    def step(self) -> None:
        """Power the device off after the last epoch, and complete the summary when the last frame has arrived."""
        if not self._leaving:
            self._check_receiver()
        elif not self._device_summary:
            self._await_power_off()
        # A frame resent after a reset arrives twice; it must not stand in for one that is still in flight.
        elif self.decoder.stats.frames - self.decoder.stats.duplicates >= self._device_summary["published"]:
            self.summary = self._summarise()
        elif time.monotonic() > self._deadline:
            raise DeadlineError(
                f"{plural(self._device_summary['published'], 'frame')} published "
                f"but {self.decoder.stats.frames} arrived; check the broker"
            )

    def _check_receiver(self) -> None:
        self.device.check()
        if self.receiver.stalled:
            raise DeviceError(
                "the device did not read its receiver for 10 s; the console ends with:\n" + self.device.console_tail()
            )
        if self.receiver.done and self.receiver.drained():
            self.device.press("off")
            self._leaving = True
            self._deadline = time.monotonic() + _REST_S

    def _await_power_off(self) -> None:
        if self.device.off():
            self._device_summary = self.device.summary()
            self._deadline = time.monotonic() + _ARRIVE_S
        elif time.monotonic() > self._deadline:
            raise DeadlineError(
                f"the device did not power off within {_REST_S:g} s; the console ends with:\n"
                + self.device.console_tail()
            )

    def progress(self) -> str:
        """Return the progress in one line."""
        stats = self.decoder.stats
        sent = plural(self.receiver.epochs_sent, "epoch")
        return f"{sent} sent, {plural(stats.fixes, 'fix')} decoded, {plural(stats.bytes, 'byte')}"

    def _summarise(self) -> dict[str, Any]:
        device, stats, modem = self._device_summary, self.decoder.stats, self.modem
        # Every point of a track is a fix; how many fixes a log's epochs give, only the device knows.
        due = device["fixes"] if self.plan.log else max(device["fixes"], self.receiver.epochs_sent)
        return {
            "fixes_sent": device["fixes"],
            "fixes_decoded": stats.fixes,
            "fixes_lost": max(0, due - stats.fixes + self._doubled),
            "fixes_duplicated": self._doubled,
            "bytes_per_fix": stats.summary()["bytes_per_fix"],
            "runtime": device["runtime"],
            "board": self.board.name,
            "device": self.name,
            "source": self.plan.source.name,
            "epochs_sent": self.receiver.epochs_sent,
            "epochs_untimed": device["untimed"],
            "frames": stats.frames,
            "modem": self.plan.modem,
            "network": self.plan.network if modem else None,
            "bytes_up": modem.network.bytes_up if modem else None,
            "bytes_down": modem.network.bytes_down if modem else None,
            "heap_used_bytes": device["heap_used"],
            "reconnects": device["connects"] - 1,
            "sentences": device["sentences"],
            "bad_checksum": device["bad_checksum"],
            "uart_overruns": device["board"]["overruns"] if device["board"] else None,
            "duration_s": round(time.monotonic() - self._start_s, 1),
        }

    def close(self) -> None:
        """Power off everything that is on."""
        self._stack.close()


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise _unusable(out, e) from None


def _unusable(out: Path, error: OSError) -> UserError:
    return UserError(f"{out}: {error.strerror}; name a writable folder with --out")


def _remove_old_state(work: Path) -> None:
    """Remove state and log of an earlier run: a new key needs a new counter."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(work / "state")
    (work / "console.log").unlink(missing_ok=True)
