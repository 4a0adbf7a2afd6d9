"""Serves the web flasher on loopback: its page, one image, and the public release keys; nothing else, and no secrets.

A page of another site must not reach it: the Host header has to name loopback, so that a name that was rebound to
127.0.0.1 is refused, and requests of other origins are too.
"""

import contextlib
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from patrolink.core.errors import UserError
from patrolink.core.signals import stop_deferred

IMAGE_NAME, TRUST_NAME = "agent.plimg", "trust.pem"  # beside the page
_PAGE = Path(__file__).with_name("page")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_ADDRESS = "127.0.0.1"
_SILENT_S = 10  # of a connection
_CONNECTIONS = 32
_LOOK_S = 0.1  # how often it looks whether it has to end
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "serial=(self), usb=(), camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class File(NamedTuple):
    """A file that is served."""

    content_type: str
    content: bytes


def served_files(image: bytes, trust_pem: bytes) -> dict[str, File]:
    """Return all files of the web flasher by their path.

    Args:
        image: An agent image.
        trust_pem: Public release keys.
    """
    files = {f"/{path.name}": File(_TYPES[path.suffix], path.read_bytes()) for path in sorted(_PAGE.iterdir())}
    files["/"] = files["/index.html"]
    files[f"/{IMAGE_NAME}"] = File("application/octet-stream", image)
    files[f"/{TRUST_NAME}"] = File("application/x-pem-file", trust_pem)
    return files


class FlasherServer(ThreadingHTTPServer):
    """Listens on a free port of loopback; serves while `running`.

    Args:
        files: What is served, by path.

    Raises:
        UserError: There is no free port.
    """

    daemon_threads = True  # a browser keeps connections open that it may never use
    request_queue_size = _CONNECTIONS

    def __init__(self, files: dict[str, File]) -> None:
        self.files = files
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        try:
            super().__init__((_ADDRESS, 0), self.handler_class())
        except OSError as e:
            raise UserError(f"no port of {_ADDRESS} is free ({e.strerror}); end other programs, then repeat") from None
        self.hosts = frozenset(f"{name}:{self.server_port}" for name in (_ADDRESS, "localhost"))

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{_ADDRESS}:{self.server_port}/"

    def handler_class(self) -> type["FlasherHandler"]:
        """Return the class of request handlers."""
        return FlasherHandler

    @contextlib.contextmanager
    def running(self) -> Iterator[threading.Thread]:
        """Serve within the block, in a thread that is yielded: signals are raised in the main thread, never in it.

        A stop signal between the start of a connection's thread and the next connection would be lost as its error.
        """
        thread = threading.Thread(target=self.serve_forever, args=(_LOOK_S,), name="web flasher")
        with contextlib.ExitStack() as stack:
            with stop_deferred():
                thread.start()
                stack.callback(thread.join)
                stack.callback(self.shutdown)
            yield thread

    def process_request(self, request: object, client_address: object) -> None:
        """Serve a connection in a separate thread; connections above the limit wait for a free one."""
        self._free.acquire()
        try:
            super().process_request(request, client_address)  # type: ignore[arg-type]
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: object, client_address: object) -> None:
        """See `socketserver.ThreadingMixIn`."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that ends a connection is not an error."""


class FlasherHandler(BaseHTTPRequestHandler):
    """One request per connection."""

    server: FlasherServer
    server_version, sys_version = "patrolink", ""
    timeout = _SILENT_S

    def do_GET(self) -> None:
        """Serve a file."""
        file = self.requested_file()
        if file is not None:
            self.answer(HTTPStatus.OK, file)

    def do_HEAD(self) -> None:
        """Serve the headers of a file."""
        file = self.requested_file()
        if file is not None:
            self.answer(HTTPStatus.OK, file, with_content=False)

    def requested_file(self) -> File | None:
        """Return the file of the request; None if the request was refused."""
        if not self.is_local():
            return None
        file = self.server.files.get(self.path.partition("?")[0])
        if file is None:
            self.refuse(HTTPStatus.NOT_FOUND, "the web flasher has no such file")
        return file

    def is_local(self) -> bool:
        """Return whether the request comes from the page or from the address bar; refuses it otherwise."""
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            self.refuse(HTTPStatus.MISDIRECTED_REQUEST, f"open {self.server.url}: other names are not served")
            return False
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            self.refuse(HTTPStatus.FORBIDDEN, "requests of other sites are not served")
            return False
        return True

    def refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer with an error."""
        self.answer(status, File("text/plain; charset=utf-8", f"{text}\n".encode()))

    def answer(self, status: HTTPStatus, file: File, with_content: bool = True) -> None:
        """Send a response."""
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", file.content_type)
        self.send_header("Content-Length", str(len(file.content)))
        self.end_headers()
        if with_content:
            self.wfile.write(file.content)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""
