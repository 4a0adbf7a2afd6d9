"""Clips into a hub, and what that costs its voice: a real `patrolink hub`, sockets and disk; no network in between.

Writes build/bench/hub_uploads.json. One group of 30 speaks for 10 s without uploads, then while 4 devices send files of
2 MB in requests of 256 KiB, each on a connection of its own, as fast as the hub takes them. Relay times are the hub's
own: from the kernel's stamp of a packet to its last copy.
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
for room in ("", "device", "tests/unit"):
    sys.path.insert(0, str(ROOT / room))

from patrolink.emulator.network.broker import Broker  # noqa: E402

from tests.support import console_site, hub_process, upload_clients  # noqa: E402

DEVICES = [f"vest-{n}" for n in range(30)]
SENDERS, FILE, PATCH = 4, 2_000_000, 1 << 18
SECONDS = 10
PACKET_S = 0.02


def speak(clients, seconds: float) -> None:
    """The first device talks, 160 bytes of A-law each 20 ms."""
    seat = clients[0].seats[1]
    seat.press()
    hub_process.run(clients, lambda: seat.events[-1:] == ["GRANTED"])
    due, end = time.monotonic(), time.monotonic() + seconds
    while due < end:
        seat.speak(bytes(160))
        due += PACKET_S
        hub_process.settle(clients, max(0.001, due - time.monotonic()))
    seat.release()
    hub_process.settle(clients, 0.5)


def send(device: str, port: int, sent: list[int], over: threading.Event) -> None:
    """Upload files until it is over; `sent` gets the bytes of each that is whole at the hub."""
    link = http.client.HTTPConnection(upload_clients.HOST, port, timeout=30)
    data = bytes(range(250)) * (FILE // 250)
    sha256 = hashlib.sha256(data).hexdigest()

    def ask(method: str, path: str, body, fields: dict[str, str], length: str, told: str = "") -> str:
        tag = upload_clients.authorization(device, method, path, length, told)
        link.request(method, path, body, {"Tus-Resumable": "1.0.0", "Authorization": tag, **fields})
        answer = link.getresponse()
        answer.read()
        assert answer.status in (201, 204), answer.status
        return answer.getheader("Location", "")

    while not over.is_set():
        told = upload_clients.metadata(device, 1, f"000001-{len(sent):06d}.pls", sha256)
        fields = {"Upload-Length": str(FILE), "Upload-Metadata": told, "Content-Length": "0"}
        url = ask("POST", "/clips", None, fields, str(FILE), told)
        for at in range(0, FILE, PATCH):
            fields = {"Upload-Offset": str(at), "Content-Type": "application/offset+octet-stream"}
            ask("PATCH", url, data[at : at + PATCH], fields, str(at))
        sent.append(FILE)
    link.close()


def relay(uploads: bool) -> dict:
    """Return what a hub tells of its voice after the speech, with uploads beside it or without."""
    broker = Broker()
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        port = console_site.free_port()
        group = hub_process.GROUP.format(id=1, devices=json.dumps(DEVICES), more="")
        site = hub_process.SITE.format(
            url=broker.url, ports=hub_process.free_ports(2), top="", hub=f'uploads = "127.0.0.1:{port}"', groups=group
        )
        hub = hub_process.HubProcess(Path(folder), site, DEVICES)
        clients = [hub_process.Client(name, broker.port) for name in DEVICES]
        hub_process.join(clients, [1])
        over, sent = threading.Event(), [[] for _ in range(SENDERS if uploads else 0)]
        threads = [
            threading.Thread(target=send, args=(DEVICES[-1 - n], port, mine, over)) for n, mine in enumerate(sent)
        ]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        speak(clients, SECONDS)
        over.set()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        counts = hub.stop()
        for client in clients:
            client.close()
    broker.stop()
    heard = len(clients[1].seats[1].voice)
    spoken = round(SECONDS / PACKET_S)
    facts = {"relay": counts["relay"], "heard": heard, "spoken": spoken}
    return {**facts, "upload_MB_per_s": round(sum(map(sum, sent)) / seconds / 1e6, 1)} if uploads else facts


def main() -> None:
    result = {"voice_alone": relay(False), "with_uploads": relay(True)}
    path = ROOT / "build" / "bench" / "hub_uploads.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


main()
