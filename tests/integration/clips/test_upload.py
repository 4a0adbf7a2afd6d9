"""The uploader on both runtimes over real sockets, with independent tus servers: @tus/server and tusd."""

import contextlib
import hashlib
import json
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from patrolink.emulator.network import certificates

from tests.support import console_site
from tests.support.polling import wait_until
from tests.support.tcp_proxy import TcpProxy

ROOT = Path(__file__).parents[3]
NODE = ROOT / "build" / "node"
SEED = 20261125


@contextlib.contextmanager
def tus_server(parent, *pem):
    """Run the official server, with TLS if `pem` (certificate and key) is given.

    Yields:
        Its port and the folder of uploads, in `parent`.
    """
    if shutil.which("node") is None:
        pytest.skip("apt-get install nodejs npm")
    if not (NODE / "node_modules" / "@tus" / "server").exists():
        pytest.skip("no tus server; run `make node`")
    folder = parent / "tus"
    folder.mkdir()
    command = ["node", Path(__file__).with_name("tus_server.mjs"), folder, NODE, *pem]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline()
            if not port:
                pytest.skip("the tus server needs Node 20.19 or newer")
            yield int(port), folder
        finally:
            process.kill()


@contextlib.contextmanager
def tusd(parent):
    """Run tusd.

    Yields:
        Its port and the folder of uploads, in `parent`.
    """
    if shutil.which("tusd") is None:
        pytest.skip("no tusd on the PATH (tus.github.io/tusd/getting-started/installation)")
    folder, port = parent / "tus", console_site.free_port()
    options = ["-host", "127.0.0.1", "-port", str(port), "-base-path", "/clips", "-upload-dir", folder]
    with (parent / "tusd.log").open("wb") as log:
        process = subprocess.Popen(["tusd", *options], stdout=log, stderr=log)
    try:
        wait_until(folder.exists)  # tusd listens shortly after that; the uploader retries
        yield port, folder
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=[tus_server, tusd], ids=["node", "tusd"])
def running_server(request, tmp_path_factory):
    with request.param(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(running_server):
    """A server without uploads: its port and the folder of uploads."""
    for path in running_server[1].iterdir():
        path.unlink()
    return running_server


@pytest.fixture(params=["cpython", "micropython"])
def upload(request, tmp_path):
    """Return a function that uploads bytes and returns the result and the log of the device."""
    python = [sys.executable]
    if request.param == "micropython":
        micropython = Path(sys.executable).parent / "micropython"
        if not micropython.exists():
            pytest.skip("no micropython; run `make setup`")
        python = [str(micropython)]

    def run(data, port, **options):
        path = tmp_path / "segment.pls"
        path.write_bytes(data)
        settings = {
            "host": "127.0.0.1",
            "port": port,
            "path": "/clips",
            "kbps": 100000,
            "file": str(path),
            "s": 40,
            **options,
        }
        settings["sha256"] = hashlib.sha256(data).hexdigest()
        request = tmp_path / "upload.json"
        request.write_text(json.dumps(settings))
        command = [*python, str(Path(__file__).with_name("upload_pipe.py")), str(request)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout), result.stderr

    return run


def uploaded_files(folder):
    """Return the contents of all uploads of a server."""
    return [path.read_bytes() for path in folder.iterdir() if path.suffix not in (".json", ".info", ".lock", ".stop")]


@pytest.mark.parametrize("size", [0, 900, 32768, 1000000])
def test_a_file_is_uploaded(server, upload, size):
    port, folder = server
    data = random.Random(SEED).randbytes(size)  # noqa: S311
    result, log = upload(data, port)
    assert result["done"], log
    assert uploaded_files(folder) == [data]


@pytest.mark.long(22)
def test_an_upload_resumes_after_cuts(server, upload):
    port, folder = server
    size = 300_000
    data = random.Random(SEED).randbytes(size)  # noqa: S311
    proxy = TcpProxy(port)
    stopped = threading.Event()

    def cut():
        rng = random.Random(SEED)  # noqa: S311
        while not stopped.wait(rng.uniform(0.3, 0.9)):
            proxy.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        result, log = upload(data, proxy.port, kbps=4000)
    finally:
        stopped.set()
        thread.join()
        proxy.close()
    assert result["done"] and proxy.accepted > 1, (SEED, log)
    # A cut between a creation and its response leaves an empty upload, which would expire on a hub.
    complete = [file for file in uploaded_files(folder) if len(file) == size]
    assert complete == [data], (SEED, [len(file) for file in uploaded_files(folder)], log)


@pytest.mark.parametrize("trusted", [True, False])
def test_only_a_hub_with_a_trusted_certificate_receives_data(upload, tmp_path, trusted):
    files = certificates.make(tmp_path / "tls", "localhost")
    ca = files.ca if trusted else certificates.make(tmp_path / "other", "localhost").ca
    data = random.Random(SEED).randbytes(50000)  # noqa: S311
    with tus_server(tmp_path, files.cert) as (port, folder):
        result, log = upload(data, port, host="localhost", tls={"ca": str(ca)}, s=5)
        assert result["done"] == trusted, log
        assert uploaded_files(folder) == [data] * trusted
    assert trusted or "TLS with" in log
