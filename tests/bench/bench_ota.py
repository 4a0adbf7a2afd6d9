"""Measure updates over the air of the emulated board through the model of a mobile network in a city.

usage: python tests/bench/bench_ota.py

The campaigns of the hub update real firmware on a virtual clock: by a delta for one changed module, and by the packed
full image: undisturbed, with CUTS losses of coverage, and with CUTS cuts of which every second one is one of power, all
spread over the download. Bytes on air are those of all TCP segments with their IPv4 and TCP headers in both directions,
from the command to the confirmation, set-up and end of the connection counted as SEGMENTS more; positions of the same
time are left out. What cuts cost is counted over the messages of the update, with headers and acknowledgements: a board
that loses its power connects again with an update and without one. Exit code 1 if a limit is exceeded.
"""

import contextlib
import random
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [
    str(ROOT / name) for name in ("", "tests/bench", "tests/unit", "device", "protocol", "protocol/generated")
]

import bench_rows  # noqa: E402
from patrolink.emulator.network.carrier import PROFILES  # noqa: E402
from patrolink.flash.image import build  # noqa: E402
from patrolink.flash.image.image_file import Image  # noqa: E402

from tests.support import agent_images  # noqa: E402
from tests.support.agent_images import BOARD, packed  # noqa: E402
from tests.support.update_shift import UpdateShift  # noqa: E402

SEED = 3
CUTS = 20
ROUND_MS = 400  # a request and its block take about that; a cut comes at any time in it
OFFER_MS = 20_000
SEGMENTS = 7  # SYN, SYN and ACK, ACK, and two FIN with their ACK
HEADERS = 40
LIMITS = {"ota_one_module_air_bytes": 2048, "ota_one_module_seconds": 60}
LIMITS |= {"ota_outages_extra_air_pct": 1, "ota_cuts_extra_air_pct": 1}
MODULE = "agent/wearer/sos.py"
CHANGE = (b"_RETRY_MS = 1000", b"_RETRY_MS = 1500")


def one_module(agent: Image) -> Image:
    """Return a later version with a change in one module."""
    text = (ROOT / "device" / MODULE).read_bytes()
    assert text.count(CHANGE[0]) == 1
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / MODULE
        path.parent.mkdir(parents=True)
        path.write_bytes(text.replace(*CHANGE))
        _inline(path.parent)
        module = build.compile_module(path, Path(name), BOARD.architecture)
    return agent_images.with_file(agent, MODULE.replace(".py", ".mpy"), module)


def _inline(folder: Path) -> None:
    from protocol import inline_constants

    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for module in inline_constants.ALIASES:
            text = inline_constants.inline(text, module, inline_constants.constants(module))
        path.write_text(text, encoding="utf-8")


def air_bytes(run: UpdateShift, connections: int) -> int:
    """Return the bytes on air of an update with so many new connections."""
    return run.air_bytes - run.track_bytes + connections * SEGMENTS * HEADERS


def measure(agent: Image, image: Image, hours: float, outages: int = 0, power_cuts: int = 0) -> UpdateShift:
    """Run a shift in which the board that runs the agent is updated, with outages and cuts of power in turn."""
    run = UpdateShift(BOARD, PROFILES["city"], SEED)
    run.slots.install(agent.payload, 1, confirmed=True)
    run.plan(image, OFFER_MS)
    chance = random.Random(SEED)
    size, cuts = len(image.pack()), outages + power_cuts

    def watch(number: int) -> None:
        if number == cuts or run.is_confirmed:
            return
        if run.blocks >= size * (number + 1) // (cuts + 1):
            run.scheduler.after(chance.uniform(0, ROUND_MS), lambda: cut(number))
            number += 1
        run.scheduler.after(ROUND_MS, lambda: watch(number))

    def cut(number: int) -> None:
        if number % 2 and power_cuts:
            run.board_link.cut_power()
        else:
            run.network.outage(chance.uniform(1_000, 5_000))

    watch(0)
    run.run(hours)
    if not run.is_confirmed:
        raise SystemExit("error: the update is not confirmed; the console ends with:\n" + "\n".join(run.log))
    return run


def rows_of_cuts(name: str, run: UpdateShift, undisturbed: UpdateShift) -> list[dict]:
    """Return what cuts have cost."""
    extra = run.update_bytes - undisturbed.update_bytes
    return [
        bench_rows.row(f"ota_{name}", run.result.power_cuts + run.network.outages, "cuts"),
        bench_rows.row(f"ota_{name}_power", run.result.power_cuts, "cuts"),
        bench_rows.row(f"ota_{name}_extra_image_bytes", run.blocks - undisturbed.blocks, "B"),
        bench_rows.row(f"ota_{name}_extra_air_bytes", extra, "B"),
        bench_rows.row(f"ota_{name}_extra_air_pct", round(100 * extra / undisturbed.update_bytes, 2), "%"),
        bench_rows.row(f"ota_{name}_seconds", round((run.confirmed_ms - run.command_ms) / 1000, 1), "s"),
    ]


def main() -> int:
    agent = agent_images.build_agent()
    new = one_module(agent)
    delta, full = packed(agent, new), packed(None, new)
    run = measure(agent, delta, 0.03)
    rows = [
        bench_rows.row("ota_one_module_image_bytes", len(delta.pack()), "B"),
        bench_rows.row("ota_one_module_air_bytes", air_bytes(run, 1), "B"),
        bench_rows.row("ota_one_module_seconds", round((run.confirmed_ms - run.command_ms) / 1000, 1), "s"),
    ]
    undisturbed = run = measure(agent, full, 0.06)
    rows += [
        bench_rows.row("ota_full_image_bytes", len(full.pack()), "B"),
        bench_rows.row("ota_full_air_bytes", air_bytes(run, 1), "B"),
        bench_rows.row("ota_full_seconds", round((run.confirmed_ms - run.command_ms) / 1000, 1), "s"),
    ]
    rows += rows_of_cuts("outages", measure(agent, full, 0.2, CUTS), undisturbed)
    rows += rows_of_cuts("cuts", measure(agent, full, 0.6, CUTS // 2, CUTS // 2), undisturbed)
    bench_rows.write("ota", rows)
    values = {row["name"]: row["value"] for row in rows}
    missed = [f"{name}: {values[name]} exceeds {limit}" for name, limit in LIMITS.items() if values[name] > limit]
    for line in missed:
        print(line, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
