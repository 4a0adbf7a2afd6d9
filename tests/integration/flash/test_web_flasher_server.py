"""The server of the web flasher: what it serves to whom, and how `patrolink flash --web` starts and ends."""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys

import pytest
from patrolink.cli import main
from patrolink.flash.web import server as web
from patrolink_protocol import image_header

from tests.support.flash_images import write_image, write_signed_image
from tests.support.polling import TIMEOUT_S
from tests.support.processes import restore_stop_signals
from tests.support.release_keys import TRUST, private_key
from tests.support.web_flasher import running

IMAGE, PEM = b"image", b"keys"


@pytest.fixture
def server():
    """A server of the product, without the shim of the tests."""
    with running(web.FlasherServer(web.served_files(IMAGE, PEM))) as server:
        yield server


def request(port: int, method: str, path: str, headers: list[tuple[str, str]]) -> http.client.HTTPResponse:
    """Send a request with exactly these headers, and return the response; its content is in `content`."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as connection:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        response.content = response.read()
        return response


def get(server, path: str, method: str = "GET", host: str = "127.0.0.1:PORT", **headers: str):
    port = str(server.server_port)
    pairs = [("Host", host), *headers.items()]
    return request(server.server_port, method, path, [(name, value.replace("PORT", port)) for name, value in pairs])


def test_page_image_and_keys_are_served_with_strict_headers(server):
    assert get(server, "/agent.plimg").content == IMAGE and get(server, "/trust.pem").content == PEM
    for path in ("/", "/index.html", "/flasher.js?1", "/flasher.css", "/icon.svg", "/agent.plimg"):
        response = get(server, path)
        assert response.status == 200, path
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert response.headers["Permissions-Policy"].startswith("serial=(self)")
    assert get(server, "/flasher.js").headers["Content-Type"].startswith("text/javascript")
    head = get(server, "/agent.plimg", "HEAD")
    assert head.status == 200 and head.headers["Content-Length"] == str(len(IMAGE)) and head.content == b""


def test_hosted_page_has_the_policy_of_the_server(server):
    """But for frames, which only a header can refuse."""
    page = get(server, "/").content.decode()
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    assert f"{policy}; frame-ancestors 'none'" == web.CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/server.py", "GET", {}, 404),
        ("/../server.py", "GET", {}, 404),
        ("/%2e%2e/server.py", "GET", {}, 404),
        ("//etc/passwd", "GET", {}, 404),
        ("/flasher.js/", "GET", {}, 404),
        ("/", "GET", {"host": "localhost:PORT"}, 200),
        ("/", "GET", {"host": "evil.example:PORT"}, 421),
        ("/", "GET", {"host": "127.0.0.1"}, 421),
        ("/", "GET", {"host": "127.0.0.1:1"}, 421),
        ("/", "GET", {"host": "127.0.0.1.evil.example:PORT"}, 421),
        ("/agent.plimg", "HEAD", {"host": "evil.example:PORT"}, 421),
        ("/agent.plimg", "GET", {"Origin": "http://127.0.0.1:PORT"}, 200),
        ("/agent.plimg", "GET", {"Origin": "http://evil.example"}, 403),
        ("/agent.plimg", "GET", {"Origin": "null"}, 403),
        ("/agent.plimg", "GET", {"Origin": "http://127.0.0.1:1"}, 403),
        ("/", "POST", {}, 501),
        ("/", "OPTIONS", {}, 501),
    ],
)
def test_only_its_files_are_served_and_only_to_its_page(server, path, method, headers, status):
    response = get(server, path, method, **headers)
    assert response.status == status
    assert status == 200 or IMAGE not in response.content


@pytest.mark.parametrize("hosts", [[], ["evil.example:PORT", "127.0.0.1:PORT"], ["127.0.0.1:PORT", "127.0.0.1:PORT"]])
def test_request_without_one_host_is_refused(server, hosts):
    headers = [("Host", host.replace("PORT", str(server.server_port))) for host in hosts]
    assert request(server.server_port, "GET", "/", headers).status == 421


def test_it_listens_on_loopback_only_and_survives_connections_that_say_nothing(server):
    assert server.server_address[0] == "127.0.0.1"
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            silent = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=TIMEOUT_S)
            stack.callback(silent.close)
            silent.connect()
        assert get(server, "/").status == 200


@pytest.fixture
def image(tmp_path):
    return write_signed_image(tmp_path / "agent.plimg", b"content")


def test_command_serves_the_image_with_public_keys_only_until_it_is_stopped(image, tmp_path):
    trust = tmp_path / "trust.pem"
    trust.write_text(f"a note that is not a key\n{TRUST.read_text()}")
    command = [sys.executable, "-m", "patrolink", "flash", str(image), "--web", "--trust", str(trust)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=restore_stop_signals) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        match = re.fullmatch(r"serving agent 1\.0 for mps2_an385 at http://127\.0\.0\.1:(\d+)/: open it in .*\n", line)
        assert match, line
        port = int(match[1])
        served = {
            name: request(port, "GET", f"/{name}", [("Host", f"127.0.0.1:{port}")]).content
            for name in ("agent.plimg", "trust.pem")
        }
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
    assert served["agent.plimg"] == image.read_bytes()
    assert served["trust.pem"].decode() == TRUST.read_text()


INTERRUPTED = """if True:
    import os, signal, socketserver, sys
    from patrolink.cli import main

    def process_request(server, request, address):
        server.process_request_thread(request, address)
        os.kill(os.getpid(), signal.SIGINT)

    socketserver.ThreadingMixIn.process_request = process_request
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("connects", [False, True])
def test_stop_signal_counts_at_once_and_while_a_connection_is_served(image, connects):
    """Before the first connection, and after one has ended whose start has not returned yet."""
    program = ["-c", INTERRUPTED] if connects else ["-m", "patrolink"]
    command = [sys.executable, *program, "flash", str(image), "--web", "--trust", str(TRUST)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=restore_stop_signals) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().decode().partition("127.0.0.1:")[2].partition("/")[0])
            if connects:
                assert request(port, "GET", "/", [("Host", f"127.0.0.1:{port}")]).status == 200
            else:
                process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--unverified"], "--web needs --trust"),
        (["/dev/ttyUSB0", "--trust", str(TRUST)], "the device is chosen in the browser; leave out ports"),
        (["--trust", str(TRUST), "--dry-run"], "--method, --provision, --batch, --dry-run and --json"),
        (["--trust", str(TRUST), "--ledger", "l.jsonl"], "leave out ports"),
        (["--trust", str(TRUST), "--recover", "/dev/ttyUSB0"], "leave out ports, --all, --recover"),
    ],
)
def test_options_that_the_page_cannot_follow_are_refused(image, capsys, words, message):
    assert main(["flash", str(image), *words, "--web"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("write", "fields", "message"),
    [
        (write_image, {}, "signature: unsigned"),
        (write_signed_image, {"key": private_key("another")}, "signature: unknown key"),
        (write_signed_image, {"kind": image_header.PLATFORM}, "the method serial writes agent images, and this is"),
        (write_signed_image, {"board": "unix"}, "has no slots for agent images"),
    ],
)
def test_images_that_the_page_cannot_write_are_refused(tmp_path, capsys, write, fields, message):
    image = write(tmp_path / "agent.plimg", os.urandom(500), **fields)
    assert main(["flash", str(image), "--web", "--trust", str(TRUST)]) == 2
    assert message in capsys.readouterr().err
