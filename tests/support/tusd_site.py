"""tusd as protocol/CLIP.md has a site run it, its configuration taken from there, and the service before the hub.

tusd takes uploads; the hub verifies and releases. The service lets only devices in, and hands on what is whole.
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
from patrolink.hub.clips.upload_authorization import UnauthorizedError, UploadAuthorization
from patrolink.hub.infra.attempt_limiter import TooManyAttemptsError

from tests.support import console_site, hub_process, upload_clients
from tests.support.polling import wait_until

CLIP_MD = Path(__file__).parents[2] / "protocol" / "CLIP.md"
_LATER, _ANEW, _REFUSED = 401, 403, (400, 409, 413, 460)  # what a device does then; what the hub says of a spoilt file


class Between:
    """The service. hub: port of the hub's `uploads`; finished: what is whole at tusd and the hub has not taken."""

    def __init__(self, hub: int, devices) -> None:
        self.hub = hub
        self.finished: dict[str, dict] = {}
        self._taken: dict[tuple, str] = {}  # what the hub has: where it was uploaded to
        keys = {name: DeviceKey(key) for name, key in hub_process.keys_of(devices).items()}
        self._authorization = UploadAuthorization(keys.get, SystemClock())
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"between": self}))
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def read(self, storage: dict) -> bytes:
        """Return the bytes of an upload that is whole, from where tusd says that they are."""
        return Path(storage["Path"]).read_bytes()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def authorize(self, method: str, uri: str, fields) -> tuple[int, str]:
        """Return (204, device), or the status that refuses the request and why."""
        try:
            return 204, self._authorization.authorize(method, uri, fields, "")
        except (UnauthorizedError, TooManyAttemptsError) as e:
            return 401, str(e)

    def may_go_on(self, method: str, uri: str, fields) -> int:
        """nginx asks before each PATCH and HEAD. tusd holds whole what it has whole: the hub must have it, too."""
        status, device = self.authorize(method, uri, fields)
        if status == 204 and not uri.startswith(f"/clips/{device}/"):
            return _ANEW
        upload = self.finished.get(uri)
        return status if status != 204 or upload is None else self._hand_on(uri, upload)

    def hook(self, kind: str, upload: dict, request: dict) -> dict:
        """Return what tusd does about it."""
        if kind == "pre-create":
            fields = {name: value[0] for name, value in request["Header"].items()}
            status, device = self.authorize(request["Method"], request["URI"], fields)
            said = upload["MetaData"]
            if status != 204:
                return {"RejectUpload": True, "HTTPResponse": {"StatusCode": status, "Body": device}}
            if said.get("device") != device or not re.fullmatch("[0-9]{1,6} [0-9-]{6,13}.pl[ms]", _place(said)):
                return {"RejectUpload": True, "HTTPResponse": {"StatusCode": 400, "Body": "no file of its clips"}}
            if there := self._taken.get(_identity(upload)):
                told = {"Location": there, "Upload-Offset": str(upload["Size"])}
                return {"RejectUpload": True, "HTTPResponse": {"StatusCode": 201, "Header": told}}
            name = f"{device}/{said['clip']}/{secrets.token_hex(8)}/{said['name']}"
            return {"ChangeFileInfo": {"ID": name}}
        uri = "/clips/" + upload["ID"]
        self.finished[uri] = upload
        status = self._hand_on(uri, upload)
        return {} if status == 204 else {"HTTPResponse": {"StatusCode": 503 if status == _LATER else 460}}

    def _hand_on(self, uri: str, upload: dict) -> int:
        """Send a file to the hub as its device would; return what its device is to be answered."""
        said = upload["MetaData"]
        raw = upload_clients.RawTusClient(said["device"], self.hub)
        data = self.read(upload["Storage"])
        try:
            status, _, _ = raw.create(int(said["clip"]), said["name"], data, data, said["sha256"])
        except OSError:
            status = 0
        if status == 201:
            self._taken[_identity(upload)] = uri
            self.finished.pop(uri, None)
            return 204
        return _ANEW if status in _REFUSED else _LATER


def _place(said: dict) -> str:
    return f"{said.get('clip')} {said.get('name')}"


def _identity(upload: dict) -> tuple:
    said = upload["MetaData"]
    return said["device"], said["clip"], said["name"], said["sha256"], upload["Size"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    between: Between

    def do_GET(self) -> None:
        fields = self.headers
        self._answer(self.between.may_go_on(fields["X-Original-Method"], fields["X-Original-URI"], fields))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        event = asked["Event"]
        self._answer(200, json.dumps(self.between.hook(asked["Type"], event["Upload"], event["HTTPRequest"])).encode())

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


class ObjectStorage:
    """moto's S3, with a bucket."""

    KEYS = {"AWS_ACCESS_KEY_ID": "site", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := console_site.free_port())}"
        with (folder / "storage.log").open("ab") as log:
            command = [_program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: _open(port))
        self._ask("-X", "PUT", f"{self.url}/clips")

    def _ask(self, *words: str) -> bytes:
        signed = ("--aws-sigv4", "aws:amz:us-east-1:s3", "--user", "site:secret")
        curl = _program("curl")
        return subprocess.run([curl, "-sS", "--fail", *signed, *words], check=True, capture_output=True).stdout

    def read(self, storage: dict) -> bytes:
        return self._ask(f"{self.url}/{storage['Bucket']}/{storage['Key']}")

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
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    return found or pytest.skip(f"no {name} on the PATH ({_INSTALL[name]})")


def needs(objects: bool) -> None:
    """Skip where a program that it takes is missing."""
    for name in list(_INSTALL)[: None if objects else 2]:
        _program(name)


class Front:
    """nginx, tusd and the service before a hub. port: where devices upload to; tusd: its own port."""

    def __init__(self, folder: Path, hub: int, devices, objects: bool) -> None:
        tusd, nginx = _program("tusd"), _program("nginx")
        folder.mkdir()
        self._objects = ObjectStorage(folder) if objects else None
        self.folder, self.port, self.tusd = folder, console_site.free_port(), console_site.free_port()
        self.between = Between(hub, devices)
        text = CLIP_MD.read_text()
        flags, block = (re.search(it, text, re.S)[1] for it in (r"\n    tusd (.*?)\n\n", r"\n(    server .*?)\n\n"))
        block = re.sub(r" *ssl_.*\n", "", block).replace("8443 ssl", f"127.0.0.1:{self.port}")
        for before, after in (("8080", self.tusd), ("8081", self.between.port)):
            flags, block = flags.replace(before, str(after)), block.replace(f":{before};", f":{after};")
        own = "".join(f"{it}_temp_path {folder}/{it};" for it in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log off; {own}\n{block} }}\n"
        )
        flags = flags.replace("\\\n", " ").replace(" -s3-bucket clips", "").split()
        if self._objects is None:
            flags += ["-upload-dir", f"{folder}/uploads"]
        else:
            flags += ["-s3-bucket", "clips", "-s3-endpoint", self._objects.url]
            self.between.read = self._objects.read
        self._commands = [tusd, *flags], [nginx, "-e", f"{folder}/first.log", "-c", f"{folder}/nginx.conf"]
        self._running: list[subprocess.Popen] = []
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            settings = {**os.environ, **ObjectStorage.KEYS, "AWS_EC2_METADATA_DISABLED": "true"}
            self._running = [subprocess.Popen(it, stdout=log, stderr=log, env=settings) for it in self._commands]
        for port in (self.port, self.tusd):
            wait_until(lambda port=port: _open(port), lambda: (self.folder / "log").read_text())

    def kill(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def close(self) -> None:
        self.kill()
        self.between.close()
        if self._objects is not None:
            self._objects.close()


def _open(port: int) -> bool:
    with contextlib.suppress(OSError):
        upload_clients.RawTusClient("", port).request("GET", "/")
        return True
    return False
