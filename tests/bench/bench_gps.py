"""Measure the speed of the GPS receiver. Peers parse the same sentences in the same run.

    python tests/bench/bench_gps.py     prints the results and writes build/bench/gps.json

The sentences come in reads of 256 bytes, as from a UART; MicroPython has the heap of a small board.

pynmea2 is one of the test tools. micropyGPS is in no package index. To measure it, set MICROPYGPS to the path of its
file.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 5
HEAP_KB = 192  # of small boards: micropyGPS allocates, and is 7 times as slow with 8 MB to collect
DRIVER = Path(__file__).with_name("gps_driver.py")


def sentences() -> list[bytes]:
    """Return the sentences of the golden logs that pynmea2 accepts."""
    import pynmea2

    accepted = []
    for log in sorted((ROOT / "tests" / "golden" / "nmea").glob("*.log")):
        for line in log.read_bytes().splitlines():
            if line.startswith((b"$G", b"$B")) and line[-3:-2] == b"*" and line.isascii():
                with contextlib.suppress(pynmea2.ParseError):
                    pynmea2.parse(line.decode(), check=True)
                    accepted.append(line + b"\r\n")
    return accepted


def run_driver(runtime: list[str], data: Path, subject: str) -> dict:
    done = subprocess.run(
        [*runtime, str(DRIVER), str(data), str(ROOT / "device"), subject],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def pynmea2_rate(lines: list[str], every_field: bool) -> float:
    import pynmea2

    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for line in lines:
            sentence = pynmea2.parse(line)
            if every_field:
                for field in sentence.fields:
                    getattr(sentence, field[1], None)
        best = min(best, time.perf_counter() - start)
    return len(lines) / best


def main() -> int:
    from patrolink.core import resources

    lines = sentences()
    rows = []

    def add(name: str, value: float, unit: str, peer: str | None = None, peer_value: float | None = None) -> None:
        ratio = round(value / peer_value, 2) if peer_value else None
        rows.append(
            {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio}
        )

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "sentences.nmea"
        data.write_bytes(b"".join(lines))
        micropython = resources.interpreter("micropython") + ["-X", f"heapsize={HEAP_KB}K"]
        agent_result = run_driver(micropython, data, "agent")
        rate = round(agent_result["sentences"] / agent_result["ns"] * 1e9)
        peer = os.environ.get("MICROPYGPS")
        peer_rate = None
        if peer:
            peer_result = run_driver(micropython, data, peer)
            peer_rate = round(peer_result["sentences"] / peer_result["ns"] * 1e9)
        add("gps on micropython", rate, "sentences/s", "micropyGPS on micropython" if peer else None, peer_rate)
        add(
            "gps on micropython, allocated",
            round(agent_result["allocated"] / agent_result["sentences"], 1),
            "bytes/sentence",
        )
        cpython_result = run_driver([sys.executable], data, "agent")
    rate = round(cpython_result["sentences"] / cpython_result["ns"] * 1e9)
    text = [line.decode().strip() for line in lines]
    add(
        "gps on cpython, framed and all fields",
        rate,
        "sentences/s",
        "pynmea2, all fields",
        round(pynmea2_rate(text, True)),
    )
    add("gps on cpython, framed and all fields", rate, "sentences/s", "pynmea2, lazy", round(pynmea2_rate(text, False)))
    out = ROOT / "build" / "bench" / "gps.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        against = f"  {row['ratio']} x {row['peer']} ({row['peer_value']})" if row["peer_value"] else ""
        print(f"{row['name']}: {row['value']} {row['unit']}{against}")
    print(f"{len(lines)} sentences; written to {out.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
