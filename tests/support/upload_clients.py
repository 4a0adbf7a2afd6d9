"""A device's own uploader, and its frames about clips, to a real hub: what tests of the hub's clips are made of."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import socket
import time
from dataclasses import dataclass, field

import aiohttp
import patrolink_messages
import pytest
from agent.link.backoff import Backoff
from agent.recording.announcer import clip_manifest_values
from agent.upload import tus
from agent.upload.uploader import Uploader, UploadNetwork
from compat.netsock import TcpSocket
from compat.steps import whole

from tests.support import clip_maker, console_site, hub_process
from tests.support.polling import TIMEOUT_S

HOST = "127.0.0.1"
DEVICE = "linux-1"
TOKEN = {"Authorization": f"Bearer {console_site.TOKEN}"}


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def unix(_: int = 0) -> int:
    return time.time_ns() // 1_000_000


def authorization(device: str, method: str, path: str, length="", metadata="", ms=None, epoch=0, key=None) -> str:
    """The header of CLIP.md, made anew from its text."""
    ms = unix() if ms is None else ms
    derived = hmac.digest(
        key or hub_process.keys_of([device])[device], b"patrolink-upload" + epoch.to_bytes(4, "big"), "sha256"
    )
    said = f"{method}\n{path}\n{ms}\n{length}\n{metadata}".encode()
    return f"Patrolink {device}:{ms}:{hmac.digest(derived, said, 'sha256').hex()}"


def manifest_values(clip_store, number: int) -> dict | None:
    """Return the values of clip_manifest of a clip."""
    return whole(clip_manifest_values(clip_store.files, clip_store.index.find(number)))


class Courier:
    """The agent's Uploader with the clip store of a clip_maker.Device; `link` is its broker session, or None."""

    def __init__(
        self, device, port: int, link: "hub_process.Client | None" = None, epoch: int = 0, kbps: int = 100_000
    ) -> None:
        self.device, self.link, self.log = device, link, []
        self.clip_store, self.uploads = device.clip_store, device.clip_store.uploads
        self.index = self.clip_store.index
        key = hub_process.keys_of([device.name])[device.name]
        client = tus.TusClient(key, device.name.encode(), epoch, f"{HOST}:{port}", "/clips")
        way = UploadNetwork(now_ms, lambda: None, TcpSocket, lambda: False)
        backoff = Backoff(lambda n: random.randrange(min(n, 200)))  # noqa: S311
        self.uploader = Uploader(self.uploads, client, way, (HOST, port), kbps, unix, backoff, self.log.append)
        self._told = 0

    def manifests(self) -> None:
        """Tell the hub of the clips that are sealed."""
        for number in sorted(clip.number for clip in self.index.clips):
            values = self.manifest_values(number)
            if values is not None:
                self.link.uplink(patrolink_messages.CLIP_MANIFEST, values)

    def manifest_values(self, number: int) -> dict | None:
        """Return the values of clip_manifest of a clip."""
        return manifest_values(self.clip_store, number)

    def states(self) -> list[tuple[int, int]]:
        """Take what the hub tells of clips, as the device does; return (clip, state) of each."""
        self.link.pump()
        came, self.link.clip_states = self.link.clip_states, []
        for it in came:
            {5: self.clip_store.mark_verified, 7: self.uploads.mark_damaged}[it["state"]](it["clip_id"])
        return [(it["clip_id"], it["state"]) for it in came]

    def run(self, condition, seconds: float = TIMEOUT_S) -> None:
        """Upload until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.log
            wait = self.uploader.step(now_ms(), False, False)
            time.sleep(min(wait, 10) / 1000)

    def all_sent(self) -> bool:
        return next(iter(self.uploads.pending()), None) is None


@dataclass
class Raw:
    """One HTTP request after the other by hand, with a right Authorization unless it is given."""

    device: str
    port: int
    fields: dict = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes = b"", said: int | None = None, **fields: str):
        """Return (status, fields, body). `said`: what Content-Length claims."""
        fields = {name.replace("_", "-"): value for name, value in fields.items()}
        length = fields.get("Upload-Length" if method == "POST" else "Upload-Offset", "") if method != "HEAD" else ""
        fields.setdefault(
            "Authorization", authorization(self.device, method, path, length, fields.get("Upload-Metadata", ""))
        )
        fields.setdefault("Tus-Resumable", "1.0.0")
        if method != "HEAD":
            fields.setdefault("Content-Type", "application/offset+octet-stream")
            fields["Content-Length"] = str(len(body) if said is None else said)
        head = f"{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        with socket.create_connection((HOST, self.port), timeout=TIMEOUT_S) as link:
            link.sendall(head.encode() + b"\r\n" + body)
            if said is not None and said > len(body):
                time.sleep(0.3)  # what comes together with the end of its connection may be lost
                link.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while data := link.recv(65536):
                    answer += data
            except ConnectionResetError:
                pass
        if not answer:
            return 0, {}, b""
        top, _, rest = answer.partition(b"\r\n\r\n")
        first, *lines = top.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), rest

    def create(self, clip: int, name: str, data: bytes, body: bytes = b"", sha256: str = "", **fields: str):
        """Create an upload of these bytes."""
        told = metadata(self.device, clip, name, sha256 or hashlib.sha256(data).hexdigest())
        given = {"Upload-Length": str(len(data)), "Upload-Metadata": told, **fields}
        return self.ask("POST", "/clips", body, **given)


def metadata(device: str, clip: object, name: str, sha256: str) -> str:
    from base64 import b64encode

    pairs = (("device", device), ("clip", str(clip)), ("name", name), ("sha256", sha256))
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in pairs)


class Site:
    """A hub that takes clips, with a console, and a device that has filmed."""

    def __init__(self, folder, broker, evidence=True) -> None:
        self.folder, self.port, self.console = folder, console_site.free_port(), console_site.free_port()
        self.device = clip_maker.Device(DEVICE, folder / "evidence.pem")
        top = 'evidence_key = "evidence.pem"' if evidence else ""
        site = hub_process.SITE.format(
            url=broker.url,
            ports=hub_process.free_ports(2),
            top=top,
            hub=f'uploads = "127.0.0.1:{self.port}"\nconsole = "127.0.0.1:{self.console}"',
            groups=hub_process.GROUP.format(id=1, devices=json.dumps([DEVICE]), more="") + console_site.DISPATCHERS,
        )
        self.hub = hub_process.HubProcess(folder, site, [DEVICE])
        self.link = hub_process.Client(DEVICE, broker.port)
        self.link.hello()
        self.courier = Courier(self.device, self.port, self.link)
        self.clips = folder / "clips"

    def film(self, trigger="button") -> int:
        self.device.run(5)
        number = self.device.event(trigger, 11)
        self.device.run(3)
        return number

    def send(self) -> None:
        """Upload all, with its manifests told before."""
        self.courier.manifests()
        self.courier.run(self.courier.all_sent)

    def states(self, n: int, seconds: float = TIMEOUT_S) -> list[tuple[int, int]]:
        """Wait until the hub has told n states of clips."""
        out, end = [], time.monotonic() + seconds
        while len(out) < n:
            assert time.monotonic() < end, (out, (self.folder / "hub.log").read_text())
            out += self.courier.states()
            time.sleep(0.01)
        return out

    def get(self, path: str, **fields: str):
        return asyncio.run(self._get(path, fields))

    async def _get(self, path, fields):
        async with (
            aiohttp.ClientSession(headers={**TOKEN, **fields}) as session,
            session.get(f"http://127.0.0.1:{self.console}{path}") as answer,
        ):
            return answer.status, answer.headers, await answer.read()

    def rows(self) -> dict[int, dict]:
        status, _, body = self.get("/clips")
        assert status == 200, body
        return {row["clip"]: row for row in json.loads(body)}

    def lines(self, name: str) -> list[dict]:
        path = self.clips / name if name == "access.jsonl" else self.folder / "state" / "shard-0" / name
        return [json.loads(line) for line in path.read_text().splitlines()]

    def close(self) -> None:
        self.link.close()
        if self.hub.process.poll() is None:
            self.hub.kill()


@pytest.fixture
def site(tmp_path, broker):
    """A hub that takes clips, and a device that films."""
    with contextlib.closing(Site(tmp_path, broker)) as it:
        yield it
