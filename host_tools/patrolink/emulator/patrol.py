"""One patrol on an emulated board, from the receiver's first byte to the last decoded row."""

import contextlib
import itertools
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from patrolink import boards, home, keys, tracks
from patrolink.capture import CaptureWriter, Record
from patrolink.decoding import Decoder, Row
from patrolink.emulator import nmea
from patrolink.emulator.broker import Broker
from patrolink.emulator.device import Device, boot
from patrolink.emulator.gps import GpsReceiver
from patrolink.emulator.modem_port import ModemPort
from patrolink.emulator.network import PROFILES
from patrolink.errors import DeadlineError, DeviceError, UserError
from patrolink.report.live import Table
from patrolink.transport.mqtt import MqttTransport

_ARRIVE_S = 20.0
_TELL_S = 5.0


@dataclass(frozen=True)
class Plan:
    """What to run; see `patrolink emulate --help`."""

    board: str
    track: Path | None
    log: Path | None
    speed: float
    fixes: int | None
    batch: int
    broker: str
    device: str
    out: Path
    live: bool
    quiet: bool
    network: str
    modem: str
    seed: int


def patrol(plan: Plan) -> tuple[dict[str, Any], list[Row]]:
    """Run the plan and return (summary, rows). The capture and its keys are left in plan.out."""
    board = boards.find(plan.board)
    source = plan.log or plan.track or home.root() / "tests" / "golden" / "tracks" / "walk-1hz.csv"
    epochs = nmea.replay(source) if plan.log else nmea.speak(tracks.read(source))
    capture = plan.out / "patrol.plcap"
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        broker_name, url, host, port = _broker(plan.broker, stack)
        work = plan.out / "device"
        try:
            key = keys.create(keys.sidecar(capture), plan.device)
            _forget(work)
        except OSError as e:
            raise UserError(f"{plan.out}: {e.strerror}; name a folder that can be written with --out") from None
        transport = MqttTransport(url)
        stack.callback(transport.close)
        receiver = GpsReceiver(itertools.islice(epochs, plan.fixes), plan.speed, board.gps.baud)
        stack.callback(receiver.close)
        config: dict[str, Any] = {
            "device": plan.device,
            "key": key.hex(),
            "broker": {"host": host, "port": port},
            "gps_uart": receiver.path,
            "batch_fixes": plan.batch,
        }
        modem = None
        if plan.modem != "none":
            modem = ModemPort(work, plan.modem, PROFILES[plan.network], plan.seed)
            stack.callback(modem.close)
            config["modem"] = {"uart": modem.path, "apn": "cmnet", "reset_pin": str(modem.reset_pin)}
        device = boot(board, work, config)
        stack.callback(device.kill)
        writer = CaptureWriter(capture)
        stack.callback(writer.close)
        watch = _Watch(plan, writer, Decoder(keys.load(keys.sidecar(capture))))
        if plan.live and not plan.quiet:
            watch.table = stack.enter_context(
                Table(f"{plan.device} on {board.name}, {source.name} at {plan.speed:g} x")
            )
        told = _run(receiver, device, transport, watch)
    # Every point of a track is a fix; what a log's epochs amount to only the device can tell.
    due = told["fixes"] if plan.log else max(told["fixes"], receiver.epochs_sent)
    summary = {
        "fixes_sent": told["fixes"],
        "fixes_decoded": watch.decoder.stats.fixes,
        "fixes_lost": max(0, due - watch.decoder.stats.fixes + watch.doubled),
        "fixes_doubled": watch.doubled,
        "bytes_per_fix": watch.decoder.stats.summary()["bytes_per_fix"],
        "runtime": told["runtime"],
        "broker": broker_name,
        "board": board.name,
        "device": plan.device,
        "source": source.name,
        "epochs_spoken": receiver.epochs_sent,
        "epochs_untimed": told["untimed"],
        "frames": watch.decoder.stats.frames,
        "modem": plan.modem,
        "network": plan.network if modem else None,
        "bytes_up": modem.network.bytes_up if modem else None,
        "bytes_down": modem.network.bytes_down if modem else None,
        "heap_used": told["heap_used"],
        "reconnects": told["connects"] - 1,
        "nmea_sentences": told["sentences"],
        "nmea_bad_checksum": told["bad_checksum"],
        "duration_s": round(time.monotonic() - started, 1),
    }
    return summary, watch.rows


def _broker(wanted: str, stack: contextlib.ExitStack) -> tuple[str, str, str, int]:
    if wanted == "auto":
        broker = Broker()
        stack.callback(broker.stop)
        return broker.name, broker.url, "127.0.0.1", broker.port
    if not wanted.startswith("mqtt://"):
        raise UserError(f"--broker {wanted}: auto, or mqtt://host:port")
    parts = urlsplit(wanted)
    try:
        port = parts.port or 1883
    except ValueError as e:
        raise UserError(f"--broker {wanted}: {e}; write mqtt://host:1883") from None
    return wanted, wanted, parts.hostname or "127.0.0.1", port


def _forget(work: Path) -> None:
    """A new key means a new counter: drop what an earlier run left."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(work / "state")
    (work / "console.log").unlink(missing_ok=True)


class _Watch:
    """Takes in frames as they come and counts each fix once."""

    def __init__(self, plan: Plan, writer: CaptureWriter, decoder: Decoder) -> None:
        self.decoder = decoder
        self.table: Table | None = None
        self.rows: list[Row] = []
        self._writer = writer
        self.doubled = 0
        self._frame_of: dict[str, int] = {}
        self._device = plan.device
        self._quiet = plan.quiet
        self._told = time.monotonic()

    def take(self, record: Record) -> None:
        if record.device != self._device:
            return
        self._writer.write(record)
        rows = self.decoder.rows(record)
        self.rows += rows
        for row in rows:
            # One frame may hold a time twice, when the receiver said it twice; two frames may not.
            if (
                row["message"] == "position"
                and self._frame_of.setdefault(row["time"], row["counter"]) != row["counter"]
            ):
                self.doubled += 1
        if self.table is not None:
            self.table.take(record, rows, self.decoder.stats)

    def tell(self, receiver: GpsReceiver) -> None:
        """Without a terminal: a line every few seconds."""
        if self.table is None and not self._quiet and time.monotonic() - self._told >= _TELL_S:
            self._told = time.monotonic()
            stats = self.decoder.stats
            print(
                f"{receiver.epochs_sent} epochs spoken, {stats.fixes} fixes decoded, {stats.bytes} bytes",
                file=sys.stderr,
            )


def _run(receiver: GpsReceiver, device: Device, transport: MqttTransport, watch: _Watch) -> dict[str, Any]:
    """Let the receiver speak to its end, power the device off, and wait for the last frame."""
    receiver.start()
    told: dict[str, Any] | None = None
    deadline = 0.0
    for record in transport.records():
        if record is not None:
            watch.take(record)
        if told is None:
            device.check()
            watch.tell(receiver)
            if receiver.stalled:
                raise DeviceError("the device has stopped reading its receiver for ten seconds")
            if receiver.done and receiver.drained():
                told = device.power_off()
                deadline = time.monotonic() + _ARRIVE_S
        if told is not None:
            # A frame sent again after a reset comes twice; it must not stand in for one that is still on its way.
            if watch.decoder.stats.frames - watch.decoder.stats.duplicates >= told["published"]:
                return told
            if time.monotonic() > deadline:
                raise DeadlineError(
                    f"{told['published']} frames were published but {watch.decoder.stats.frames} arrived; "
                    "is the broker well?"
                )
    raise DeviceError("the broker's stream ended")
