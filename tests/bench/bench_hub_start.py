"""Measure the time that a hub takes to read its site and to build its groups, for growing numbers of devices.

Writes build/bench/hub_start.json. Limit: 10,000 devices in 2 s, linear beyond that. "command to ready" is the whole
`patrolink hub`: three processes that start Python and read the site.
"""

import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_rows
import priority

ROOT = Path(__file__).resolve().parent.parent.parent
for subfolder in ("", "device"):
    sys.path.insert(0, str(ROOT / subfolder))

from patrolink.emulator.network.broker import Broker  # noqa: E402
from patrolink.hub.app import Hub  # noqa: E402
from patrolink.hub.config import HubContext  # noqa: E402
from patrolink.hub.platform import SystemPlatform  # noqa: E402

from tests.support import hub_process  # noqa: E402
from tests.support.site_file import GROUP_TEMPLATE, SITE_TEMPLATE  # noqa: E402

GROUP_SIZE = 20


def write_site(folder: Path, devices: int, broker: str) -> Path:
    """Write a site with groups of 20 devices and return the path of its file."""
    names = [f"vest-{i}" for i in range(devices)]
    chunks = [names[at : at + GROUP_SIZE] for at in range(0, devices, GROUP_SIZE)]
    groups = "".join(
        GROUP_TEMPLATE.format(id=1 + i, devices=json.dumps(chunk), more="") for i, chunk in enumerate(chunks)
    )
    site = folder / "site.toml"
    ports = hub_process.free_ports(2)
    site.write_text(SITE_TEMPLATE.format(url=broker, ports=ports, top="", hub="", groups=groups))
    keys = folder / "keys.toml"
    keys.write_text("[devices]\n" + "".join(f'"{name}" = "{secrets.token_hex(32)}"\n' for name in names))
    keys.chmod(0o600)
    return site


def start_s(site: Path) -> float:
    """Return the seconds of a start in a new process, without the start of Python."""
    command = [sys.executable, __file__, str(site)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(site: Path) -> float:
    """Return the seconds from the site file to a hub that is ready to open its servers."""
    start = time.perf_counter()
    Hub(HubContext(site, None), SystemPlatform())
    return time.perf_counter() - start


def command_s(site: Path) -> float:
    """Return the seconds from the start of `patrolink hub` until it reports that it is ready."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "patrolink", "hub", str(site), "--json"]
    hub = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert hub.stdout is not None
    line = hub.stdout.readline()
    assert '"floor_port"' in line, line
    ready_s = time.perf_counter() - start
    hub.terminate()
    hub.communicate()
    return ready_s


def main() -> None:
    rows = []
    with priority.raised(), contextlib.ExitStack() as stack:
        broker = Broker()
        stack.callback(broker.stop)
        for devices in (1124, 10_000, 30_000):
            with tempfile.TemporaryDirectory() as name:
                site = write_site(Path(name), devices, broker.url)
                for run in ("first start", "restart"):
                    rows.append(bench_rows.row(f"{run}, {devices} devices", round(start_s(site), 2), "s"))
                rows.append(bench_rows.row(f"command to ready, {devices} devices", round(command_s(site), 2), "s"))
    bench_rows.write("hub_start", rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(Path(sys.argv[1])))
    else:
        main()
