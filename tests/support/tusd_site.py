"""tusd and nginx as protocol/CLIP.md configures them, and the hook service between them and the hub.

tusd receives uploads; the hub verifies and releases clips. The hook service accepts uploads only from devices and
forwards complete uploads to the hub.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from patrolink.core.clock import SystemClock
from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards.device import end_with_parent
from patrolink.hub.clips.upload_authorization import UnauthorizedError, UploadAuthorization
from patrolink.hub.infra.attempt_limiter import TooManyAttemptsError

from tests.support import console_site, site_file, upload_clients
from tests.support.hub_process import LoopbackNetwork
from tests.support.polling import wait_until

CLIP_MD = Path(__file__).parents[2] / "protocol" / "CLIP.md"
_RETRY, _RESTART = 401, 403  # HTTP statuses: the device retries the request; the device restarts the upload
_REFUSED = (400, 409, 413, 460)  # HTTP statuses of the hub for a file that it refuses permanently


class HookService:
    """Handles the hooks of tusd and the authorization requests of nginx.

    Args:
        hub: Port of the hub's `uploads`.
        devices: Names of the devices.
        read: Function(storage) that returns the bytes of a complete upload.

    Attributes:
        finished: Complete uploads that the hub has not accepted yet, by path.
    """

    def __init__(self, hub: int, devices, read) -> None:
        self.hub, self._read = hub, read
        self.finished: dict[str, dict] = {}
        self._accepted: dict[tuple, str] = {}  # identity of an accepted file -> path of the upload
        keys = {name: DeviceKey(key) for name, key in site_file.keys_of(devices).items()}
        self._authorization = UploadAuthorization(keys.get, SystemClock())
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": self}))
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def authorize(self, method: str, uri: str, fields) -> tuple[int, str]:
        """Return (204, device), or the HTTP status and the reason of a refusal."""
        try:
            return 204, self._authorization.authorize(method, uri, fields, "")
        except (UnauthorizedError, TooManyAttemptsError) as e:
            return 401, str(e)

    def authorize_upload(self, method: str, uri: str, fields) -> int:
        """Return the HTTP status with which nginx allows or refuses a PATCH or HEAD.

        A complete upload is forwarded to the hub first.
        """
        status, device = self.authorize(method, uri, fields)
        if status == 204 and not uri.startswith(f"/clips/{device}/"):
            return _RESTART
        upload = self.finished.get(uri)
        return status if status != 204 or upload is None else self._forward(uri, upload)

    def hook(self, kind: str, upload: dict, request: dict) -> dict:
        """Return the response to a hook of tusd."""
        if kind == "pre-create":
            fields = {name: value[0] for name, value in request["Header"].items()}
            status, device = self.authorize(request["Method"], request["URI"], fields)
            metadata = upload["MetaData"]
            if status != 204:
                return {"RejectUpload": True, "HTTPResponse": {"StatusCode": status, "Body": device}}
            if metadata.get("device") != device or not re.fullmatch("[0-9]{1,6} [0-9-]{6,13}.pl[ms]", _place(metadata)):
                return {
                    "RejectUpload": True,
                    "HTTPResponse": {"StatusCode": 400, "Body": "not a file of the device's clips"},
                }
            if path := self._accepted.get(_identity(upload)):
                header = {"Location": path, "Upload-Offset": str(upload["Size"])}
                return {"RejectUpload": True, "HTTPResponse": {"StatusCode": 201, "Header": header}}
            name = f"{device}/{metadata['clip']}/{secrets.token_hex(8)}/{metadata['name']}"
            return {"ChangeFileInfo": {"ID": name}}
        uri = "/clips/" + upload["ID"]
        self.finished[uri] = upload
        status = self._forward(uri, upload)
        return {} if status == 204 else {"HTTPResponse": {"StatusCode": 503 if status == _RETRY else 460}}

    def _forward(self, uri: str, upload: dict) -> int:
        """Upload a file to the hub on behalf of its device; return the HTTP status for the device."""
        metadata = upload["MetaData"]
        raw = upload_clients.RawTusClient(metadata["device"], LoopbackNetwork(), self.hub)
        data = self._read(upload["Storage"])
        try:
            status, _, _ = raw.create(int(metadata["clip"]), metadata["name"], data, data, metadata["sha256"])
        except OSError:
            status = 0
        if status == 201:
            self._accepted[_identity(upload)] = uri
            self.finished.pop(uri, None)
            return 204
        return _RESTART if status in _REFUSED else _RETRY


def _place(metadata: dict) -> str:
    return f"{metadata.get('clip')} {metadata.get('name')}"


def _identity(upload: dict) -> tuple:
    metadata = upload["MetaData"]
    return metadata["device"], metadata["clip"], metadata["name"], metadata["sha256"], upload["Size"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: HookService

    def do_GET(self) -> None:
        fields = self.headers
        self._answer(self.service.authorize_upload(fields["X-Original-Method"], fields["X-Original-URI"], fields))

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        event = request["Event"]
        self._answer(
            200, json.dumps(self.service.hook(request["Type"], event["Upload"], event["HTTPRequest"])).encode()
        )

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


def read_file(storage: dict) -> bytes:
    """Return the bytes of a complete upload on disk."""
    return Path(storage["Path"]).read_bytes()


class ObjectStorage:
    """S3 server of moto with one bucket."""

    KEYS = {"AWS_ACCESS_KEY_ID": "site", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := console_site.free_port())}"
        with (folder / "storage.log").open("ab") as log:
            command = [_program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
            self._process = subprocess.Popen(end_with_parent(command), stdout=log, stderr=log)
        wait_until(lambda: _open(port))
        self._request("-X", "PUT", f"{self.url}/clips")

    def _request(self, *arguments: str) -> bytes:
        signed = ("--aws-sigv4", "aws:amz:us-east-1:s3", "--user", "site:secret")
        curl = _program("curl")
        return subprocess.run([curl, "-sS", "--fail", *signed, *arguments], check=True, capture_output=True).stdout

    def read(self, storage: dict) -> bytes:
        return self._request(f"{self.url}/{storage['Bucket']}/{storage['Key']}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


_INSTALL = {
    "tusd": "tus.github.io/tusd/getting-started/installation",
    "nginx": "apt-get install nginx",
    "moto_server": "pip install moto[server]",
    "curl": "apt-get install curl",
}


def _program(name: str) -> str:
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    return path or pytest.skip(f"no {name} on the PATH ({_INSTALL[name]})")


def skip_if_missing(objects: bool) -> None:
    """Skip the test if a required program is missing."""
    for name in list(_INSTALL)[: None if objects else 2]:
        _program(name)


class TusdSite:
    """nginx, tusd and the hook service in front of a hub.

    Attributes:
        port: Port to which devices upload.
        tusd: Port of tusd.
        hooks: The HookService.
    """

    def __init__(self, folder: Path, hub: int, devices, objects: bool) -> None:
        tusd, nginx = _program("tusd"), _program("nginx")
        folder.mkdir()
        self._objects = ObjectStorage(folder) if objects else None
        self.folder, self.port, self.tusd = folder, console_site.free_port(), console_site.free_port()
        read = self._objects.read if self._objects else read_file
        self.hooks = HookService(hub, devices, read)
        text = CLIP_MD.read_text()
        flags, block = (
            re.search(pattern, text, re.S)[1] for pattern in (r"\n    tusd (.*?)\n\n", r"\n(    server .*?)\n\n")
        )
        block = re.sub(r" *ssl_.*\n", "", block).replace("8443 ssl", f"127.0.0.1:{self.port}")
        for documented, port in (("8080", self.tusd), ("8081", self.hooks.port)):
            flags, block = flags.replace(documented, str(port)), block.replace(f":{documented};", f":{port};")
        temp_paths = "".join(
            f"{part}_temp_path {folder}/{part};" for part in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log off; {temp_paths}\n{block} }}\n"
        )
        flags = flags.replace("\\\n", " ").replace(" -s3-bucket clips", "").split()
        if self._objects is None:
            flags += ["-upload-dir", f"{folder}/uploads"]
        else:
            flags += ["-s3-bucket", "clips", "-s3-endpoint", self._objects.url]
        self._commands = [tusd, *flags], [nginx, "-e", f"{folder}/first.log", "-c", f"{folder}/nginx.conf"]
        self._running: list[subprocess.Popen] = []
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            settings = {**os.environ, **ObjectStorage.KEYS, "AWS_EC2_METADATA_DISABLED": "true"}
            self._running = [
                subprocess.Popen(end_with_parent(command), stdout=log, stderr=log, env=settings)
                for command in self._commands
            ]
        for port in (self.port, self.tusd):
            wait_until(lambda port=port: _open(port), lambda: (self.folder / "log").read_text())

    def kill(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def close(self) -> None:
        self.kill()
        self.hooks.close()
        if self._objects is not None:
            self._objects.close()


def _open(port: int) -> bool:
    with contextlib.suppress(OSError):
        upload_clients.RawTusClient("", LoopbackNetwork(), port).request("GET", "/")
        return True
    return False
