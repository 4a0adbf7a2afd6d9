"""Measure the effect of a clip upload on push-to-talk: KPI 1 and 3 of bench_ptt.py with and without an upload.

python tests/bench/bench_ptt_upload.py [pairs of presses per place, 112]    writes build/bench/ptt_upload.json

A team is two pairs of devices in one place. The devices of one pair have film that the hub does not have. They upload
it through the radio that carries their voice; both share one queue. The pairs press in turn. Both presses of a pair of
presses have the same words, and the same datagrams are lost and delayed, so the difference is due to the upload. In
half of the presses the speech starts with the press. No radio sleeps: an upload would keep its radio awake, which
would improve its figures.

Limit: p95 is at most 10 % above that of the pair without an upload, at 1 % datagram loss in each direction. The 95 %
interval is that of a bootstrap over the pairs of presses.
"""

import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_ptt import kpis, spread
from patrolink.emulator.network.tcp_gate import TcpGate
from patrolink.emulator.network.udp_gate import HOST
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.peripherals.gps_receiver import GpsReceiver
from patrolink.emulator.scenarios.incident import walk
from ptt_rig import PROFILES, ROOT, PttDevice, PttRig, load_phrases, press

from tests.support import clip_maker, console_site

SEED = 20261126
PRESS_PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 112  # per place
TEAMS = 2  # per place
ARMS = ("idle", "sends")
CITY = replace(PROFILES["city"], gap_every_s=None)  # a handover would affect only one press of a pair
PLACES = {"city": CITY, "city, 1 Mbit/s up": replace(CITY, up_kbps=1000)}
FILM_BYTES = 45_000_000  # more than can be uploaded during the bench
PAUSE_S = (0.8, 2.0)  # before a press; the upload resumes 2 s after the last voice of the pair
EXTRA_PCT_MAX = 10
IDLE_PCT_MAX = 5  # of the presses; the upload then waits for a late response
DRAWS = 10_000


def record_film(folder: Path) -> clip_maker.Device:
    """Record a clip of FILM_BYTES that the hub does not have; return the device that recorded it."""
    device = clip_maker.Device("linux", folder / "evidence.pem")
    device.run(5)
    device.recorder.trigger(0, 0, "", device.now, 500_000)
    while sum(map(len, device.files.data.values())) < FILM_BYTES:
        device.run(10)
    device.recorder.stop("", device.now)
    device.run(10)
    return device


class UploadRig(PttRig):
    """A rig in which the storage of each device whose name begins with `sends` has a film."""

    profiles = PLACES

    def __init__(self, stack: contextlib.ExitStack, groups: dict[int, list[tuple[str, str, str]]]) -> None:
        self.port = console_site.free_port()
        self.hub_options = f'uploads = "127.0.0.1:{self.port}"'
        self.gates: dict[str, TcpGate] = {}
        self._film_folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._film_device = record_film(self._film_folder)
        super().__init__(stack, groups)

    def extra_config(self, device: PttDevice) -> dict:
        """Configure clips and a receiver, which provides the time, but no working camera: it would use CPU time."""
        receiver = GpsReceiver(nmea.speak(walk()), 1.0, 115200)
        self.stack.callback(receiver.close)
        receiver.start()
        name = device.name
        clips = {"evidence_key": self._film_device.evidence.public.hex(), "lock_kb": 65536, "quota_kb": 81920}
        if name.startswith("sends"):
            state = device.work / "state"
            (state / "clips").mkdir(parents=True)
            for file, data in self._film_device.files.data.items():
                (state / "clips" / file).write_bytes(data)
            for record, data in self._film_device.store.records.items():
                (state / record).write_bytes(data)
            gate = self.gates[name] = TcpGate(self.gate, self.port, lambda: self.radios.get(name))
            self.stack.callback(gate.close)
            clips["upload"] = {"host": HOST, "port": gate.port}
        return {
            "gps_uart": receiver.path,
            "camera": {"source": str(self._film_folder / "none"), "indicator": str(self.folder / f"{name}.camera")},
            "clips": clips,
        }


class Team:
    """Two pairs in one place that press in turn.

    Attributes:
        trials: Arm to its presses, as `press` returns them.
        sent: (bytes, seconds) of the talker's upload in the pause before each press of the arm `sends`.
    """

    def __init__(self, rig: UploadRig, number: int, pairs: dict[str, list[PttDevice]]) -> None:
        self._rig, self._number, self._pairs = rig, number, pairs
        self.trials: dict[str, list[dict]] = {arm: [] for arm in ARMS}
        self.sent: list[tuple[int, float]] = []

    def talk(self, speech: list[np.ndarray]) -> None:
        """Let every device talk in turn."""
        rng = random.Random(SEED + self._number)
        for i in range(PRESS_PAIRS // TEAMS):
            phrase, at_once = rng.choice(speech), i // 2 % 2 == 0
            for arm in ARMS:
                talker, listener = self._pairs[arm][i % 2], self._pairs[arm][1 - i % 2]
                gate = self._rig.gates.get(talker.name)
                start_s, start_bytes = time.monotonic(), gate.bytes if gate else 0
                time.sleep(rng.uniform(*PAUSE_S))
                if gate:
                    self.sent.append((gate.bytes - start_bytes, time.monotonic() - start_s))
                with self._rig.gate.locked():
                    for role, device in (("talker", talker), ("listener", listener)):
                        self._rig.radios[device.name].reseed(f"{SEED} {self._number} {i} {role}")
                self.trials[arm].append(press(self._rig, talker, listener, phrase, at_once, False))


def increase(idle: np.ndarray, sends: np.ndarray) -> dict:
    """Return the increase of p95 by an upload in per cent, its 95 % interval (bootstrap), and the median increase."""
    draws = np.random.default_rng(SEED).integers(0, len(idle), (DRAWS, len(idle)))
    p95s = [np.percentile(values[draws], 95, axis=1) for values in (idle, sends)]
    low, high = np.percentile(100 * (p95s[1] / p95s[0] - 1), [2.5, 97.5])
    return {
        "p95_more_pct": round(100 * float(np.percentile(sends, 95) / np.percentile(idle, 95) - 1), 1),
        "interval_pct": [round(float(low), 1), round(float(high), 1)],
        "median_more_ms": round(float(np.median(sends - idle)), 1),
    }


def figures(teams: list[Team]) -> dict:
    """Return the figures of one place."""
    measured = {arm: [kpis(trial) for team in teams for trial in team.trials[arm]] for arm in ARMS}
    sent = [upload for team in teams for upload in team.sent]
    out: dict = {
        "couples": len(measured["idle"]),
        "beside_an_upload": sum(n > 0 for n, _ in sent),
        "upload_kbps": round(sum(n for n, _ in sent) * 8 / sum(s for _, s in sent) / 1000),
    }
    for kpi in ("kpi1_ms", "kpi3_ms"):
        values = {arm: [row[kpi] for row in measured[arm]] for arm in ARMS}
        press_pairs = [pair for pair in zip(*values.values(), strict=True) if None not in pair]
        out[kpi] = {arm: spread([value for value in values[arm] if value is not None]) for arm in ARMS}
        out[kpi].update(increase(*np.array(press_pairs).T))
    return out


def main() -> None:
    speech = load_phrases()
    rows = [(place, arm) for place in PLACES for _ in range(TEAMS) for arm in ARMS]
    groups = {i + 1: [(f"{arm}-{i}{letter}", "linux", place) for letter in "ab"] for i, (place, arm) in enumerate(rows)}
    results: dict[str, dict] = {}
    with contextlib.ExitStack() as stack:
        rig = UploadRig(stack, groups)
        with rig.gate.locked():
            for radio in rig.radios.values():
                radio.network.promotion_ms = 0.0
        time.sleep(20)  # until rate control has settled
        pairs = [[rig.devices[name] for name, _, _ in members] for members in groups.values()]
        teams = [Team(rig, i, dict(zip(ARMS, pairs[2 * i : 2 * i + 2], strict=True))) for i in range(len(pairs) // 2)]
        threads = [threading.Thread(target=team.talk, args=(speech,)) for team in teams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i, place in enumerate(PLACES):
            results[place] = figures(teams[TEAMS * i : TEAMS * (i + 1)])
    out = ROOT / "build" / "bench" / "ptt_upload.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"seed": SEED, **results}, indent=2) + "\n", encoding="utf-8")
    report(results)


def report(results: dict[str, dict]) -> None:
    """Print the figures and the missed limits."""
    for place, values in results.items():
        print(f"{place}: {json.dumps(values)}", flush=True)
        idle = values["couples"] - values["beside_an_upload"]
        if idle > IDLE_PCT_MAX * values["couples"] / 100:
            print(f"missed: {place}: nothing was uploaded before {idle} presses; the figures are not valid", flush=True)
        for kpi in ("kpi1_ms", "kpi3_ms"):
            increase_pct = values[kpi]["p95_more_pct"]
            if increase_pct > EXTRA_PCT_MAX:
                print(f"missed: {place}: {kpi} p95 is {increase_pct} % higher while clips are uploaded", flush=True)


if __name__ == "__main__":
    main()
