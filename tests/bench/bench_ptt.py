"""Push-to-talk's KPIs (TS 22.179) from outside the devices: real agents, hub, broker and sockets, an emulated network.

Writes build/bench/ptt.json. For each place and board presses of the key with NIST's recorded speech, one half spoken
with the key, the other half after the grant tone (NIST's way, 0.68 s behind the press):

    KPI 1  press to the grant tone at the talker's speaker      bar: p95 < 300 ms
    KPI 2  press to the first voice at the other's speaker, spoken with the key: p95 < 1000 ms
    KPI 3  mouth to ear by NIST's ITS delay estimation          bar: p95 < 300 ms
    KPI 4  a device that has just been switched on joins while another speaks: from its joining to its speaker's first
           voice                                                bar: p95 < 350 ms

What became of each press is what the devices report (ptt_burst). Its beginning or end is clipped by as many packets as
its talker sent more than its listener expected, from the first to the last that came: the network can have lost them.
Beginning and end are also looked for in what came out of the other's speaker, 100 ms of each; a beginning that is not
found was lost, or quickened: speech that comes late is, until the delay is what the network asks for.
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
for room in ("", "device", "tests/unit"):
    sys.path.insert(0, str(ROOT / room))

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
PRESSES = int(sys.argv[1]) if len(sys.argv) > 1 else 40  # a row
PLACES = [*((name, False) for name in PROFILES), ("city", True)]
FRAME_MS = {"linux": 20, "unix": 60}
PAUSE = int(0.5 * RATE)  # between two phrases
TONE_WAIT_S = 0.68
SETTLE_S = 1.3
PROMOTION_MS = 260.0
EDGE = int(0.1 * RATE)
FOUND = 0.5  # correlation above which a piece of speech is there
OUTCOMES = ("granted", "queued", "denied", "failed", "abandoned", "revoked")
BARS = {"kpi1_ms": 300, "kpi2_ms": 1000, "kpi3_ms": 300, "kpi4_ms": 350}  # p95, in the city


def clips() -> list[np.ndarray]:
    """The phrases of NIST's clips, from their first sound to their last, 8 kHz, as loud as speech is."""
    found = []
    files = importlib.metadata.files("mcvqoe-mouth2ear") or []
    for path in sorted(file.locate() for file in files if file.suffix == ".wav"):
        sound, rate = soundfile.read(path)
        sound = resample_poly(sound, RATE, rate)
        sound *= 0.5 / np.abs(sound).max()
        loud = np.flatnonzero(np.convolve(sound**2, np.ones(160) / 160, "same") > 0.02**2)
        for part in np.split(loud, np.flatnonzero(np.diff(loud) > PAUSE) + 1):
            if len(part) > RATE:
                found.append((sound[part[0] : part[-1]] * 32767).astype("<i2"))
    return found


class Post:
    """One device with its headset, its radio's number at the gate, and what it reports."""

    def __init__(self, rig: "PttRig", name: str, board: str) -> None:
        self.rig, self.name, self.board = rig, name, board
        self.headset, self._gps = Headset(), Line()
        rig.stack.callback(self.headset.close)
        rig.stack.callback(self._gps.close)
        self.outcomes: Counter[str] = Counter()
        self.said: dict[int, int] = {}  # SSRC of a burst → packets sent
        self.expected: dict[int, int] = {}  # SSRC of a burst of another → packets from the first to the last that came
        self.work = rig.folder / name
        self.joined_s = 0.0
        self.boot()

    def boot(self) -> None:
        """Switch on, and wait until it has joined its group."""
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
            **self.rig.more(self),
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

    def take(self, row: dict) -> None:
        """A report of the device."""
        if row["role"] in (1, "heard"):
            self.expected[row["ssrc"]] = row["packets"]
            return
        outcome = row["outcome"]
        self.outcomes[OUTCOMES[outcome] if isinstance(outcome, int) else outcome] += 1
        self.said[row["ssrc"]] = row["packets"]

    def heard(self, since_s: float) -> list[tuple[float, np.ndarray]]:
        """What came to the speaker since then: (when it is heard, samples); a converter plays without overlap."""
        out, free = [], 0.0
        for at, data in self.headset.played:
            if at >= since_s:
                samples = np.frombuffer(data[: len(data) & ~1], "<i2")
                start = max(at, free)
                free = start + len(samples) / RATE
                out.append((start, samples))
        return out


class PttRig:
    """Broker, hub, gate, and two devices in each place."""

    profiles = PROFILES
    hub = ""  # lines of its [[hub]]

    def more(self, post: Post) -> dict:
        """What a device's configuration has more."""
        return {}

    def __init__(self, stack: contextlib.ExitStack, groups: dict[int, list[tuple[str, str, str]]]) -> None:
        """`groups`: number → (device, board, place)."""
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
        site = hub_process.SITE_TEMPLATE.format(url=self.broker.url, ports=ports, top="", hub=self.hub, groups=text)
        hub = hub_process.HubProcess(self.folder, site.replace('host = "127.0.0.1"', f'host = "{HOST}"'), names)
        stack.callback(hub.kill)
        self.gate = UdpGate(ports, PROFILES["city"], SEED)
        stack.callback(self.gate.close)
        self._watch(names)
        self.posts: dict[str, Post] = {}
        self.radios: dict[str, Radio] = {}
        for members in groups.values():
            for name, board, place in members:
                with self.gate.locked():
                    self.gate.profile = self.profiles[place]
                before = len(self.gate.radios)
                self.posts[name] = Post(self, name, board)
                deadline = time.monotonic() + 30
                while len(self.gate.radios) == before:
                    assert time.monotonic() < deadline, f"{name} is not heard"
                    time.sleep(0.01)
                self.radios[name] = self.gate.radios[-1]
                self.radios[name].network.promotion_ms = PROMOTION_MS
        time.sleep(2)

    def _watch(self, names: list[str]) -> None:
        transport = MqttTransport(self.broker.url)
        self.stack.callback(transport.close)
        decoder = Decoder({name: DeviceKey(key) for name, key in hub_process.keys_of(names).items()})

        def take() -> None:
            for record in transport.records():
                for row in decoder.rows(record) if record is not None else ():
                    if row["message"] == "ptt_burst":
                        self.posts[record.device].take(row)

        threading.Thread(target=take, daemon=True).start()


def press(rig: PttRig, talker: Post, listener: Post, clip: np.ndarray, at_once: bool, cold: bool) -> dict:
    """One burst, and what was heard of it at both ends."""
    if cold:
        with rig.gate.locked():
            rig.radios[talker.name].network.sleep()
            rig.radios[listener.name].network.sleep()
    after = 0.0 if at_once else TONE_WAIT_S
    talker.headset.speak(clip.tobytes(), after)
    pressed = time.monotonic()
    talker.device.press("ptt")
    while talker.headset.opened_s is None and time.monotonic() < pressed + 1:
        time.sleep(0.001)
    opened = talker.headset.opened_s
    spoken = (opened or pressed) + after
    time.sleep(max(0.0, spoken + len(clip) / RATE - time.monotonic()))
    talker.device.press("ptt-up")
    time.sleep(SETTLE_S)
    tones, voice = talker.heard(pressed), listener.heard(pressed)
    return {
        "row": (talker.board, at_once),
        "clip": clip,
        "pressed": pressed,
        "opened": opened,
        "spoken": spoken,
        "tones": tones,
        "voice": voice,
    }


def is_tone(samples: np.ndarray, hz: float) -> bool:
    """True when most of the energy is at hz."""
    x = samples[:80].astype(float)
    wave = np.exp(2j * np.pi * hz / RATE * np.arange(len(x)))
    return len(x) >= 40 and abs(np.dot(x, wave)) ** 2 > 0.3 * len(x) * np.dot(x, x) > 0


def find(piece: np.ndarray, ear: np.ndarray) -> float:
    """Greatest normalised correlation of the piece anywhere in what was heard."""
    piece, ear = piece.astype(float), ear.astype(float)
    dots = np.correlate(ear, piece)
    sums = np.concatenate([[0.0], np.cumsum(ear**2)])
    energy = np.sqrt(np.maximum(sums[len(piece) :] - sums[: -len(piece)], 1.0) * np.dot(piece, piece))
    return float((dots / energy).max())


def judge(trial: dict) -> dict:
    """KPIs of one burst in milliseconds; None where there is none."""
    out: dict = {"at_once": trial["row"][1], "kpi1_ms": None, "kpi2_ms": None, "kpi3_ms": None}
    out["mic_ms"] = (trial["opened"] - trial["pressed"]) * 1000 if trial["opened"] else None
    for at, samples in trial["tones"]:
        if is_tone(samples, 1000):
            out["kpi1_ms"] = (at - trial["pressed"]) * 1000
        break
    clip, spoken = trial["clip"], trial["spoken"]
    if out["kpi1_ms"] is None or not trial["voice"]:
        return out
    if out["at_once"]:
        out["kpi2_ms"] = (trial["voice"][0][0] - trial["pressed"]) * 1000
    ear = np.zeros(len(clip) + int(1.2 * RATE), np.int16)
    for at, samples in trial["voice"]:
        start = round((at - spoken) * RATE)
        end = min(len(ear), start + len(samples))
        if 0 <= start < end:
            ear[start:end] = samples[: end - start]
    with contextlib.suppress(TypeError):  # it finds no single delay where too much was lost
        out["kpi3_ms"] = ITS_delay_est(clip, ear, "f", fs=RATE, dlyBounds=[0, 1.2])[1] * 1000 / RATE
    out["head"] = find(clip[:EDGE], ear[: int(1.5 * RATE)]) > FOUND
    out["tail"] = find(clip[-EDGE:], ear[len(clip) - EDGE :]) > FOUND
    return out


def spread(values: list[float]) -> dict | None:
    """n, p50, p95, p99 and most."""
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"n": len(values), "p50": round(p50), "p95": round(p95), "p99": round(p99), "most": round(max(values))}


def row(judged: list[dict]) -> dict:
    """The figures of one row."""

    def of(key: str, rows: list[dict]) -> dict | None:
        return spread([it[key] for it in rows if it[key] is not None])

    at_once = [it for it in judged if it["at_once"]]
    heard = [it for it in judged if it["kpi3_ms"] is not None]
    return {
        "presses": len(judged),
        "kpi1_ms": of("kpi1_ms", judged),
        "kpi2_ms": of("kpi2_ms", at_once),
        "kpi3_ms": of("kpi3_ms", judged),
        "kpi3_at_once_ms": of("kpi3_ms", at_once),
        "kpi3_after_tone_ms": of("kpi3_ms", [it for it in judged if not it["at_once"]]),
        "microphone_ms": of("mic_ms", judged),
        "heard": len(heard),
        "beginning_not_found": sum(not it["head"] for it in heard),
        "end_not_found": sum(not it["tail"] for it in heard),
    }


def bursts(speech: list[np.ndarray]) -> dict[str, dict]:
    """KPI 1 to 3: two devices in each place, which speak in turn."""
    groups = {i + 1: [(f"{board}-{i}", board, place) for board in FRAME_MS] for i, (place, _) in enumerate(PLACES)}
    results: dict[str, dict] = {}
    trials: dict[int, list[dict]] = {number: [] for number in groups}
    with contextlib.ExitStack() as stack:
        rig = PttRig(stack, groups)

        def talk(number: int, cold: bool) -> None:
            rng = random.Random(SEED + number)
            pair = [rig.posts[name] for name, _, _ in groups[number]]
            for i in range(2 * PRESSES):
                talker, listener = pair[i % 2], pair[1 - i % 2]
                trials[number].append(press(rig, talker, listener, rng.choice(speech), i // 2 % 2 == 0, cold))
                time.sleep(rng.uniform(0, 0.1))

        threads = [threading.Thread(target=talk, args=(n, cold)) for n, (_, cold) in zip(groups, PLACES, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(5)  # the last reports
        for number, (place, cold) in zip(groups, PLACES, strict=True):
            for name, board, _ in groups[number]:
                judged = [judge(it) for it in trials[number] if it["row"][0] == board]
                said = rig.posts[name].outcomes
                other = next(rig.posts[it] for it, _, _ in groups[number] if it != name)
                said_of = rig.posts[name].said
                clipped = [n - other.expected[ssrc] for ssrc, n in said_of.items() if ssrc in other.expected]
                results[f"{place} {board} {'cold' if cold else 'warm'}"] = {
                    **row(judged),
                    "bursts_compared": len(clipped),
                    "bursts_clipped": sum(n > 0 for n in clipped),
                    "packets_clipped": sum(n for n in clipped if n > 0),
                    "outcomes": dict(said),
                    "unreported": len(judged) - sum(said.values()),
                }
    return results


def late_entry(speech: list[np.ndarray]) -> dict[str, dict]:
    """KPI 4 in the city, for each board."""
    results = {}
    groups = {i + 1: [(f"talker-{i}", "linux", "city"), (f"late-{i}", b, "city")] for i, b in enumerate(FRAME_MS)}
    with contextlib.ExitStack() as stack:
        rig = PttRig(stack, groups)
        times: dict[int, list[float]] = {number: [] for number in groups}
        over = threading.Event()

        def keep_talking(talker: Post) -> None:
            while not over.is_set():
                talker.headset.speak(b"".join(clip.tobytes() for clip in speech) * 20)
                talker.device.press("ptt")
                over.wait(100)
                talker.device.press("ptt-up")
                time.sleep(1)

        def enter(number: int, talker: Post, late: Post) -> None:
            for _ in range(PRESSES):
                while talker.headset.opened_s is None:
                    time.sleep(0.1)
                late.device.kill()
                late.boot()
                deadline = time.monotonic() + 3
                while time.monotonic() < deadline:
                    voice = late.heard(late.joined_s)
                    if voice:
                        times[number].append((voice[0][0] - late.joined_s) * 1000)
                        break
                    time.sleep(0.02)
                time.sleep(0.2)

        pairs = {number: [rig.posts[name] for name, _, _ in members] for number, members in groups.items()}
        talkers = [threading.Thread(target=keep_talking, args=(pair[0],)) for pair in pairs.values()]
        entries = [threading.Thread(target=enter, args=(number, *pair)) for number, pair in pairs.items()]
        for thread in (*talkers, *entries):
            thread.start()
        for thread in entries:
            thread.join()
        over.set()
        for thread in talkers:
            thread.join()
        for number, members in groups.items():
            results[f"late entry city {members[1][1]}"] = {"entries": PRESSES, "kpi4_ms": spread(times[number])}
    return results


def main() -> None:
    speech = clips()
    results: dict[str, object] = {"seed": SEED, "clips": len(speech)}
    out = ROOT / "build" / "bench" / "ptt.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    for part in (bursts, late_entry):
        rows = part(speech)
        results.update(rows)
        out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        for name, values in rows.items():
            print(f"{name}: {json.dumps(values)}", flush=True)
            for kpi, bar in BARS.items():
                figure = values.get(kpi)
                if figure and "city" in name and figure["p95"] >= bar:
                    print(f"missed: {name}: {kpi} p95 {figure['p95']} is not under {bar}", flush=True)


if __name__ == "__main__":
    main()
