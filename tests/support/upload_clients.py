"""Clients that upload clips to a real hub: the agent's uploader, and raw tus requests."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import socket
import time
from base64 import b64encode
from pathlib import Path
from typing import NamedTuple

import aiohttp
import patrolink_enums as enums
import patrolink_messages
import pytest
from agent.link.backoff import Backoff
from agent.recording.announcer import clip_manifest_values
from agent.upload import tus
from agent.upload.uploader import Uploader, UploadNetwork
from compat.netsock import TcpSocket
from compat.steps import run_to_completion

from tests.support import clip_maker, console_site, device_client, hub_process, site_file
from tests.support.polling import TIMEOUT_S

HOST = "127.0.0.1"
DEVICE = "linux-1"
CONSOLE_HEADERS = {"Authorization": f"Bearer {console_site.TOKEN}"}


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def unix_ms(_: int = 0) -> int:
    return time.time_ns() // 1_000_000


def authorization(device: str, method: str, path: str, length="", metadata="", ms=None, epoch=0, key=None) -> str:
    """Return an Authorization header, implemented independently from the text of CLIP.md."""
    ms = unix_ms() if ms is None else ms
    derived = hmac.digest(
        key or site_file.keys_of([device])[device], b"patrolink-upload" + epoch.to_bytes(4, "big"), "sha256"
    )
    message = f"{method}\n{path}\n{ms}\n{length}\n{metadata}".encode()
    return f"Patrolink {device}:{ms}:{hmac.digest(derived, message, 'sha256').hex()}"


def upload_metadata(device: str, clip: object, name: str, sha256: str) -> str:
    """Return an Upload-Metadata header."""
    pairs = (("device", device), ("clip", str(clip)), ("name", name), ("sha256", sha256))
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in pairs)


def manifest_values(clip_store, number: int) -> dict | None:
    """Return the values of a clip's clip_manifest message; None while the clip has no manifest."""
    return run_to_completion(clip_manifest_values(clip_store.files, clip_store.index.find(number)))


class DeviceUploader:
    """The agent's Uploader with the clip store of a device.

    Attributes:
        agent: The agent's Uploader.
        clip_store: The device's clip store.
        index: Clip index of the device.
        uploads: Upload queue of the device.
        log: Log lines of the uploader.

    Args:
        device: A clip_maker.Device.
        port: The hub's port for uploads.
        session: The device's session with the broker, or None.
        epoch: Key epoch of the requests.
        kbps: Rate limit of the uploader.
        socket_type: Class of its sockets.
    """

    def __init__(
        self,
        device,
        port: int,
        session: "device_client.DeviceClient | None" = None,
        epoch: int = 0,
        kbps: int = 100_000,
        socket_type: type[TcpSocket] = TcpSocket,
    ) -> None:
        self.device, self.session, self.log = device, session, []
        self.clip_store = device.clip_store
        self.index, self.uploads = self.clip_store.index, self.clip_store.uploads
        key = site_file.keys_of([device.name])[device.name]
        client = tus.TusClient(key, device.name.encode(), epoch, f"{HOST}:{port}", "/clips")
        network = UploadNetwork(monotonic_ms, lambda: None, socket_type, lambda: False)
        backoff = Backoff(lambda n: random.randrange(min(n, 200)))  # noqa: S311
        self.agent = Uploader(self.uploads, client, network, (HOST, port), kbps, unix_ms, backoff, self.log.append)

    def announce_clips(self) -> None:
        """Send clip_manifest for every sealed clip."""
        for number in sorted(clip.number for clip in self.index.clips):
            values = self.manifest_values(number)
            if values is not None:
                self.session.send_message(patrolink_messages.CLIP_MANIFEST, values)

    def manifest_values(self, number: int) -> dict | None:
        """Return the values of a clip's clip_manifest message; None while the clip has no manifest."""
        return manifest_values(self.clip_store, number)

    def receive_states(self) -> list[tuple[int, int]]:
        """Process received clip_state messages like the device; return (clip, state) of each."""
        self.session.process()
        messages, self.session.clip_states = self.session.clip_states, []
        handlers = {
            enums.CLIP_STATE_STATE_VERIFIED: self.clip_store.mark_verified,
            enums.CLIP_STATE_STATE_DAMAGED: self.uploads.mark_damaged,
        }
        for message in messages:
            handlers[message["state"]](message["clip_id"])
        return [(message["clip_id"], message["state"]) for message in messages]

    def run_until(self, condition, timeout_s: float = TIMEOUT_S) -> None:
        """Upload until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.log
            wait_ms = self.agent.step(monotonic_ms(), False, False)
            time.sleep(min(wait_ms, 10) / 1000)

    def is_done(self) -> bool:
        """Return whether everything has been uploaded."""
        return next(iter(self.uploads.pending()), None) is None


class Response(NamedTuple):
    """An HTTP response. The status is 0 if the connection was closed without a response."""

    status: int
    fields: dict[str, str]
    body: bytes


class RawTusClient:
    """Sends raw HTTP requests, each on a new connection, by default with a valid Authorization.

    Args:
        device: The device that signs the requests.
        port: The hub's port for uploads.
    """

    def __init__(self, device: str, port: int) -> None:
        self.device, self.port = device, port

    def request(
        self, method: str, path: str, body: bytes = b"", content_length: int | None = None, **fields: str
    ) -> Response:
        """Send a request.

        Args:
            method: HTTP method.
            path: Path and query.
            body: The body.
            content_length: Value of Content-Length; by default the length of the body.
            **fields: Header fields, with _ instead of -; None removes a field.
        """
        fields = {name.replace("_", "-"): value for name, value in fields.items()}
        length = fields.get("Upload-Length" if method == "POST" else "Upload-Offset", "") if method != "HEAD" else ""
        fields.setdefault(
            "Authorization", authorization(self.device, method, path, length, fields.get("Upload-Metadata", ""))
        )
        fields.setdefault("Tus-Resumable", "1.0.0")
        if method != "HEAD":
            fields.setdefault("Content-Type", "application/offset+octet-stream")
            fields["Content-Length"] = str(len(body) if content_length is None else content_length)
        head = f"{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        with socket.create_connection((HOST, self.port), timeout=TIMEOUT_S) as connection:
            connection.sendall(head.encode() + b"\r\n" + body)
            if content_length is not None and content_length > len(body):
                time.sleep(0.3)  # the hub may discard data that arrives together with the end of the connection
                connection.shutdown(socket.SHUT_WR)
            return self._read_response(connection)

    def _read_response(self, connection: socket.socket) -> Response:
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while block := connection.recv(65536):
                data += block
        if not data:
            return Response(0, {}, b"")
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return Response(int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body)

    def create(self, clip: int, name: str, data: bytes, body: bytes = b"", sha256: str = "", **fields: str) -> Response:
        """Create an upload of `data` with `body` in the request."""
        metadata = upload_metadata(self.device, clip, name, sha256 or hashlib.sha256(data).hexdigest())
        fields = {"Upload-Length": str(len(data)), "Upload-Metadata": metadata, **fields}
        return self.request("POST", "/clips", body, **fields)


class ClipSite:
    """A hub that receives clips, with a console, and a device that records.

    Args:
        folder: Folder of the site.
        broker: The MQTT broker.
        evidence: Whether the hub has the evidence key.
    """

    def __init__(self, folder: Path, broker, evidence: bool = True) -> None:
        self.folder, self.port, self.console_port = folder, console_site.free_port(), console_site.free_port()
        self.device = clip_maker.Device(DEVICE, folder / "evidence.pem")
        site = site_file.SITE_TEMPLATE.format(
            url=broker.url,
            ports=hub_process.free_ports(2),
            top='evidence_key = "evidence.pem"' if evidence else "",
            hub=f'uploads = "{HOST}:{self.port}"\nconsole = "{HOST}:{self.console_port}"',
            groups=site_file.GROUP_TEMPLATE.format(id=1, devices=json.dumps([DEVICE]), more="")
            + console_site.DISPATCHERS,
        )
        self.hub = hub_process.HubProcess(folder, site, [DEVICE])
        self.session = device_client.DeviceClient(DEVICE, hub_process.LoopbackNetwork(broker.port))
        self.session.send_hello()
        self.uploader = DeviceUploader(self.device, self.port, self.session)
        self.clips = folder / "clips"

    def record_clip(self, trigger: str = "button") -> int:
        """Record a clip and return its number."""
        self.device.run(5)
        number = self.device.event(trigger, 11)
        self.device.run(3)
        return number

    def upload_all(self) -> None:
        """Announce the clips, then upload everything."""
        self.uploader.announce_clips()
        self.uploader.run_until(self.uploader.is_done)

    def wait_for_states(self, count: int, timeout_s: float = TIMEOUT_S) -> list[tuple[int, int]]:
        """Wait for clip_state messages and return (clip, state) of each."""
        states, deadline = [], time.monotonic() + timeout_s
        while len(states) < count:
            assert time.monotonic() < deadline, (states, (self.folder / "hub.log").read_text())
            states += self.uploader.receive_states()
            time.sleep(0.01)
        return states

    def get(self, path: str, **fields: str):
        """Return (status, fields, body) of a GET at the console."""
        return asyncio.run(self._get(path, fields))

    async def _get(self, path, fields):
        async with (
            aiohttp.ClientSession(headers={**CONSOLE_HEADERS, **fields}) as session,
            session.get(f"http://{HOST}:{self.console_port}{path}") as response,
        ):
            return response.status, response.headers, await response.read()

    def rows(self) -> dict[int, dict]:
        """Return the console's list of clips, by number."""
        status, _, body = self.get("/clips")
        assert status == 200, body
        return {row["clip"]: row for row in json.loads(body)}

    def log_rows(self, name: str) -> list[dict]:
        """Return the rows of the access log, or of another log in the hub's state folder."""
        path = self.clips / name if name == "access.jsonl" else self.folder / "state" / "shard-0" / name
        return [json.loads(line) for line in path.read_text().splitlines()]

    def close(self) -> None:
        """Stop the hub."""
        self.session.close()
        if self.hub.process.poll() is None:
            self.hub.kill()


@pytest.fixture
def site(tmp_path, broker):
    """A ClipSite with an evidence key."""
    with contextlib.closing(ClipSite(tmp_path, broker)) as clip_site:
        yield clip_site
