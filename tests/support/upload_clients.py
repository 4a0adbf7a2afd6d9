"""Clients that upload clips to a hub, on a real or a simulated network: the agent's uploader, and raw tus requests."""

import contextlib
import hashlib
import hmac
import json
import random
import socket
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import patrolink_enums as enums
import patrolink_messages
from agent.link.backoff import Backoff
from agent.recording.announcer import clip_manifest_values
from agent.upload import tus
from agent.upload.uploader import Uploader, UploadNetwork
from compat.steps import run_to_completion

from tests.support.device_client import DeviceClient
from tests.support.polling import TIMEOUT_S
from tests.support.site_file import DISPATCHERS, GROUP_TEMPLATE, SITE_TEMPLATE, TOKEN, keys_of

HOST = "127.0.0.1"
DEVICE = "linux-1"
CONSOLE_HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def authorization(device: str, method: str, path: str, ms: int, length="", metadata="", epoch=0, key=None) -> str:
    """Return an Authorization header, implemented independently from the text of CLIP.md."""
    derived = hmac.digest(key or keys_of([device])[device], b"patrolink-upload" + epoch.to_bytes(4, "big"), "sha256")
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
        network: The network: `hub_process.LoopbackNetwork` or `simulated_network.SimulatedNetwork`.
        port: The hub's port for uploads.
        session: The device's session with the broker, or None.
        epoch: Key epoch of the requests.
        kbps: Rate limit of the uploader.
        stream: Returns a TCP stream; by default the network's `tcp_stream`.
    """

    def __init__(
        self,
        device,
        network: Any,
        port: int,
        session: DeviceClient | None = None,
        epoch: int = 0,
        kbps: int = 100_000,
        stream: Callable[[Any], Any] | None = None,
    ) -> None:
        self.device, self.session, self.log, self._network = device, session, [], network
        self.clip_store = device.clip_store
        self.index, self.uploads = self.clip_store.index, self.clip_store.uploads
        key = keys_of([device.name])[device.name]
        client = tus.TusClient(key, device.name.encode(), epoch, f"{HOST}:{port}", "/clips")
        network = UploadNetwork(network.now_ms, lambda: None, stream or network.tcp_stream, lambda: False)
        backoff = Backoff(lambda n: random.randrange(min(n, 200)))  # noqa: S311
        self.agent = Uploader(
            self.uploads, client, network, (HOST, port), kbps, self._unix_ms, backoff, self.log.append
        )

    def _unix_ms(self, _: int = 0) -> int:
        return self._network.unix_ms()

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
        deadline_ms = self._network.now_ms() + 1000 * timeout_s
        while not condition():
            assert self._network.now_ms() < deadline_ms, self.log
            wait_ms = self.agent.step(self._network.now_ms(), False, False)
            self._network.sleep_ms(min(wait_ms, 10))

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
        network: The network; see `DeviceUploader`.
        port: The hub's port for uploads.
    """

    def __init__(self, device: str, network: Any, port: int) -> None:
        self.device, self.network, self.port = device, network, port

    def authorization(self, method: str, path: str, length: str = "", metadata: str = "", **options) -> str:
        """Return an Authorization header of the device; see `authorization`."""
        options.setdefault("ms", self.network.unix_ms())
        return authorization(self.device, method, path, length=length, metadata=metadata, **options)

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
        fields.setdefault("Authorization", self.authorization(method, path, length, fields.get("Upload-Metadata", "")))
        fields.setdefault("Tus-Resumable", "1.0.0")
        if method != "HEAD":
            fields.setdefault("Content-Type", "application/offset+octet-stream")
            fields["Content-Length"] = str(len(body) if content_length is None else content_length)
        head = f"{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        with self.network.connect_tcp(self.port) as connection:
            connection.sendall(head.encode() + b"\r\n" + body)
            if content_length is not None and content_length > len(body):
                self.network.sleep_ms(300)  # the hub may discard data that arrives with the end of the connection
                connection.shutdown(socket.SHUT_WR)
            return self._read_response(connection)

    def _read_response(self, connection) -> Response:
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


def clip_site_text(url: str, ports, upload_port: int, console_port: int, evidence: bool = True) -> str:
    """Return a site file of a hub that receives clips of one device, with a console."""
    return SITE_TEMPLATE.format(
        url=url,
        ports=ports,
        top='evidence_key = "evidence.pem"' if evidence else "",
        hub=f'uploads = "{HOST}:{upload_port}"\nconsole = "{HOST}:{console_port}"',
        groups=GROUP_TEMPLATE.format(id=1, devices=json.dumps([DEVICE]), more="") + DISPATCHERS,
    )


class ClipSite:
    """A hub that receives clips, with a console, and a device that records.

    Args:
        folder: Folder of the site.
        device: The device, a clip_maker.Device.
        hub: The hub.
        network: The network; see `DeviceUploader`.
        port, console_port: Ports of the hub.
    """

    def __init__(self, folder: Path, device, hub, network: Any, port: int, console_port: int) -> None:
        self.folder, self.device, self.hub, self.network = folder, device, hub, network
        self.port, self.console_port = port, console_port
        self.session = DeviceClient(DEVICE, network)
        self.session.send_hello()
        self.uploader = DeviceUploader(self.device, network, self.port, self.session)
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
        states: list[tuple[int, int]] = []

        def are_received() -> bool:
            states.extend(self.uploader.receive_states())
            return len(states) >= count

        self.network.run_until(are_received, lambda: states, timeout_s)
        return states

    def get(self, path: str, **fields: str):
        """Return (status, fields, body) of a GET at the console."""
        return self.network.http_get(self.console_port, path, **{**CONSOLE_HEADERS, **fields})

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
        self.hub.kill()
