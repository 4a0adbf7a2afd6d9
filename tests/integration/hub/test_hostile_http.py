"""What strangers and dispatchers may send over HTTP: refused with a reason, counted, without a traceback."""

import asyncio
import gzip
import json
import random
import sys

import aiohttp
import pytest
from aiohttp import web
from patrolink.cli import _completers
from patrolink.core import untrusted_json
from patrolink.core.errors import ServerError
from patrolink.evidence.fetch import list_clips
from patrolink.hub.dispatch import client
from patrolink.hub.infra import http_server
from patrolink.hub.infra.connection_table import ConnectionTable, Entry
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.tcp import listen_tcp

from tests.support import simulated_clips
from tests.support.console_site import free_port
from tests.support.simulated_clips import NAME, random_bytes
from tests.support.simulated_network import SimulatedNetwork
from tests.support.simulated_site import CONSOLE_PORT, CONSOLE_URL, UPLOAD_PORT, SimulatedSite, site_text
from tests.support.site_file import DEVICES, DISPATCHERS, GROUPS, TOKEN

DEEP = ["[" * 30_000, "[" * 30_000 + "]" * 30_000, '{"a":' * 30_000 + "1" + "}" * 30_000]
start_server = simulated_clips.start_server
HOST = f"127.0.0.1:{CONSOLE_PORT}"
ENCODINGS = ["gzip", "deflate", "br", "zstd", "identity", ""]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A running hub with console and uploads. No exception may be left unhandled."""
    folder = tmp_path_factory.mktemp("site")
    hub = f'console = "{HOST}"\nuploads = "127.0.0.1:{UPLOAD_PORT}"'
    text = site_text(GROUPS + DISPATCHERS, hub=hub)
    site = SimulatedSite(folder, text, DEVICES)
    yield site
    site.close()


def send_raw(site: SimulatedSite, data: bytes) -> bytes:
    """Send bytes and return everything that the hub answers before it closes the connection."""
    answer = b""
    with site.connect_tcp(CONSOLE_PORT) as connection:
        connection.sendall(data)
        try:
            while block := connection.recv(65536):
                answer += block
        except ConnectionResetError:
            pass
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def refused(site: SimulatedSite) -> dict[str, int]:
    return json.loads(site.http_request("GET", "/status")[2])["refused"]


def login_request(site: SimulatedSite, *fields: str, body: bytes = b"") -> bytes:
    head = ["POST /login HTTP/1.1", f"Host: {HOST}", f"Origin: {CONSOLE_URL}", "Connection: close", *fields]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoded_body_is_refused_before_it_is_read(hub, encoding):
    body = gzip.compress(bytes(50_000_000))
    before = refused(hub).get("console 415", 0)
    fields = f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}"
    assert status_of(send_raw(hub, login_request(hub, *fields, body=body[:1000]))) == 415
    assert refused(hub)["console 415"] == before + 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoded_upload_is_refused_before_it_is_authorized(start_server, tmp_path, encoding):
    raw, data = start_server(), random_bytes(1000)
    body = gzip.compress(data)
    response = raw.create(1, NAME, data, body, Content_Encoding=encoding)
    assert response.status == 415 and b"Content-Encoding" in response.body
    assert raw.create(1, NAME, data, body, Content_Encoding=encoding, Authorization="none").status == 415
    assert not (tmp_path / "linux-1").exists()


@pytest.mark.parametrize("document", DEEP)
def test_a_login_that_is_nested_deeply_is_refused(hub, document):
    body = document.encode()[:60_000]
    assert status_of(send_raw(hub, login_request(hub, f"Content-Length: {len(body)}", body=body))) == 400


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_what_is_not_valid_http_is_refused(hub, data):
    before = refused(hub).get("console 400", 0)
    assert status_of(send_raw(hub, data)) == 400
    assert refused(hub)["console 400"] == before + 1


def test_a_malformed_chunk_is_refused(hub):
    fields = ("Transfer-Encoding: chunked",)
    assert status_of(send_raw(hub, login_request(hub, *fields, body=b"zz\r\nabc\r\n"))) == 400


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_tokens_that_are_not_utf8_are_wrong_tokens_and_lock_nobody_out(hub):
    tokens = [b"\xff\xfe", "\ud800".encode("utf-8", "surrogatepass"), b"\xc3", b"wrong"] * 3
    heads = [f"GET /clips HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n".encode()] * len(tokens)
    answers = [
        status_of(send_raw(hub, head + b"Authorization: Bearer " + token + b"\r\n\r\n"))
        for head, token in zip(heads, tokens, strict=True)
    ]
    assert answers[0] == 401 and answers[-1] == 429 and set(answers) == {401, 429}
    for text in ("\ud800", "\udcff", "\x00"):
        assert hub.http_request("POST", "/login", {"token": text})[0] == 429
    assert hub.http_request("GET", "/clips", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert hub.http_request("POST", "/login", {"token": TOKEN})[0] == 204
    counts = refused(hub)
    assert counts["console 401"] >= 1 and counts["console 429"] >= 10


def test_header_fields_that_are_not_utf8_are_refused(start_server):
    raw = start_server()
    with raw.network.connect_tcp(raw.port) as connection:
        tag = raw.authorization("POST", "/clips", "3", "x")
        head = f"POST /clips HTTP/1.1\r\nHost: hub\r\nTus-Resumable: 1.0.0\r\nAuthorization: {tag}\r\n"
        connection.sendall(head.encode() + b"Upload-Length: 3\r\nUpload-Metadata: \xff\xfe\r\n\r\n")
        assert status_of(connection.recv(1000)) == 401


# --- the console's socket ---------------------------------------------------------------------------------------------


def test_invalid_frames_of_a_dispatcher_are_refused_and_the_next_request_is_served(hub):
    requests = [
        DEEP[0],
        DEEP[1],
        DEEP[2][:60_000],
        '{"do": "listen", "group": ' + "9" * 5000 + "}",
        '{"do": "recordings", "id": ' + "[" * 400 + "]" * 400 + "}",
        '{"do": "private", "device": "\\ud800"}',
        '{"do": "command", "device": "vest-1", "action": "locate", "value": "\\udcff"}',
        '{"do": "recordings", "id": NaN}',
    ]

    async def run() -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            aiohttp.ClientSession(connector=hub.connector(), headers=headers) as session,
            session.ws_connect(CONSOLE_URL + "/socket") as ws,
        ):
            await ws.receive_json()
            for request in requests:
                await ws.send_str(request)
                answer = await ws.receive_json()
                assert answer["type"] == "refused" and answer["id"] is None, (request[:80], answer)
            await ws.send_str('{"do": "recordings", "id": 1}')
            assert (await ws.receive_json())["type"] == "reply"
            await ws.send_str("x" * (1 << 17))  # beyond the limit: the socket is closed
            assert (await ws.receive()).data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG

    hub.run(run())


# --- connections ------------------------------------------------------------------------------------------------------


def test_half_requests_do_not_shut_the_console(hub):
    halves = (b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"POST /login HTTP/1.1\r\nHost:")
    connections = []
    try:
        for i in range(420):
            connections.append(hub.connect_tcp(CONSOLE_PORT))
            connections[-1].sendall(halves[i % len(halves)])
        assert hub.http_request("POST", "/login", {"token": TOKEN})[0] == 204
        assert json.loads(hub.http_request("GET", "/status")[2])["console_connections"] <= 300
    finally:
        for connection in connections:
            connection.close()
    hub.run_until(lambda: json.loads(hub.http_request("GET", "/status")[2])["console_connections"] < 20)


def test_half_bodies_of_logins_are_answered_in_time(hub):
    before = refused(hub).get("console 408", 0)
    connections = [hub.connect_tcp(CONSOLE_PORT) for _ in range(50)]
    for connection in connections:
        connection.sendall(login_request(hub, "Content-Length: 9", body=b"{"))
    assert [status_of(connection.recv(1000)) for connection in connections] == [408] * 50
    assert refused(hub)["console 408"] == before + 50


@pytest.mark.parametrize("seed", [*range(10), pytest.param(random.randrange(1 << 32), id="random")])
def test_the_table_admits_new_connections_while_one_is_idle(seed):
    rng = random.Random(seed)
    table, open_entries = ConnectionTable(12, 8), []

    def close(entry: Entry) -> None:
        assert not entry.is_serving, f"seed {seed}"
        open_entries.remove(entry)

    for _ in range(3000):
        action = rng.random()
        if action < 0.5:
            source = rng.choice("aaab")
            own = [entry for entry in open_entries if entry.source == source]
            is_full = len(own) >= 8 or len(open_entries) >= 12
            candidates = own if len(own) >= 8 else open_entries
            expected = not is_full or any(not entry.is_serving for entry in candidates)
            assert table.admit(source) == expected, f"seed {seed}"
            if expected:
                entry = Entry(source, lambda: None)
                entry.close = lambda entry=entry: close(entry)
                open_entries.append(entry)
                table.add(entry)
        elif open_entries and action < 0.75:
            rng.choice(open_entries).is_serving ^= True
        elif open_entries:
            entry = open_entries.pop(rng.randrange(len(open_entries)))
            table.remove(entry)
            table.remove(entry)
        assert len(table) == len(open_entries) <= 12, f"seed {seed}"


def test_a_flood_of_one_source_closes_its_own_connections():
    table, closed = ConnectionTable(10, 10), []
    for i in range(10):
        table.add(Entry("flood" if i else "other", lambda i=i: closed.append(i)))
    assert table.admit("new") and closed == [1]


# --- uploads ----------------------------------------------------------------------------------------------------------


def chunked_patch(raw, url: str, offset: int, body: bytes) -> int:
    """Send a PATCH without Content-Length and return the status."""
    tag = raw.authorization("PATCH", url, str(offset))
    fields = f"Tus-Resumable: 1.0.0\r\nAuthorization: {tag}\r\nUpload-Offset: {offset}\r\n"
    fields += "Content-Type: application/offset+octet-stream\r\nTransfer-Encoding: chunked\r\n"
    with raw.network.connect_tcp(raw.port) as connection:
        connection.sendall(f"PATCH {url} HTTP/1.1\r\nHost: hub\r\n{fields}\r\n".encode())
        connection.sendall(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        return status_of(connection.recv(1000))


@pytest.mark.parametrize("length", [0, 10, 1000])
def test_an_upload_past_its_length_is_refused_and_not_stored(start_server, tmp_path, length):
    raw, data = start_server(), random_bytes(length)
    wrong_hash = "0" * 64
    raw.create(1, NAME, data, sha256=wrong_hash)
    url, extra = f"/clips/linux-1/1/{NAME}", bytes(100_000)
    assert chunked_patch(raw, url, 0, extra) in (404, 411)
    assert raw.request("PATCH", url, extra, Upload_Offset="0").status in (404, 413)
    assert raw.create(1, NAME, data, extra, sha256=wrong_hash).status == 413
    stored = sum(path.stat().st_size for path in (tmp_path / "linux-1").rglob("*.part"))
    assert stored <= length


# --- what a hub sends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [*DEEP, "\x00", '"\\ud800', "9" * 10_000, b"\xff\xfe\xff", b"\xff"])
def test_json_from_outside_is_refused_with_one_exception(document):
    with pytest.raises(ValueError):
        untrusted_json.parse(document)


@pytest.mark.parametrize("document", [DEEP[0], '{"type": 1}', "[]", '{"groups": 1}', "not JSON"])
def test_tools_end_with_an_error_if_a_hub_sends_nonsense(document, monkeypatch):
    monkeypatch.setenv(client.TOKEN_VARIABLE, TOKEN)
    network = SimulatedNetwork()

    async def clips(request: web.Request) -> web.Response:
        return web.Response(text=document)

    async def run(valid_hello: bool) -> None:
        async def console_socket(request: web.Request) -> web.WebSocketResponse:
            ws = web.WebSocketResponse()
            await ws.prepare(request)
            if valid_hello:
                await ws.send_json({"type": "hello", "groups": []})
            await ws.send_str(document)
            await ws.receive()
            return ws

        app = web.Application()
        app.add_routes([web.get("/clips", clips), web.get("/socket", console_socket)])
        runner = await http_server.start(app, HOST, None, "console", Metrics(), network.listen_tcp)
        try:
            async with client.http_session(CONSOLE_URL, network.connector()) as session:
                if document != "[]":  # that is a list without clips
                    with pytest.raises(ServerError, match="not a valid list of clips"):
                        await list_clips(session)
            with pytest.raises(ServerError, match="invalid message"):
                async with client.connect(CONSOLE_URL, connector=network.connector()) as console:
                    await console.next_message()
        finally:
            await runner.cleanup()

    network.run(run(False))
    network.run(run(True))
    network.close()


def test_text_of_a_hub_does_not_control_the_terminal(monkeypatch, tmp_path):
    monkeypatch.setenv(client.TOKEN_VARIABLE, TOKEN)
    port, text = free_port(), "a\x9b2J\u202e\u2028\nerror: b"
    url = f"http://127.0.0.1:{port}"
    fields = {"kind": "group", "talker": None, "emergency": False, "state": "idle", "queue": [], "members": [text]}
    groups = [{"group": 1, "name": text, **fields}, {"group": 2, "name": "Harbour", **fields}]

    async def console_socket(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_json({"type": "hello", "groups": groups})
        async for message in ws:
            await ws.send_json({"type": "refused", "id": json.loads(message.data)["id"], "error": text})
        return ws

    async def run() -> str:
        app = web.Application()
        app.add_routes([web.get("/socket", console_socket)])
        runner = await http_server.start(app, f"127.0.0.1:{port}", None, "console", Metrics(), listen_tcp)
        try:
            assert await asyncio.to_thread(_completers._groups_of_hub, url) == ["Harbour"]
            command = [sys.executable, "-m", "patrolink", "listen", "1", "--hub", url, "--output", tmp_path / "x.wav"]
            tool = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            return (await tool.communicate())[1].decode()
        finally:
            await runner.cleanup()

    lines = asyncio.run(run()).split("\n")
    assert all(line.isprintable() for line in lines) and not any(line.startswith("error: b") for line in lines)
    assert "a\\x9b2J\\u202e\\u2028\\nerror: b" in "".join(lines)
