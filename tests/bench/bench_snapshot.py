"""Measure a dispatcher's snapshot over the `city` radio: from the request until the picture is verified at the hub.

python tests/bench/bench_snapshot.py [snapshots per board, 10]    writes build/bench/snapshot.json

The device reaches broker and upload server through one emulated radio. It opens a new connection for an upload if the
previous one was idle. Limit: 2 s.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from patrolink.emulator.network.carrier import PROFILES  # noqa: E402
from patrolink.emulator.network.tcp_gate import TcpGate  # noqa: E402
from patrolink.emulator.network.udp_gate import HOST, Radio, UdpGate  # noqa: E402
from patrolink.emulator.peripherals.film import default_film  # noqa: E402
from patrolink.emulator.scenarios import incident  # noqa: E402
from patrolink.hub.dispatch import client  # noqa: E402

SEED = 20261125
LIMIT_S = 2.0
_INTERVAL_S = 3.0
_TIMEOUT_S = 20.0


async def take_snapshots(scenario: incident.Incident, n: int) -> list[float]:
    """Take n snapshots; return the seconds until each picture was visible."""
    os.environ[client.TOKEN_VARIABLE] = scenario.station.token
    durations = []
    async with client.connect(scenario.station.url) as hub:
        for _ in range(n):
            begin = time.monotonic()
            await hub.request("command", device=scenario.name, action="snapshot")
            deadline = begin + _TIMEOUT_S
            while True:
                message = await asyncio.wait_for(hub.next_message(), max(0.1, deadline - time.monotonic()))
                if (
                    isinstance(message, dict)
                    and message["type"] == "clip"
                    and message["trigger"] == "photo"
                    and message["picture"]
                ):
                    break
                if (
                    isinstance(message, dict)
                    and message["type"] == "answer"
                    and message["result"] not in ("done", "started")
                ):
                    raise SystemExit(f"{scenario.name} answered: {message}")
            durations.append(time.monotonic() - begin)
            await asyncio.sleep(_INTERVAL_S)
            hub.discard_messages()  # later messages are about this picture
    return durations


def run(board: str, n: int) -> dict[str, object]:
    """Take snapshots with a board and return the figures."""
    with contextlib.ExitStack() as stack:
        out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-snapshot-")))
        gate = UdpGate((), PROFILES["city"], SEED)
        stack.callback(gate.close)
        with gate.locked():
            radio = Radio(gate, PROFILES["city"], SEED)

        def radio_address(port: int) -> incident.Address:
            tcp_gate = TcpGate(gate, port, lambda: radio)
            stack.callback(tcp_gate.close)
            return HOST, tcp_gate.port

        plan = incident.Plan(board, default_film(), 4, 4, PROFILES["city"], SEED, out)
        scenario = incident.Incident(plan, stack, radio_address)
        scenario.await_recording()
        time.sleep(5)
        try:
            durations = sorted(asyncio.run(take_snapshots(scenario, n)))
        finally:
            print(scenario.device.console_text(), file=sys.stderr)
    return {
        "n": n,
        "p50_s": round(durations[n // 2], 2),
        "most_s": round(durations[-1], 2),
        "all_s": [round(s, 2) for s in durations],
    }


def main(n: int) -> int:
    rows = {board: run(board, n) for board in ("linux", "unix")}
    result = {"seed": SEED, "place": "city", **rows}
    path = ROOT / "build" / "bench" / "snapshot.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    for board, row in rows.items():
        print(f"{board}: picture after {row['p50_s']} s (median), {row['most_s']} s (maximum), {n} snapshots")
    return 0 if all(row["most_s"] <= LIMIT_S for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
