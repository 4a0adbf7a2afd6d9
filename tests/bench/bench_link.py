"""Measure the link over the emulated modem in virtual time: publish, backlog of one hour, flash wear, simulation speed.

Writes build/bench/link.json. The figures depend on the emulation: a UART of 115,200 baud, and 2 to 15 ms per AT
command.
"""

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from patrolink.emulator.network.carrier import PROFILES, Profile  # noqa: E402
from patrolink.emulator.scenarios.outcome import Faults  # noqa: E402
from patrolink.emulator.scenarios.simulation import Simulation  # noqa: E402

from tests.simulation.test_simulation import backlog  # noqa: E402

RTT_MS = 200.0


def publish(dialect: str, tls: bool) -> dict[str, float]:
    """Return milliseconds, round trips, AT commands and sends of one QoS 1 publish."""
    sim = Simulation(Profile(RTT_MS, 0, 0.0, 10_000, 10_000), 1, dialect, tls=tls, settings={"batch_fixes": 60})
    publishes: list[tuple[float, int, int]] = []

    def wrap_publish() -> None:
        publish_frame = sim.device.session.publish

        def measured(frame: bytes) -> None:
            start_ms, commands = sim.scheduler.now, sum(sim.modem.commands.values())
            sends = sim.modem.commands.get("QISEND", 0) + sim.modem.commands.get("CIPSEND", 0)
            publish_frame(frame)
            sends_after = sim.modem.commands.get("QISEND", 0) + sim.modem.commands.get("CIPSEND", 0)
            publishes.append(
                (sim.scheduler.now - start_ms, sum(sim.modem.commands.values()) - commands, sends_after - sends)
            )

        sim.device.session.publish = measured

    sim.scheduler.at(60_000, wrap_publish)
    sim.run(0.25)
    times = sorted(ms for ms, _, _ in publishes)
    return {
        "publishes": len(publishes),
        "median_ms": round(times[len(times) // 2], 1),
        "most_ms": round(times[-1], 1),
        "round_trips_median": round(times[len(times) // 2] / RTT_MS, 2),
        "commands_most": max(commands for _, commands, _ in publishes),
        "writes_most": max(sends for _, _, sends in publishes),
    }


def main() -> None:
    results: dict[str, object] = {}
    for dialect in ("quectel", "simcom"):
        for tls in (False, True):
            results[f"publish {dialect}{' tls' if tls else ''}"] = publish(dialect, tls)
        sim, times = backlog(dialect)
        results[f"backlog {dialect}"] = {
            "frames": times["backlog"],
            "session_after_s": round(times["session"] / 1000, 2),
            "drained_after_s": round(times["drained"] / 1000, 2),
            "frames_waiting_at_sos": times["waiting_at_sos"],
            "sos_s": sim.report.event_max_s,
            "lost": sim.report.lost,
        }
    start = time.perf_counter()
    report = Simulation(PROFILES["city"], 1, faults=Faults()).run(5)
    results["simulation"] = {
        "hours_per_second": round(5 / (time.perf_counter() - start), 2),
        "flash_bytes_per_fix": report.flash_bytes_per_fix,
        "bytes_up_per_fix_with_tls": round(report.bytes_up / report.fixes, 2),
    }
    out = ROOT / "build" / "bench" / "link.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for name, values in results.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in values.items()))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
