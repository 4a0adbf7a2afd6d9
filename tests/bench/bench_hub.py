"""Load test of a hub: 200 groups talk at once to 1124 listeners; see hub_load.py.

Writes build/bench/hub.json. After the required load, the rate is increased up to the saturation point, at which packets
are lost or the 95th percentile exceeds 5 ms.
"""

import contextlib
import json
import sys

import hub_load
import priority

STEPS = ((60.0, 10.0), (40.0, 4.0), (30.0, 4.0), (24.0, 4.0), (20.0, 4.0), (15.0, 4.0), (12.0, 4.0))  # ms, seconds
LIMIT_P95_MS = 5.0


def main() -> None:
    results: list[dict] = []
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(priority.raised()):
            print("note: no permission to raise the priority; other programs disturb the figures", file=sys.stderr)
        load = hub_load.Load(stack)
        for interval_ms, seconds in STEPS:
            results.append(load.measure(seconds, interval_ms))
            print(json.dumps(results[-1]), flush=True)
            if results[-1]["lost"] or results[-1]["p95_ms"] >= LIMIT_P95_MS:
                break
        counts_of_hub = load.hub.stop()
    passed = [result for result in results if not result["lost"] and result["p95_ms"] < LIMIT_P95_MS]
    report = {
        "groups": hub_load.GROUPS,
        "listeners": hub_load.LISTENERS,
        "steps": results,
        "carries_out_per_s": passed[-1]["out_per_s"] if passed else 0,
        "saturates_at_out_per_s": None if results[-1] in passed else results[-1]["out_per_s"],
        "hub": {
            name: counts_of_hub.get(name, 0)
            for name in ("voice_in", "voice_out", "send_full", "send_failed", "refused")
        },
        "hub_relay": counts_of_hub["relay"],
    }
    out = hub_load.ROOT / "build" / "bench" / "hub.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in report.items() if name != "steps"}))
    if results[0] not in passed:
        print("requirement missed: 200 groups and 1124 listeners without loss and with p95 below 5 ms")


if __name__ == "__main__":
    main()
