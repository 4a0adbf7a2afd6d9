"""Measures push-to-talk KPIs (TS 22.179) from outside: real agents, hub, broker and sockets on an emulated network.

python tests/bench/bench_ptt.py [presses per row, 40]    writes build/bench/ptt.json

For each place and board, the key is pressed and NIST's recorded speech is played into the microphone: in half of the
presses at once, in the other half after the grant tone (NIST's method, 0.68 s after the press).

    KPI 1  press to the grant tone at the talker's speaker                         bar: p95 < 300 ms
    KPI 2  press to the first voice at the listener's speaker, speech at once      bar: p95 < 1000 ms
    KPI 3  mouth to output, by NIST's ITS delay estimation                            bar: p95 < 300 ms
    KPI 4  late entry of a device that was just switched on: joining the group
           to the first voice at its speaker                                       bar: p95 < 350 ms

The outcome of each press is that of the device's report (ptt_burst). A burst is clipped by the packets that its talker
sent and that are not between the first and the last packet that its listener received; the network can have lost them.
The first and the last 100 ms of the speech are also searched in what the speaker played. A start that is not found was
lost, or compressed: the jitter buffer compresses late speech until the delay is at its target.
"""

import contextlib
import importlib.metadata
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
from mcvqoe.delay import ITS_delay_est
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

from tests.support import hub_process  # noqa: E402

SEED = 24380
PRESSES = int(sys.argv[1]) if len(sys.argv) > 1 else 40  # per row
PLACES = [*((name, False) for name in PROFILES), ("city", True)]
FRAME_MS = {"linux": 20, "unix": 60}
PAUSE_SAMPLES = int(0.5 * RATE)  # between two phrases
TONE_WAIT_S = 0.68
SETTLE_S = 1.3
PROMOTION_MS = 260.0
EDGE_SAMPLES = int(0.1 * RATE)
CORRELATION_MIN = 0.5  # above it, a piece of speech counts as found
OUTCOMES = ("granted", "queued", "denied", "failed", "abandoned", "revoked")
BARS = {"kpi1_ms": 300, "kpi2_ms": 1000, "kpi3_ms": 300, "kpi4_ms": 350}  # p95, in the city


def load_phrases() -> list[np.ndarray]:
    """Return the phrases of NIST's recordings without silence at either end, 8 kHz, at the level of speech."""
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
        outcomes: How often each outcome was reported.
        sent_packets: SSRC of a burst to the packets that this device sent.
        expected_packets: SSRC of a burst to the packets from the first to the last that this device received.
        joined_s: When the device joined its group, monotonic.
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
        """Start the agent, and wait until it has joined its group."""
        config = {
            "device": self.name,
            "key": hub_process.keys_of([self.name])[self.name].hex(),
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
        self.device = boot(boards.correlation(self.board), self.work, config)
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
        """Return (start in s, samples) of the output since a time. Samples never overlap, as in a converter."""
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
        stack: Closes everything at its exit.
        groups: Number of a group to its devices: (name, board, place).

    Attributes:
        profiles: Profile of each place.
        hub_options: Further lines of the [[hub]] section of the site file.
    """

    profiles = PROFILES
    hub_options = ""

    def extra_config(self, device: PttDevice) -> dict:
        """Return further keys of the configuration of a device."""
        return {}

    def __init__(self, stack: contextlib.ExitStack, groups: dict[int, list[tuple[str, str, str]]]) -> None:
        self.stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-bench-")))
        self.broker = Broker()
        stack.callback(self.broker.stop)
        ports = hub_process.free_ports(2)
        names = [name for members in groups.values() for name, _, _ in members]
        text = "\n".join(
            hub_process.GROUP_TEMPLATE.format(
                id=number, devices=json.dumps([m[0] for m in members]), more="talk_s = 110"
            )
            for number, members in groups.items()
        )
        site = hub_process.SITE_TEMPLATE.format(
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
                    assert time.monotonic() < deadline, f"{name} sends nothing"
                    time.sleep(0.01)
                self.radios[name] = self.gate.radios[-1]
                self.radios[name].network.promotion_ms = PROMOTION_MS
        time.sleep(2)

    def _watch(self, names: list[str]) -> None:
        transport = MqttTransport(self.broker.url)
        self.stack.callback(transport.close)
        decoder = Decoder({name: DeviceKey(key) for name, key in hub_process.keys_of(names).items()})

        def read_reports() -> None:
            for record in transport.records():
                for row in decoder.rows(record) if record is not None else ():
                    if row["message"] == "ptt_burst":
                        self.devices[record.device].on_burst(row)

        threading.Thread(target=read_reports, daemon=True).start()


def press(rig: PttRig, talker: PttDevice, listener: PttDevice, phrase: np.ndarray, at_once: bool, cold: bool) -> dict:
    """Press the key for one phrase, and return the times and the output of both speakers.

    Args:
        rig: Everything.
        talker: Device whose key is pressed.
        listener: The other device.
        phrase: What is spoken.
        at_once: Speak with the press, not after the grant tone.
        cold: Put both radios to sleep before.
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


def is_tone(samples: np.ndarray, hz: float) -> bool:
    """Return whether the samples are a tone of hz."""
    x = samples[:80].astype(float)
    wave = np.exp(2j * np.pi * hz / RATE * np.arange(len(x)))
    return len(x) >= 40 and abs(np.dot(x, wave)) ** 2 > 0.3 * len(x) * np.dot(x, x) > 0


def correlation(piece: np.ndarray, output: np.ndarray) -> float:
    """Return the highest normalised correlation of the piece with any part of the output."""
    piece, output = piece.astype(float), output.astype(float)
    dots = np.correlate(output, piece)
    sums = np.concatenate([[0.0], np.cumsum(output**2)])
    energy = np.sqrt(np.maximum(sums[len(piece) :] - sums[: -len(piece)], 1.0) * np.dot(piece, piece))
    return float((dots / energy).max())


def kpis(trial: dict) -> dict:
    """Return the KPIs of one burst in milliseconds; None for those without a result."""
    out: dict = {"at_once": trial["row"][1], "kpi1_ms": None, "kpi2_ms": None, "kpi3_ms": None}
    out["mic_ms"] = (trial["opened"] - trial["pressed"]) * 1000 if trial["opened"] else None
    for start_s, samples in trial["tones"]:
        if is_tone(samples, 1000):
            out["kpi1_ms"] = (start_s - trial["pressed"]) * 1000
        break
    phrase, spoken_s = trial["phrase"], trial["spoken"]
    if out["kpi1_ms"] is None or not trial["voice"]:
        return out
    if out["at_once"]:
        out["kpi2_ms"] = (trial["voice"][0][0] - trial["pressed"]) * 1000
    output = np.zeros(len(phrase) + int(1.2 * RATE), np.int16)
    for start_s, samples in trial["voice"]:
        start = round((start_s - spoken_s) * RATE)
        end = min(len(output), start + len(samples))
        if 0 <= start < end:
            output[start:end] = samples[: end - start]
    with contextlib.suppress(TypeError):  # no single delay: too much was lost
        out["kpi3_ms"] = ITS_delay_est(phrase, output, "f", fs=RATE, dlyBounds=[0, 1.2])[1] * 1000 / RATE
    out["head"] = correlation(phrase[:EDGE_SAMPLES], output[: int(1.5 * RATE)]) > CORRELATION_MIN
    out["tail"] = correlation(phrase[-EDGE_SAMPLES:], output[len(phrase) - EDGE_SAMPLES :]) > CORRELATION_MIN
    return out


def spread(values: list[float]) -> dict | None:
    """Return n, p50, p95, p99 and the maximum."""
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"n": len(values), "p50": round(p50), "p95": round(p95), "p99": round(p99), "most": round(max(values))}


def summarize(measured: list[dict]) -> dict:
    """Return the figures of one row of the results."""

    def of(key: str, rows: list[dict]) -> dict | None:
        return spread([row[key] for row in rows if row[key] is not None])

    at_once = [row for row in measured if row["at_once"]]
    heard = [row for row in measured if row["kpi3_ms"] is not None]
    return {
        "presses": len(measured),
        "kpi1_ms": of("kpi1_ms", measured),
        "kpi2_ms": of("kpi2_ms", at_once),
        "kpi3_ms": of("kpi3_ms", measured),
        "kpi3_at_once_ms": of("kpi3_ms", at_once),
        "kpi3_after_tone_ms": of("kpi3_ms", [row for row in measured if not row["at_once"]]),
        "microphone_ms": of("mic_ms", measured),
        "heard": len(heard),
        "beginning_not_found": sum(not row["head"] for row in heard),
        "end_not_found": sum(not row["tail"] for row in heard),
    }


def measure_bursts(phrases: list[np.ndarray]) -> dict[str, dict]:
    """Measure KPI 1 to 3: two devices in each place transmit in turn."""
    groups = {i + 1: [(f"{board}-{i}", board, place) for board in FRAME_MS] for i, (place, _) in enumerate(PLACES)}
    results: dict[str, dict] = {}
    trials: dict[int, list[dict]] = {number: [] for number in groups}
    with contextlib.ExitStack() as stack:
        rig = PttRig(stack, groups)

        def talk(number: int, cold: bool) -> None:
            rng = random.Random(SEED + number)
            pair = [rig.devices[name] for name, _, _ in groups[number]]
            for i in range(2 * PRESSES):
                talker, listener = pair[i % 2], pair[1 - i % 2]
                trials[number].append(press(rig, talker, listener, rng.choice(phrases), i // 2 % 2 == 0, cold))
                time.sleep(rng.uniform(0, 0.1))

        threads = [threading.Thread(target=talk, args=(n, cold)) for n, (_, cold) in zip(groups, PLACES, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(5)  # for the last reports
        for number, (place, cold) in zip(groups, PLACES, strict=True):
            for name, board, _ in groups[number]:
                measured = [kpis(trial) for trial in trials[number] if trial["row"][0] == board]
                outcomes = rig.devices[name].outcomes
                other = next(rig.devices[member] for member, _, _ in groups[number] if member != name)
                sent = rig.devices[name].sent_packets
                clipped = [
                    n - other.expected_packets[ssrc] for ssrc, n in sent.items() if ssrc in other.expected_packets
                ]
                results[f"{place} {board} {'cold' if cold else 'warm'}"] = {
                    **summarize(measured),
                    "bursts_compared": len(clipped),
                    "bursts_clipped": sum(n > 0 for n in clipped),
                    "packets_clipped": sum(n for n in clipped if n > 0),
                    "outcomes": dict(outcomes),
                    "unreported": len(measured) - sum(outcomes.values()),
                }
    return results


def measure_late_entry(phrases: list[np.ndarray]) -> dict[str, dict]:
    """Measure KPI 4 in the city, for each board."""
    results = {}
    groups = {i + 1: [(f"talker-{i}", "linux", "city"), (f"late-{i}", b, "city")] for i, b in enumerate(FRAME_MS)}
    with contextlib.ExitStack() as stack:
        rig = PttRig(stack, groups)
        times: dict[int, list[float]] = {number: [] for number in groups}
        stop = threading.Event()

        def keep_talking(talker: PttDevice) -> None:
            while not stop.is_set():
                talker.headset.speak(b"".join(phrase.tobytes() for phrase in phrases) * 20)
                talker.device.press("ptt")
                stop.wait(100)
                talker.device.press("ptt-up")
                time.sleep(1)

        def join_late(number: int, talker: PttDevice, late: PttDevice) -> None:
            for _ in range(PRESSES):
                while talker.headset.opened_s is None:
                    time.sleep(0.1)
                late.device.kill()
                late.boot()
                deadline = time.monotonic() + 3
                while time.monotonic() < deadline:
                    voice = late.played_since(late.joined_s)
                    if voice:
                        times[number].append((voice[0][0] - late.joined_s) * 1000)
                        break
                    time.sleep(0.02)
                time.sleep(0.2)

        pairs = {number: [rig.devices[name] for name, _, _ in members] for number, members in groups.items()}
        talkers = [threading.Thread(target=keep_talking, args=(pair[0],)) for pair in pairs.values()]
        entries = [threading.Thread(target=join_late, args=(number, *pair)) for number, pair in pairs.items()]
        for thread in (*talkers, *entries):
            thread.start()
        for thread in entries:
            thread.join()
        stop.set()
        for thread in talkers:
            thread.join()
        for number, members in groups.items():
            results[f"late entry city {members[1][1]}"] = {"entries": PRESSES, "kpi4_ms": spread(times[number])}
    return results


def main() -> None:
    phrases = load_phrases()
    results: dict[str, object] = {"seed": SEED, "clips": len(phrases)}
    out = ROOT / "build" / "bench" / "ptt.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    for part in (measure_bursts, measure_late_entry):
        rows = part(phrases)
        results.update(rows)
        out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        for name, values in rows.items():
            print(f"{name}: {json.dumps(values)}", flush=True)
            for kpi, bar in BARS.items():
                figure = values.get(kpi)
                if figure and "city" in name and figure["p95"] >= bar:
                    print(f"missed: {name}: {kpi} p95 is {figure['p95']}, the bar is below {bar}", flush=True)


if __name__ == "__main__":
    main()
