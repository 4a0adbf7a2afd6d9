"""Measure what restarts of a hub cost, on a real hub with 1324 devices in 200 groups: see hub_load.py.

Writes build/bench/hub_restart.json. Limits: floors usable in 2 s and all devices reconciled in 60 s after a restart in
which every group has got a new key; exit code 0 after SIGTERM at any moment.
"""

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import bench_rows
import hub_load
import patrolink_messages
import priority
import psutil

from tests.support import hub_process, site_file

REPORT_S = 15  # between two reports of groups of a device
TERMINATIONS, STEP_S = 24, 0.25
_EVENT = {"event_id": 1, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0, "text": b""}
_SAVED_S = 4  # the hub has saved the addresses of the devices
_LOOPBACK = "127.0.0.1"


def until_granted_s(load: hub_load.Load, start_s: float) -> float:
    """Return the seconds from `start_s` until the hub grants the floor to a talker."""
    talker = load.talkers[0]
    hub_load.discard([talker.floor])
    talker.ssrc = talker.sequence = 0
    while not talker.ssrc:
        if time.monotonic() - start_s > 60:
            raise SystemExit("error: the hub granted no floor within 60 s")
        talker.floor.sendto(talker.request(), (_LOOPBACK, load.ports[0]))
        time.sleep(0.02)
        with contextlib.suppress(BlockingIOError, ValueError):
            while True:
                talker.on_floor_packet(talker.floor.recv(2048))
    return time.monotonic() - start_s


def restart(load: hub_load.Load) -> tuple[float, float]:
    """Kill the hub and start it with a site in which each group has lost a member, and therefore has a new key.

    Returns:
        Seconds from the start of the command until the floors are usable, and until all devices hold their groups and
        keys. Devices report their groups in turn, each every REPORT_S.
    """
    expelled = load.listeners[: hub_load.GROUPS]  # one of each group
    keys = {device.name: device.terms["key"] for device in load.devices}
    load.hub.kill()
    names = {device.name for device in expelled}
    members = {g: [name for name in members if name not in names] for g, members in load.members.items()}
    (load.folder / "site.toml").write_text(load.site(members))
    start_s = time.monotonic()
    starting = threading.Thread(target=load.hub.start)
    starting.start()
    usable_s = until_granted_s(load, start_s)
    starting.join()

    def is_reconciled() -> bool:
        return all(device.group not in device.held for device in expelled) and all(
            device.terms["key"] > keys[device.name] for device in load.devices if device.name not in names
        )

    for device in itertools.cycle(load.devices):
        device.floor.sendto(device.group_report(), (_LOOPBACK, load.ports[0]))
        time.sleep(REPORT_S / len(load.devices))
        if is_reconciled():
            return usable_s, time.monotonic() - start_s
        if time.monotonic() - start_s > 120:
            raise SystemExit("error: the devices were not reconciled within 120 s")
    raise AssertionError


def voice_restart_s(load: hub_load.Load) -> float:
    """Return the seconds from kill -9 of the voice until it grants the floor."""
    voice, start_s = load.processes()["voice"], time.monotonic()
    voice.kill()
    voice.wait()
    return until_granted_s(load, start_s)


def sos_s(load: hub_load.Load) -> float:
    """Return the seconds from an SOS that follows a hello of every device until it is answered."""
    device = load.listeners[-1]
    for other in load.devices:
        load.client.publish(f"p/{other.name}/u", other.hello(), qos=1)
    values = {**_EVENT, "time_ms": int(time.time() * 1000)}
    start_s = time.monotonic()
    load.client.publish(f"p/{device.name}/u", device.message(patrolink_messages.EVENT, values), qos=1)
    hub_load.wait_until(lambda: device.states, "the answer to its SOS", 60)
    return time.monotonic() - start_s


def termination(folder: Path, broker: str, delay_s: float) -> int:
    """Start a hub, stop it by SIGTERM after some time, and return its exit code."""
    ports = hub_process.free_ports(2)
    groups = site_file.GROUP_TEMPLATE.format(id=1, devices='["vest-1", "vest-2"]', more="")
    site = site_file.SITE_TEMPLATE.format(url=broker, ports=ports, top="", hub="", groups=groups)
    site_file.write_site(folder, site, ["vest-1", "vest-2"])
    command = [sys.executable, "-m", "patrolink", "hub", str(folder / "site.toml"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    hub = psutil.Process(process.pid)
    while process.poll() is None and not hub.children():  # the interpreter is being started
        time.sleep(0.005)
    time.sleep(delay_s)
    process.send_signal(signal.SIGTERM)
    return process.wait(60)


def main() -> None:
    rows = []
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(priority.raised()):
            print("note: no permission to raise the priority; other programs disturb the figures", file=sys.stderr)
        load = hub_load.Load(stack)
        rows.append(bench_rows.row(f"SOS answered behind {len(load.devices)} hellos", round(sos_s(load), 2), "s"))
        load.wait(_SAVED_S)
        rows.append(bench_rows.row("voice usable after kill -9", round(voice_restart_s(load), 2), "s"))
        load.wait(_SAVED_S)
        usable_s, reconciled_s = restart(load)
        rows.append(bench_rows.row("hub restart, floors usable", round(usable_s, 2), "s"))
        rows.append(
            bench_rows.row("hub restart, all groups with new keys, devices reconciled", round(reconciled_s, 2), "s")
        )
        load.hub.stop()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-stop-")))
        codes = [termination(folder, load.broker.url, i * STEP_S) for i in range(TERMINATIONS)]
        print(json.dumps(codes), file=sys.stderr)
        failed = sum(code != 0 for code in codes)
        rows.append(bench_rows.row(f"of {TERMINATIONS} SIGTERMs, exit code not 0", failed, "hubs"))
    bench_rows.write("hub_restart", rows)


if __name__ == "__main__":
    main()
