"""Throughput of uploads to a real `patrolink hub`, and their effect on its voice relay, over the loopback interface.

Writes build/bench/hub_uploads.json. A device talks to a group of 30 for 10 s, first without uploads, then while 4
devices upload files of 2 MB in requests of 256 KiB, each on a separate connection, as fast as the hub accepts them. The
hub measures the relay times, from the kernel's time stamp of a packet to its last copy.
"""

import hashlib
import http.client
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for subfolder in ("", "device", "tests/unit"):
    sys.path.insert(0, str(ROOT / subfolder))

from patrolink.emulator.network.broker import Broker  # noqa: E402

from tests.support import console_site, device_client, hub_process, site_file, upload_clients  # noqa: E402

DEVICES = [f"vest-{n}" for n in range(30)]
UPLOADERS, FILE_BYTES, PATCH_BYTES = 4, 2_000_000, 1 << 18
SECONDS = 10
PACKET_S = 0.02


def speak(clients, seconds: float) -> None:
    """Let the first device talk: 160 bytes of A-law every 20 ms."""
    member = clients[0].memberships[1]
    member.request_floor()
    device_client.run_until(clients, lambda: member.events[-1:] == ["GRANTED"])
    due, end = time.monotonic(), time.monotonic() + seconds
    while due < end:
        member.send_voice(bytes(160))
        due += PACKET_S
        device_client.run_for(clients, max(0.001, due - time.monotonic()))
    member.release_floor()
    device_client.run_for(clients, 0.5)


def upload_files(device: str, port: int, sizes: list[int], stop: threading.Event) -> None:
    """Upload files until `stop` is set; add the size of each complete file to `sizes`."""
    connection = http.client.HTTPConnection(upload_clients.HOST, port, timeout=30)
    data = bytes(range(250)) * (FILE_BYTES // 250)
    sha256 = hashlib.sha256(data).hexdigest()

    def request(method: str, path: str, body, fields: dict[str, str], length: str, metadata: str = "") -> str:
        tag = upload_clients.authorization(device, method, path, time.time_ns() // 1_000_000, length, metadata)
        connection.request(method, path, body, {"Tus-Resumable": "1.0.0", "Authorization": tag, **fields})
        response = connection.getresponse()
        response.read()
        assert response.status in (201, 204), response.status
        return response.getheader("Location", "")

    while not stop.is_set():
        metadata = upload_clients.upload_metadata(device, 1, f"000001-{len(sizes):06d}.pls", sha256)
        fields = {"Upload-Length": str(FILE_BYTES), "Upload-Metadata": metadata, "Content-Length": "0"}
        url = request("POST", "/clips", None, fields, str(FILE_BYTES), metadata)
        for at in range(0, FILE_BYTES, PATCH_BYTES):
            fields = {"Upload-Offset": str(at), "Content-Type": "application/offset+octet-stream"}
            request("PATCH", url, data[at : at + PATCH_BYTES], fields, str(at))
        sizes.append(FILE_BYTES)
    connection.close()


def measure(uploads: bool) -> dict:
    """Return the hub's relay times of one talk, with or without concurrent uploads."""
    broker = Broker()
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        port = console_site.free_port()
        group = site_file.GROUP_TEMPLATE.format(id=1, devices=json.dumps(DEVICES), more="")
        site = site_file.SITE_TEMPLATE.format(
            url=broker.url, ports=hub_process.free_ports(2), top="", hub=f'uploads = "127.0.0.1:{port}"', groups=group
        )
        hub = hub_process.HubProcess(Path(folder), site, DEVICES)
        clients = [device_client.DeviceClient(name, hub_process.LoopbackNetwork(broker.port)) for name in DEVICES]
        device_client.join_groups(clients, [1])
        stop, uploaded = threading.Event(), [[] for _ in range(UPLOADERS if uploads else 0)]
        threads = [
            threading.Thread(target=upload_files, args=(DEVICES[-1 - n], port, sizes, stop))
            for n, sizes in enumerate(uploaded)
        ]
        for thread in threads:
            thread.start()
        start = time.monotonic()
        speak(clients, SECONDS)
        stop.set()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - start
        counts = hub.stop()
        for client in clients:
            client.close()
    broker.stop()
    received = len(clients[1].memberships[1].voice)
    sent = round(SECONDS / PACKET_S)
    figures = {"relay": counts["relay"], "heard": received, "spoken": sent}
    return {**figures, "upload_MB_per_s": round(sum(map(sum, uploaded)) / seconds / 1e6, 1)} if uploads else figures


def main() -> None:
    result = {"voice_alone": measure(False), "with_uploads": measure(True)}
    path = ROOT / "build" / "bench" / "hub_uploads.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


main()
