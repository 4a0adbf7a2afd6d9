"""Devices, hub and emulated network for the push-to-talk benchmarks: one process per device, real sockets."""

import contextlib
import importlib.metadata
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("", "device", "tests/unit"):
    sys.path.insert(0, str(ROOT / folder))

from patrolink.core import boards  # noqa: E402
from patrolink.core.decoder import Decoder  # noqa: E402
from patrolink.core.keys import DeviceKey  # noqa: E402
from patrolink.emulator.boards.process_device import boot  # noqa: E402
from patrolink.emulator.network.broker import Broker  # noqa: E402
from patrolink.emulator.network.carrier import PROFILES  # noqa: E402
from patrolink.emulator.network.udp_gate import HOST, Radio, UdpGate  # noqa: E402
from patrolink.emulator.peripherals.headset import RATE, Headset  # noqa: E402
from patrolink.emulator.peripherals.serial_line import Line  # noqa: E402
from patrolink.transport.mqtt import MqttTransport  # noqa: E402

from tests.support import hub_process, site_file  # noqa: E402

SEED = 24380
FRAME_MS = {"linux": 20, "unix": 60}
PAUSE_SAMPLES = int(0.5 * RATE)  # between two phrases
TONE_WAIT_S = 0.68
SETTLE_S = 1.3
PROMOTION_MS = 260.0
OUTCOMES = ("granted", "queued", "denied", "failed", "abandoned", "revoked")


def load_phrases() -> list[np.ndarray]:
    """Return the phrases of NIST's recordings: 8 kHz, without silence at either end, at the level of speech."""
    phrases = []
    files = importlib.metadata.files("mcvqoe-mouth2ear") or []
    for path in sorted(file.locate() for file in files if file.suffix == ".wav"):
        sound, rate = soundfile.read(path)
        sound = resample_poly(sound, RATE, rate)
        sound *= 0.5 / np.abs(sound).max()
        loud = np.flatnonzero(np.convolve(sound**2, np.ones(160) / 160, "same") > 0.02**2)
        for part in np.split(loud, np.flatnonzero(np.diff(loud) > PAUSE_SAMPLES) + 1):
            if len(part) > RATE:
                phrases.append((sound[part[0] : part[-1]] * 32767).astype("<i2"))
    return phrases


class PttDevice:
    """One device with its headset and its reports.

    Attributes:
        outcomes: Number of reports of each outcome.
        sent_packets: SSRC of a burst to the number of packets that this device sent.
        expected_packets: SSRC of a burst to the number of packets from the first to the last that this device received.
        joined_s: Monotonic time when the device joined its group.
    """

    def __init__(self, rig: "PttRig", name: str, board: str) -> None:
        self.rig, self.name, self.board = rig, name, board
        self.headset, self._gps = Headset(), Line()
        rig.stack.callback(self.headset.close)
        rig.stack.callback(self._gps.close)
        self.outcomes: Counter[str] = Counter()
        self.sent_packets: dict[int, int] = {}
        self.expected_packets: dict[int, int] = {}
        self.work = rig.folder / name
        self.joined_s = 0.0
        self.boot()

    def boot(self) -> None:
        """Start the agent and wait until it has joined its group."""
        config = {
            "device": self.name,
            "key": site_file.keys_of([self.name])[self.name].hex(),
            "gps_uart": self._gps.path,
            "broker": {"host": "127.0.0.1", "port": self.rig.broker.port},
            "audio": {
                "mic": self.headset.mic,
                "speaker": self.headset.speaker,
                "indicator": str(self.rig.folder / f"{self.name}.led"),
            },
            "ptt": {"frame_ms": FRAME_MS[self.board]},
            **self.rig.extra_config(self),
        }
        self.device = boot(boards.find(self.board), self.work, config)
        self.rig.stack.callback(self.device.kill)
        with self.device.log.open() as log:
            deadline = time.monotonic() + 30
            while "ptt: group" not in log.readline():
                self.device.check()
                assert time.monotonic() < deadline, self.device.log.read_text()
                time.sleep(0.002)
            self.joined_s = time.monotonic()

    def on_burst(self, row: dict) -> None:
        """Process a ptt_burst of the device."""
        if row["role"] in (1, "heard"):
            self.expected_packets[row["ssrc"]] = row["packets"]
            return
        outcome = row["outcome"]
        self.outcomes[OUTCOMES[outcome] if isinstance(outcome, int) else outcome] += 1
        self.sent_packets[row["ssrc"]] = row["packets"]

    def played_since(self, since_s: float) -> list[tuple[float, np.ndarray]]:
        """Return (start in s, samples) of the output since a time. Samples do not overlap, as in a D/A converter."""
        out, end_s = [], 0.0
        for written_s, data in self.headset.played:
            if written_s >= since_s:
                samples = np.frombuffer(data[: len(data) & ~1], "<i2")
                start_s = max(written_s, end_s)
                end_s = start_s + len(samples) / RATE
                out.append((start_s, samples))
        return out


class PttRig:
    """Broker, hub, emulated network, and two devices in each place.

    Args:
        stack: Stops the devices, the hub and the broker when it is closed.
        groups: Group number to its devices: (name, board, place).

    Attributes:
        profiles: Place to its network profile.
        hub_options: Further lines of the [[hub]] section of the site file.
    """

    profiles = PROFILES
    hub_options = ""

    def __init__(self, stack: contextlib.ExitStack, groups: dict[int, list[tuple[str, str, str]]]) -> None:
        self.stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-bench-")))
        self.broker = Broker()
        stack.callback(self.broker.stop)
        ports = hub_process.free_ports(2)
        names = [name for members in groups.values() for name, _, _ in members]
        text = "\n".join(
            site_file.GROUP_TEMPLATE.format(id=number, devices=json.dumps([m[0] for m in members]), more="talk_s = 110")
            for number, members in groups.items()
        )
        site = site_file.SITE_TEMPLATE.format(
            url=self.broker.url, ports=ports, top="", hub=self.hub_options, groups=text
        )
        hub = hub_process.HubProcess(self.folder, site.replace('host = "127.0.0.1"', f'host = "{HOST}"'), names)
        stack.callback(hub.kill)
        self.gate = UdpGate(ports, PROFILES["city"], SEED)
        stack.callback(self.gate.close)
        self._watch(names)
        self.devices: dict[str, PttDevice] = {}
        self.radios: dict[str, Radio] = {}
        for members in groups.values():
            for name, board, place in members:
                with self.gate.locked():
                    self.gate.profile = self.profiles[place]
                count = len(self.gate.radios)
                self.devices[name] = PttDevice(self, name, board)
                deadline = time.monotonic() + 30
                while len(self.gate.radios) == count:
                    assert time.monotonic() < deadline, f"{name} has sent no datagram"
                    time.sleep(0.01)
                self.radios[name] = self.gate.radios[-1]
                self.radios[name].network.promotion_ms = PROMOTION_MS
        time.sleep(2)

    def extra_config(self, device: PttDevice) -> dict:
        """Return further keys of the configuration of a device."""
        return {}

    def _watch(self, names: list[str]) -> None:
        transport = MqttTransport(self.broker.url)
        self.stack.callback(transport.close)
        decoder = Decoder({name: DeviceKey(key) for name, key in site_file.keys_of(names).items()})

        def read_reports() -> None:
            for record in transport.records():
                for row in decoder.rows(record) if record is not None else ():
                    if row["record"] == "ptt_burst":
                        self.devices[record.device].on_burst(row)

        threading.Thread(target=read_reports, daemon=True).start()


def press(rig: PttRig, talker: PttDevice, listener: PttDevice, phrase: np.ndarray, at_once: bool, cold: bool) -> dict:
    """Press the key for one phrase; return the times and the output of both speakers.

    Args:
        rig: The rig of both devices.
        talker: Device whose key is pressed.
        listener: The other device.
        phrase: What is spoken.
        at_once: Speech starts with the press, not after the grant tone.
        cold: Both radios sleep before the press.
    """
    if cold:
        with rig.gate.locked():
            rig.radios[talker.name].network.sleep()
            rig.radios[listener.name].network.sleep()
    delay_s = 0.0 if at_once else TONE_WAIT_S
    talker.headset.speak(phrase.tobytes(), delay_s)
    pressed_s = time.monotonic()
    talker.device.press("ptt")
    while talker.headset.opened_s is None and time.monotonic() < pressed_s + 1:
        time.sleep(0.001)
    opened_s = talker.headset.opened_s
    spoken_s = (opened_s or pressed_s) + delay_s
    time.sleep(max(0.0, spoken_s + len(phrase) / RATE - time.monotonic()))
    talker.device.press("ptt-up")
    time.sleep(SETTLE_S)
    tones, voice = talker.played_since(pressed_s), listener.played_since(pressed_s)
    return {
        "row": (talker.board, at_once),
        "phrase": phrase,
        "pressed": pressed_s,
        "opened": opened_s,
        "spoken": spoken_s,
        "tones": tones,
        "voice": voice,
    }
