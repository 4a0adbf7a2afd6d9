"""What an upload of clips costs push-to-talk: KPI 1 and 3 of bench_ptt.py, without one and while one goes on.

python tests/bench/bench_ptt_upload.py [couples of presses a place, 112]    writes build/bench/ptt_upload.json

A team is two pairs of devices in one place. Those of one pair have film that the hub does not have, and send it through
the radio that carries their voice: bytes of both stand in one queue. The pairs press in turn, each couple of presses
with the same words, the same datagrams lost and the same ones late: what of a couple differs is what the upload does.
Half of them are spoken with the key. No radio sleeps: an upload would keep its own awake, and look good by that.

Bar: p95 within 10 % of that of the pair that has nothing to send, with 1 % of the datagrams lost each way. Its
interval is that of 95 % of draws of as many couples (bootstrap).
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
from bench_ptt import PROFILES, ROOT, PttDevice, PttRig, kpis, load_phrases, press, spread
from patrolink.emulator.network.tcp_gate import TcpGate
from patrolink.emulator.network.udp_gate import HOST
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.peripherals.gps_receiver import GpsReceiver
from patrolink.emulator.scenarios.incident import walk

from tests.support import clip_maker, console_site

SEED = 20261126
COUPLES = int(sys.argv[1]) if len(sys.argv) > 1 else 112  # a place
TEAMS = 2  # a place
ARMS = ("idle", "sends")
CITY = replace(PROFILES["city"], gap_every_s=None)  # a handover would strike one press of a couple
PLACES = {"city": CITY, "city, 1 Mbit/s up": replace(CITY, up_kbps=1000)}
FILM_BYTES = 45_000_000  # more than goes in the time
PAUSE_S = (0.8, 2.0)  # before a press; the upload has gone on since 2 s after the pair's last voice
BAR_PCT = 10
IDLE_PCT = 5  # of the presses may find the upload waiting, for an answer that comes late
DRAWS = 10_000


def film(folder: Path) -> clip_maker.Device:
    """Film until a clip that the hub does not have is as large as FILM_BYTES; the storage of the device that did."""
    device = clip_maker.Device("linux", folder / "evidence.pem")
    device.run(5)
    device.recorder.trigger(0, 0, "", device.now, 500_000)
    while sum(map(len, device.files.data.values())) < FILM_BYTES:
        device.run(10)
    device.recorder.stop("", device.now)
    device.run(10)
    return device


class Filmed(PttRig):
    """Devices whose name begins with `sends` have a film on their storage."""

    profiles = PLACES

    def __init__(self, stack: contextlib.ExitStack, groups: dict[int, list[tuple[str, str, str]]]) -> None:
        self.port = console_site.free_port()
        self.hub_options = f'uploads = "127.0.0.1:{self.port}"'
        self.gates: dict[str, TcpGate] = {}
        self.making = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.filmed = film(self.making)
        super().__init__(stack, groups)

    def extra_config(self, device: PttDevice) -> dict:
        """Clips, a receiver that tells the time, and no camera that would take part of the processor."""
        receiver = GpsReceiver(nmea.speak(walk()), 1.0, 115200)
        self.stack.callback(receiver.close)
        receiver.start()
        name = device.name
        given = {"evidence_key": self.filmed.evidence.public.hex(), "lock_kb": 65536, "quota_kb": 81920}
        if name.startswith("sends"):
            state = device.work / "state"
            (state / "clips").mkdir(parents=True)
            for file, data in self.filmed.files.data.items():
                (state / "clips" / file).write_bytes(data)
            for record, data in self.filmed.store.records.items():
                (state / record).write_bytes(data)
            gate = self.gates[name] = TcpGate(self.gate, self.port, lambda: self.radios.get(name))
            self.stack.callback(gate.close)
            given["upload"] = {"host": HOST, "port": gate.port}
        return {
            "gps_uart": receiver.path,
            "camera": {"source": str(self.making / "none"), "indicator": str(self.folder / f"{name}.camera")},
            "clips": given,
        }


class Team:
    """Two pairs in one place that press in turn.

    trials  arm → bursts, as `press` returns them
    sent    (bytes, seconds) of the talker's upload in the pause before each press of those that send
    """

    def __init__(self, rig: Filmed, number: int, pairs: dict[str, list[PttDevice]]) -> None:
        self._rig, self._number, self._pairs = rig, number, pairs
        self.trials: dict[str, list[dict]] = {arm: [] for arm in ARMS}
        self.sent: list[tuple[int, float]] = []

    def talk(self, speech: list[np.ndarray]) -> None:
        """Every device talks in turn."""
        rng = random.Random(SEED + self._number)
        for i in range(COUPLES // TEAMS):
            clip, at_once = rng.choice(speech), i // 2 % 2 == 0
            for arm in ARMS:
                talker, listener = self._pairs[arm][i % 2], self._pairs[arm][1 - i % 2]
                gate = self._rig.gates.get(talker.name)
                begun, before = time.monotonic(), gate.bytes if gate else 0
                time.sleep(rng.uniform(*PAUSE_S))
                if gate:
                    self.sent.append((gate.bytes - before, time.monotonic() - begun))
                with self._rig.gate.locked():
                    for end, post in (("talker", talker), ("listener", listener)):
                        self._rig.radios[post.name].reseed(f"{SEED} {self._number} {i} {end}")
                self.trials[arm].append(press(self._rig, talker, listener, clip, at_once, False))


def more_pct(idle: np.ndarray, sends: np.ndarray) -> dict:
    """How much more p95 is with an upload, per cent, with the interval of 95 % of draws of as many couples."""
    draws = np.random.default_rng(SEED).integers(0, len(idle), (DRAWS, len(idle)))
    p95s = [np.percentile(values[draws], 95, axis=1) for values in (idle, sends)]
    low, high = np.percentile(100 * (p95s[1] / p95s[0] - 1), [2.5, 97.5])
    return {
        "p95_more_pct": round(100 * float(np.percentile(sends, 95) / np.percentile(idle, 95) - 1), 1),
        "interval_pct": [round(float(low), 1), round(float(high), 1)],
        "median_more_ms": round(float(np.median(sends - idle)), 1),
    }


def figures(teams: list[Team]) -> dict:
    """What the couples of one place say."""
    judged = {arm: [kpis(it) for team in teams for it in team.trials[arm]] for arm in ARMS}
    sent = [it for team in teams for it in team.sent]
    out: dict = {
        "couples": len(judged["idle"]),
        "beside_an_upload": sum(n > 0 for n, _ in sent),
        "upload_kbps": round(sum(n for n, _ in sent) * 8 / sum(s for _, s in sent) / 1000),
    }
    for kpi in ("kpi1_ms", "kpi3_ms"):
        values = {arm: [it[kpi] for it in judged[arm]] for arm in ARMS}
        both = [it for it in zip(*values.values(), strict=True) if None not in it]
        out[kpi] = {arm: spread([it for it in values[arm] if it is not None]) for arm in ARMS}
        out[kpi].update(more_pct(*np.array(both).T))
    return out


def main() -> None:
    speech = load_phrases()
    rows = [(place, arm) for place in PLACES for _ in range(TEAMS) for arm in ARMS]
    groups = {i + 1: [(f"{arm}-{i}{end}", "linux", place) for end in "ab"] for i, (place, arm) in enumerate(rows)}
    results: dict[str, dict] = {}
    with contextlib.ExitStack() as stack:
        rig = Filmed(stack, groups)
        with rig.gate.locked():
            for radio in rig.radios.values():
                radio.network.promotion_ms = 0.0
        time.sleep(20)  # the rate is being found
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
    tell(results)


def tell(results: dict[str, dict]) -> None:
    """Print the figures, and what misses the bar."""
    for place, values in results.items():
        print(f"{place}: {json.dumps(values)}", flush=True)
        idle = values["couples"] - values["beside_an_upload"]
        if idle > IDLE_PCT * values["couples"] / 100:
            print(f"missed: {place}: before {idle} presses no byte of an upload went; this says nothing", flush=True)
        for kpi in ("kpi1_ms", "kpi3_ms"):
            more = values[kpi]["p95_more_pct"]
            if more > BAR_PCT:
                print(f"missed: {place}: {kpi} p95 is {more} % more while clips are uploaded", flush=True)


if __name__ == "__main__":
    main()
