"""The uploader over real sockets, on both runtimes, against tus servers that are not ours: @tus/server, and tusd."""

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
def serving(tmp_path, *pem):
    """(port, folder) of the official server; with `pem`, its certificate and key, it speaks TLS."""
    if shutil.which("node") is None:
        pytest.skip("apt-get install nodejs npm")
    if not (NODE / "node_modules" / "@tus" / "server").exists():
        pytest.skip("no tus server; make node")
    folder = tmp_path / "tus"
    folder.mkdir()
    command = ["node", Path(__file__).with_name("tus_server.mjs"), folder, NODE, *pem]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline()
            if not port:
                pytest.skip("the tus server does not run on this Node; it needs 20.19 or newer")
            yield int(port), folder
        finally:
            process.kill()


@contextlib.contextmanager
def tusd(tmp_path):
    """(port, folder) of tusd."""
    if shutil.which("tusd") is None:
        pytest.skip("no tusd on the PATH (tus.github.io/tusd/getting-started/installation)")
    folder, port = tmp_path / "tus", console_site.free_port()
    where = ["-host", "127.0.0.1", "-port", str(port), "-base-path", "/clips", "-upload-dir", folder]
    with (tmp_path / "tusd.log").open("wb") as log:
        process = subprocess.Popen(["tusd", *where], stdout=log, stderr=log)
    try:
        wait_until(folder.exists)  # it listens within its next breath; the uploader asks again
        yield port, folder
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=[serving, tusd], ids=["node", "tusd"])
def server(request, tmp_path):
    with request.param(tmp_path) as it:
        yield it


@pytest.fixture(params=["cpython", "micropython"])
def upload(request, tmp_path):
    """Upload bytes; return (what the device says at its end, its log)."""
    python = [sys.executable]
    if request.param == "micropython":
        micropython = Path(sys.executable).parent / "micropython"
        if not micropython.exists():
            pytest.skip("no micropython; make setup")
        python = [str(micropython)]

    def run(data, port, **more):
        path = tmp_path / "film.pls"
        path.write_bytes(data)
        given = {
            "host": "127.0.0.1",
            "port": port,
            "path": "/clips",
            "kbps": 100000,
            "file": str(path),
            "s": 40,
            **more,
        }
        given["sha256"] = hashlib.sha256(data).hexdigest()
        told = tmp_path / "upload.json"
        told.write_text(json.dumps(given))
        command = [*python, str(Path(__file__).with_name("upload_pipe.py")), str(told)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout), result.stderr

    return run


def arrived(folder):
    return [path.read_bytes() for path in folder.iterdir() if path.suffix not in (".json", ".info", ".lock", ".stop")]


@pytest.mark.parametrize("size", [0, 900, 32768, 1000000])
def test_a_file_arrives(server, upload, size):
    port, folder = server
    data = random.Random(SEED).randbytes(size)  # noqa: S311
    said, log = upload(data, port)
    assert said["done"], log
    assert arrived(folder) == [data]


@pytest.mark.parametrize("every_s, size", [((1, 2.5), 1500000), ((0.3, 0.9), 200000)])
def test_cut_off_again_and_again(server, upload, every_s, size):
    port, folder = server
    data = random.Random(SEED).randbytes(size)  # noqa: S311
    proxy = TcpProxy(port)
    over = threading.Event()

    def cut():
        rng = random.Random(SEED)  # noqa: S311
        while not over.wait(rng.uniform(*every_s)):
            proxy.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        said, log = upload(data, proxy.port, kbps=4000)
    finally:
        over.set()
        thread.join()
        proxy.close()
    assert said["done"] and proxy.accepted > 1, (SEED, log)
    # A cut between the making of an upload and its answer leaves an empty one behind, which a hub lets expire.
    whole = [it for it in arrived(folder) if len(it) == size]
    assert whole == [data], (SEED, [len(it) for it in arrived(folder)], log)


@pytest.mark.parametrize("trusted", [True, False])
def test_only_a_hub_whose_certificate_is_right_gets_anything(upload, tmp_path, trusted):
    files = certificates.make(tmp_path / "tls", "localhost")
    ca = files.ca if trusted else certificates.make(tmp_path / "other", "localhost").ca
    data = random.Random(SEED).randbytes(50000)  # noqa: S311
    with serving(tmp_path, files.cert) as (port, folder):
        said, log = upload(data, port, host="localhost", tls={"ca": str(ca)}, s=5)
        assert said["done"] == trusted, log
        assert arrived(folder) == [data] * trusted
    assert trusted or "was refused" in log
