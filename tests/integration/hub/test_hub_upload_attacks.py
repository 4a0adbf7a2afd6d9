"""Attacks on the uploads of a hub by strangers and hostile devices: no file is replaced, no limit is exceeded."""

import asyncio
import hashlib
import os
import random
from types import SimpleNamespace

import aiohttp
import pytest
from patrolink.hub.clips import upload_store
from patrolink.hub.infra import http_server

from tests.support import simulated_clips, upload_clients
from tests.support.simulated_clips import NAME, random_bytes

start_server = simulated_clips.start_server
SEEDS = range(20261127, 20261127 + 3)


def start_patch(raw, url, offset, size):
    """Send the header of a PATCH; return the socket for its body."""
    tag = raw.authorization("PATCH", url, str(offset))
    head = f"PATCH {url} HTTP/1.1\r\nHost: hub\r\nTus-Resumable: 1.0.0\r\nAuthorization: {tag}\r\n"
    head += (
        f"Upload-Offset: {offset}\r\nContent-Length: {size}\r\nContent-Type: application/offset+octet-stream\r\n\r\n"
    )
    connection = raw.network.connect_tcp(raw.port)
    connection.sendall(head.encode())
    return connection


def test_the_newer_of_two_requests_of_a_device_is_served(start_server, tmp_path):
    raw, data = start_server(), random_bytes(300_000)
    url = raw.create(1, NAME, data)[1]["Location"]
    with start_patch(raw, url, 0, len(data)) as first:
        first.sendall(data[:100_000])
        raw.network.sleep_ms(300)
        assert raw.request("HEAD", url)[1]["Upload-Offset"] == "100000"
        assert first.recv(100) == b"", "the older request must be disconnected"
    with start_patch(raw, url, 100_000, 200_000) as first:
        first.sendall(data[100_000:150_000])
        raw.network.sleep_ms(300)
        # Also for another file, because a device may have only one request at a time.
        other = raw.create(2, NAME, data)[1]["Location"]
        assert first.recv(100) == b"" and other != url
    assert raw.request("PATCH", url, data[150_000:], Upload_Offset="150000")[0] == 204
    assert (tmp_path / "linux-1" / "000001" / NAME).read_bytes() == data


class ConcurrentClient:
    """Sends tus requests on the clients' event loop; bodies arrive in portions.

    Args:
        raw: Signs the requests.
        rng: Sizes and delays of the portions.
    """

    def __init__(self, raw, rng: random.Random) -> None:
        self._raw, self._rng = raw, rng

    async def _portions(self, body: bytes):
        at = 0
        while at < len(body):
            end = at + self._rng.randrange(1, 60_000)
            yield body[at:end]
            at = end
            await asyncio.sleep(self._rng.uniform(0, 0.05))

    async def request(self, method: str, path: str, body: bytes = b"", length: str = "", **fields: str):
        """Send a request; return status and header fields. The status is 0 if the connection was closed."""
        metadata = fields.get("Upload_Metadata", "")
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        headers |= {"Tus-Resumable": "1.0.0", "Authorization": self._raw.authorization(method, path, length, metadata)}
        if method != "HEAD":
            headers |= {"Content-Type": "application/offset+octet-stream", "Content-Length": str(len(body))}
        url = f"http://127.0.0.1:{self._raw.port}{path}"
        async with aiohttp.ClientSession(connector=self._raw.network.connector()) as session:
            try:
                data = self._portions(body) if body else None
                async with session.request(method, url, data=data, headers=headers) as response:
                    return response.status, response.headers
            except aiohttp.ClientError:
                return 0, {}

    async def create(self, data: bytes, body: bytes = b""):
        metadata = upload_clients.upload_metadata(self._raw.device, 1, NAME, hashlib.sha256(data).hexdigest())
        length = str(len(data))
        return await self.request("POST", "/clips", body, length, Upload_Length=length, Upload_Metadata=metadata)


@pytest.mark.parametrize("seed", SEEDS)
def test_concurrent_requests_on_one_upload_never_mix_files(start_server, tmp_path, seed):
    """Four clients send valid and invalid offsets and other files of the same name. One file must be complete."""
    rng = random.Random(seed)
    raw, data = start_server(), random_bytes(400_000, seed)
    others = [random_bytes(rng.randrange(1, 60_000), seed + i) for i in range(1, 4)]
    raw.create(1, NAME, data)
    url = f"/clips/linux-1/1/{NAME}"
    statuses = []

    async def attack(rng: random.Random) -> None:
        client = ConcurrentClient(raw, rng)
        for _ in range(40):
            if rng.random() < 0.15:
                other = rng.choice(others)
                statuses.append((await client.create(other, other if rng.random() < 0.3 else b""))[0])
            elif rng.random() < 0.3:
                statuses.append((await client.create(data))[0])
            else:
                fields = (await client.request("HEAD", url))[1]
                offset = int(fields.get("Upload-Offset", rng.randrange(len(data))))
                piece = data[offset : offset + rng.randrange(1, 150_000)]
                if piece:
                    patch = client.request("PATCH", url, piece, str(offset), Upload_Offset=str(offset))
                    statuses.append((await patch)[0])
            await asyncio.sleep(rng.uniform(0, 0.1))

    async def attack_all() -> None:
        await asyncio.gather(*(attack(random.Random(seed * 100 + i)) for i in range(4)))

    raw.network.run(attack_all())
    assert {204, 409} <= set(statuses) <= {0, 201, 204, 404, 409, 413, 423, 460}, (seed, set(statuses))
    raw.network.run_until(lambda: raw.create(1, NAME, data, b"")[0] != 423)
    status = raw.create(1, NAME, data, b"")[0]
    path = tmp_path / "linux-1" / "000001" / NAME
    if status == 201 and not path.exists():
        offset = int(raw.request("HEAD", url)[1]["Upload-Offset"])
        assert raw.request("PATCH", url, data[offset:], Upload_Offset=str(offset))[0] == 204, seed
    assert path.read_bytes() in (data, *others), seed
    assert len(os.listdir(path.parent)) == 1, (seed, os.listdir(path.parent))


def test_a_file_in_completion_is_not_replaced_by_another_of_its_name(start_server, tmp_path, monkeypatch):
    """While the hub hashes a complete file, another file of that name has to wait and is then refused."""
    raw, data, other = start_server(), random_bytes(100_000), random_bytes(100_000, 1)
    url = raw.create(1, NAME, data)[1]["Location"]

    async def slow_thread(function, *args):
        if function is upload_store._complete:
            await asyncio.sleep(1)
        return function(*args)

    monkeypatch.setattr(asyncio, "to_thread", slow_thread)
    client = ConcurrentClient(raw, random.Random(1))

    async def attack() -> tuple[int, int]:
        patch = asyncio.ensure_future(client.request("PATCH", url, data, "0", Upload_Offset="0"))
        await asyncio.sleep(0.5)
        assert not patch.done()
        refused, _ = await client.create(other)
        return refused, (await patch)[0]

    refused, status = raw.network.run(attack())
    assert refused == 409 and status in (0, 204)
    assert (tmp_path / "linux-1" / "000001" / NAME).read_bytes() == data
    assert os.listdir(tmp_path / "linux-1" / "000001") == [NAME]


def test_pending_files_of_a_device_are_limited(start_server):
    raw = start_server()
    statuses = [raw.create(i % 8, f"000001-{i:06d}.pls", b"abc")[0] for i in range(66)]
    assert statuses == [201] * 64 + [429] * 2
    assert raw.create(0, "000001-000000.pls", b"abc", b"abc")[0] == 201
    assert raw.create(0, "000001-000099.pls", b"abc")[0] == 201


def test_a_disk_that_fills_up_during_an_upload_keeps_its_reserve(start_server, monkeypatch, tmp_path):
    raw, data = start_server(), random_bytes(200_000)
    url = raw.create(1, NAME, data)[1]["Location"]
    with monkeypatch.context() as patch:
        patch.setattr(upload_store.shutil, "disk_usage", lambda path: SimpleNamespace(free=(1 << 28) + 100_000))
        assert raw.request("PATCH", url, data, Upload_Offset="0")[0] == 507
        assert raw.request("PATCH", url, data[:90_000], Upload_Offset="0")[0] == 204
        assert raw.create(1, f"000002{NAME[6:]}", data, data)[0] == 507
    assert raw.request("PATCH", url, data[90_000:], Upload_Offset="90000")[0] == 204
    assert (tmp_path / "linux-1" / "000001" / NAME).read_bytes() == data


def test_a_device_keeps_its_clips_while_the_hubs_disk_is_full(tmp_path, monkeypatch, start_server):
    from tests.support import clip_maker

    device = clip_maker.Device("linux-1", tmp_path / "evidence.pem")
    device.run(5)
    device.event("button", 11)
    device.run(3)
    raw = start_server()
    uploader = upload_clients.DeviceUploader(device, raw.network, raw.port)
    with monkeypatch.context() as patch:
        patch.setattr(upload_store.shutil, "disk_usage", lambda path: SimpleNamespace(free=(1 << 28) + 60_000))
        uploader.run_until(lambda: any("answered 507" in line for line in uploader.log))
        assert not uploader.is_done() and uploader.index.find(1).state == 1
    uploader.run_until(uploader.is_done)


@pytest.mark.parametrize("data", [b"", b"POST /clips HTTP/1.1\r\nHost: hub\r\nX-Slow: "])
def test_a_silent_or_slow_connection_is_closed(start_server, data):
    raw = start_server()
    with raw.network.connect_tcp(raw.port) as connection:
        connection.settimeout(0.2)
        connection.sendall(data)

        def is_closed() -> bool:
            try:
                if data:
                    connection.sendall(b"a")
                return not connection.recv(1000)
            except TimeoutError:
                return False
            except OSError:
                return True

        raw.network.run_until(is_closed, "the server has not closed the connection")


def test_connections_are_limited_and_closed_after_an_unauthorized_request(start_server, monkeypatch):
    monkeypatch.setattr(http_server, "_MAX_CONNECTIONS", 20)
    raw = start_server()
    connections = [raw.network.connect_tcp(raw.port) for _ in range(30)]
    closed = 0
    for connection in connections:
        connection.settimeout(0.3)
        try:
            closed += connection.recv(1) == b""
        except ConnectionResetError:
            closed += 1
        except TimeoutError:
            pass
    assert closed == 10
    for connection in connections:
        connection.close()
    raw.network.run_until(lambda: raw.request("HEAD", f"/clips/linux-1/1/{NAME}")[0] == 404)
    with raw.network.connect_tcp(raw.port) as connection:
        head = "HEAD /clips/linux-1/1/x HTTP/1.1\r\nHost: hub\r\nTus-Resumable: 1.0.0\r\n"
        connection.sendall(f"{head}Authorization: Patrolink linux-1:1:{'0' * 64}\r\n\r\n".encode())
        response = b""
        while data := connection.recv(1000):  # until the hub closes the connection
            response += data
        assert b" 401 " in response.splitlines()[0]


def test_an_upload_deleted_by_retention_starts_again(tmp_path):
    async def run():
        store = upload_store.UploadStore(tmp_path, 1 << 30)
        data = random_bytes(50_000)
        file = upload_store.ClipFile("linux-1", 3, NAME)
        await store.create(file, len(data), hashlib.sha256(data).hexdigest())
        await store.delete(file.key)
        assert (
            store.get(file) is None and not store.pending(file.key) and not (tmp_path / "linux-1" / "000003").exists()
        )
        store = upload_store.UploadStore(tmp_path, 60_000)
        for _ in range(3):  # its space must be free each time
            await store.create(file, len(data), "0" * 64)
            await store.delete(file.key)

    asyncio.run(run())
