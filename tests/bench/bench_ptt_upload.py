"""What an upload of clips costs push-to-talk: KPI 1 and 3 of bench_ptt.py, without one and while one goes on.

python tests/bench/bench_ptt_upload.py [presses a row, 40]    writes build/bench/ptt_upload.json

In each place are two pairs of devices. Those of one pair have 20 MB of film that the hub does not have, and send them
through the radio that carries their voice: bytes of both stand in one queue. Between two presses is time enough for the
upload to run. No radio sleeps: an upload would keep its own awake, and look good by that. Bar: p95 within 10 % of that
of the pair that has nothing to send.
"""

import contextlib
import json
import random
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_ptt import PRESSES, PROFILES, ROOT, Post, Rig, clips, judge, press, row
from patrolink.emulator import nmea
from patrolink.emulator.gps import GpsReceiver
from patrolink.emulator.incident import walk
from patrolink.emulator.tcp_gate import TcpGate
from patrolink.emulator.udp_gate import HOST

from tests import clip_maker, desks

SEED = 20261126
# Without losses: a request of the floor that is lost is said again 300 ms later, and a few of those by chance would be
# more than all that an upload does.
CITY = replace(PROFILES["city"], loss=0.0, gap_every_s=None)
PLACES = {"city": CITY, "city, 1 Mbit/s up": replace(CITY, up_kbps=1000)}
FILM_BYTES = 20_000_000
PAUSE_S = (4.0, 8.0)  # between two presses: the upload begins again 2 s after voice
BAR_PCT = 10


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


class Filmed(Rig):
    """Devices whose name begins with `sends` have a film on their storage."""

    profiles = PLACES

    def __init__(self, stack: contextlib.ExitStack, groups: dict[int, list[tuple[str, str, str]]]) -> None:
        self.port = desks.free_port()
        self.hub = f'uploads = "127.0.0.1:{self.port}"'
        self.gates: dict[str, TcpGate] = {}
        self.making = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.filmed = film(self.making)
        super().__init__(stack, groups)

    def more(self, post: Post) -> dict:
        """Clips, a receiver that tells the time, and no camera that would take part of the processor."""
        receiver = GpsReceiver(nmea.speak(walk()), 1.0, 115200)
        self.stack.callback(receiver.close)
        receiver.start()
        name = post.name
        given = {"evidence_key": self.filmed.evidence.public.hex(), "lock_kb": 49152, "quota_kb": 65536}
        if name.startswith("sends"):
            state = post.work / "state"
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


def talk(rig: Filmed, pair: list[Post], speech: list[np.ndarray], trials: list[dict]) -> None:
    """The two of a pair in turn, one half of the bursts with the key."""
    rng = random.Random(SEED)
    for i in range(PRESSES):
        time.sleep(rng.uniform(*PAUSE_S))
        trials.append(press(rig, pair[i % 2], pair[1 - i % 2], rng.choice(speech), i // 2 % 2 == 0, False))


def main() -> None:
    speech = clips()
    rows = [(place, sends) for place in PLACES for sends in ("idle", "sends")]
    groups = {i + 1: [(f"{sends}-{i}{end}", "linux", place) for end in "ab"] for i, (place, sends) in enumerate(rows)}
    results: dict[str, dict] = {}
    with contextlib.ExitStack() as stack:
        rig = Filmed(stack, groups)
        with rig.gate.held():
            for radio in rig.radios.values():
                radio.network.promotion_ms = 0.0
        time.sleep(20)  # the rate is being found
        before = {name: gate.bytes for name, gate in rig.gates.items()}
        trials: dict[int, list[dict]] = {number: [] for number in groups}
        threads = [
            threading.Thread(target=talk, args=(rig, [rig.posts[m[0]] for m in members], speech, trials[number]))
            for number, members in groups.items()
        ]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - begun
        for (place, sends), (number, members) in zip(rows, groups.items(), strict=True):
            figures = row([judge(it) for it in trials[number]])
            sent = [rig.gates[m[0]].bytes - before[m[0]] for m in members if m[0] in rig.gates]
            results[f"{place}, {sends}"] = {
                **{name: figures[name] for name in ("presses", "heard", "kpi1_ms", "kpi3_ms")},
                "sent": sent,
                "kbps": [round(n * 8 / took / 1000) for n in sent],
            }
    tell(results)


def tell(results: dict[str, dict]) -> None:
    """Write the figures, and how far those with an upload are from those without."""
    for place in PLACES:
        idle, sends = results[f"{place}, idle"], results[f"{place}, sends"]
        for kpi in ("kpi1_ms", "kpi3_ms"):
            more = 100 * (sends[kpi]["p95"] / idle[kpi]["p95"] - 1)
            sends[f"{kpi}_p95_more_pct"] = round(more, 1)
            if more > BAR_PCT:
                print(f"missed: {place}: {kpi} p95 is {more:.1f} % more while clips are uploaded", flush=True)
    out = ROOT / "build" / "bench" / "ptt_upload.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"seed": SEED, **results}, indent=2) + "\n", encoding="utf-8")
    for name, values in results.items():
        print(f"{name}: {json.dumps(values)}", flush=True)


if __name__ == "__main__":
    main()
