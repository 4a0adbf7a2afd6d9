"""A dispatcher's snapshot in the `city`: from the request at the hub until the picture is there and verified.

python tests/bench/bench_snapshot.py [snapshots a board, 10]    writes build/bench/snapshot.json

Broker and uploads are reached through the emulated air, which a device's TCP connections share; the upload's connection
is opened anew when there was nothing to send for a while. Bar: 2 s.
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

from patrolink.core import resources  # noqa: E402
from patrolink.emulator.network.carrier import PROFILES  # noqa: E402
from patrolink.emulator.network.tcp_gate import TcpGate  # noqa: E402
from patrolink.emulator.network.udp_gate import HOST, Radio, UdpGate  # noqa: E402
from patrolink.emulator.scenarios import incident  # noqa: E402
from patrolink.hub.dispatch import client  # noqa: E402

SEED = 20261125
BAR_S = 2.0
_APART_S = 3.0
_WAIT_S = 20.0


async def snapshots(it: incident.Incident, n: int) -> list[float]:
    """Ask n times; return the seconds until each picture could be seen."""
    os.environ[client.TOKEN_VARIABLE] = it.station.token
    took = []
    async with client.connect(it.station.url) as hub:
        for _ in range(n):
            began = time.monotonic()
            await hub.request("command", device=it.name, action="snapshot")
            deadline = began + _WAIT_S
            while True:
                told = await asyncio.wait_for(hub.next_message(), max(0.1, deadline - time.monotonic()))
                if isinstance(told, dict) and told["type"] == "clip" and told["trigger"] == "photo" and told["picture"]:
                    break
                if isinstance(told, dict) and told["type"] == "answer" and told["result"] not in ("done", "started"):
                    raise SystemExit(f"{it.name} answered: {told}")
            took.append(time.monotonic() - began)
            await asyncio.sleep(_APART_S)
            hub.discard_messages()  # the rest concerns this picture
    return took


def run(board: str, n: int) -> dict[str, object]:
    """Return the row of a board."""
    with contextlib.ExitStack() as stack:
        out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-snapshot-")))
        gate = UdpGate((), PROFILES["city"], SEED)
        stack.callback(gate.close)
        with gate.locked():
            radio = Radio(gate, PROFILES["city"], SEED)

        def air(port: int) -> incident.Address:
            way = TcpGate(gate, port, lambda: radio)
            stack.callback(way.close)
            return HOST, way.port

        plan = incident.Plan(board, resources.demo_video(), 4, 4, PROFILES["city"], SEED, out)
        it = incident.Incident(plan, stack, air)
        it.await_recording()
        time.sleep(5)
        try:
            took = sorted(asyncio.run(snapshots(it, n)))
        finally:
            print(it.device.console_text(), file=sys.stderr)
    return {"n": n, "p50_s": round(took[n // 2], 2), "most_s": round(took[-1], 2), "all_s": [round(s, 2) for s in took]}


def main(n: int) -> int:
    rows = {board: run(board, n) for board in ("linux", "unix")}
    result = {"seed": SEED, "place": "city", **rows}
    path = ROOT / "build" / "bench" / "snapshot.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    for board, row in rows.items():
        print(f"{board}: picture after {row['p50_s']} s (median), {row['most_s']} s at most, of {n}")
    return 0 if all(row["most_s"] <= BAR_S for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
