"""Measure push-to-talk KPIs (TS 22.179) from outside: real agents, hub, broker and sockets on an emulated network.

python tests/bench/bench_ptt.py [presses per row, 40]    writes build/bench/ptt.json

For each place and board, the key is pressed and NIST's recorded speech is played into the microphone. In half of the
presses the speech starts with the press, in the other half 0.68 s later, after the grant tone (NIST's method).

    KPI 1  from the press to the grant tone at the talker's speaker                limit: p95 < 300 ms
    KPI 2  from the press to the first voice at the listener's speaker,
           if the speech starts with the press                                     limit: p95 < 1000 ms
    KPI 3  mouth to ear, by NIST's ITS delay estimation                            limit: p95 < 300 ms
    KPI 4  late entry of a device that was just switched on: from joining the
           group to the first voice at its speaker                                 limit: p95 < 350 ms

The outcome of each press is the one that the device reports (ptt_burst). A burst counts as clipped if its talker sent
packets before the first or after the last packet that its listener received; the network may have lost them. The output
is also searched for the first and the last 100 ms of the speech. If the start is not found, it was lost or compressed:
the jitter buffer compresses late speech until the delay reaches its target.
"""

import contextlib
import json
import random
import sys
import threading
import time

import numpy as np
from mcvqoe.delay import ITS_delay_est
from ptt_rig import FRAME_MS, PROFILES, RATE, ROOT, SEED, PttDevice, PttRig, load_phrases, press

PRESSES = int(sys.argv[1]) if len(sys.argv) > 1 else 40  # per row
PLACES = [*((name, False) for name in PROFILES), ("city", True)]
EDGE_SAMPLES = int(0.1 * RATE)
CORRELATION_MIN = 0.5  # above it, a piece of speech counts as present
P95_LIMITS = {"kpi1_ms": 300, "kpi2_ms": 1000, "kpi3_ms": 300, "kpi4_ms": 350}  # in the city


def is_tone(samples: np.ndarray, hz: float) -> bool:
    """Return whether the samples are a tone of `hz`."""
    x = samples[:80].astype(float)
    wave = np.exp(2j * np.pi * hz / RATE * np.arange(len(x)))
    return len(x) >= 40 and abs(np.dot(x, wave)) ** 2 > 0.3 * len(x) * np.dot(x, x) > 0


def correlation(piece: np.ndarray, output: np.ndarray) -> float:
    """Return the highest normalised correlation of the piece with any section of the output."""
    piece, output = piece.astype(float), output.astype(float)
    dots = np.correlate(output, piece)
    sums = np.concatenate([[0.0], np.cumsum(output**2)])
    energy = np.sqrt(np.maximum(sums[len(piece) :] - sums[: -len(piece)], 1.0) * np.dot(piece, piece))
    return float((dots / energy).max())


def kpis(trial: dict) -> dict:
    """Return the KPIs of one burst in milliseconds; None for each without a result."""
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
    with contextlib.suppress(TypeError):  # too much was lost to estimate a delay
        out["kpi3_ms"] = ITS_delay_est(phrase, output, "f", fs=RATE, dlyBounds=[0, 1.2])[1] * 1000 / RATE
    out["head"] = correlation(phrase[:EDGE_SAMPLES], output[: int(1.5 * RATE)]) > CORRELATION_MIN
    out["tail"] = correlation(phrase[-EDGE_SAMPLES:], output[len(phrase) - EDGE_SAMPLES :]) > CORRELATION_MIN
    return out


def spread(values: list[float]) -> dict | None:
    """Return the number of values, p50, p95, p99 and the maximum; None without values."""
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"n": len(values), "p50": round(p50), "p95": round(p95), "p99": round(p99), "most": round(max(values))}


def summarize(measured: list[dict]) -> dict:
    """Return the figures of one row of the results."""

    def spread_of(key: str, rows: list[dict]) -> dict | None:
        return spread([row[key] for row in rows if row[key] is not None])

    at_once = [row for row in measured if row["at_once"]]
    received = [row for row in measured if row["kpi3_ms"] is not None]
    return {
        "presses": len(measured),
        "kpi1_ms": spread_of("kpi1_ms", measured),
        "kpi2_ms": spread_of("kpi2_ms", at_once),
        "kpi3_ms": spread_of("kpi3_ms", measured),
        "kpi3_at_once_ms": spread_of("kpi3_ms", at_once),
        "kpi3_after_tone_ms": spread_of("kpi3_ms", [row for row in measured if not row["at_once"]]),
        "microphone_ms": spread_of("mic_ms", measured),
        "heard": len(received),
        "beginning_not_found": sum(not row["head"] for row in received),
        "end_not_found": sum(not row["tail"] for row in received),
    }


def measure_bursts(phrases: list[np.ndarray]) -> dict[str, dict]:
    """Measure KPI 1 to 3. The two devices in each place transmit in turn."""
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
            for kpi, limit in P95_LIMITS.items():
                figure = values.get(kpi)
                if figure and "city" in name and figure["p95"] >= limit:
                    print(f"missed: {name}: {kpi} p95 is {figure['p95']}; the limit is {limit}", flush=True)


if __name__ == "__main__":
    main()
