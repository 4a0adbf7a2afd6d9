"""What a stranger, or a device in wrong hands, may try with a hub's uploads: nothing is written over, or full."""

import asyncio
import hashlib
import os
import random
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from patrolink.hub.clips import upload_store
from patrolink.hub.infra import http_server

from tests.integration.hub.test_hub_uploads import NAME, data_of, small  # noqa: F401
from tests.support import upload_clients
from tests.support.polling import wait_until

SEEDS = range(20261127, 20261127 + 3)


def begun(raw, url, offset, size):
    """A PATCH whose body does not come: its socket, on which bytes may follow."""
    tag = upload_clients.authorization(raw.device, "PATCH", url, str(offset))
    head = f"PATCH {url} HTTP/1.1\r\nHost: hub\r\nTus-Resumable: 1.0.0\r\nAuthorization: {tag}\r\n"
    head += (
        f"Upload-Offset: {offset}\r\nContent-Length: {size}\r\nContent-Type: application/offset+octet-stream\r\n\r\n"
    )
    it = socket.create_connection((upload_clients.HOST, raw.port), timeout=20)
    it.sendall(head.encode())
    return it


def test_of_two_requests_of_a_device_the_one_that_comes_last_is_served(small, tmp_path):  # noqa: F811
    raw, data = small(), data_of(300_000)
    url = raw.create(1, NAME, data)[1]["Location"]
    with begun(raw, url, 0, len(data)) as first:
        first.sendall(data[:100_000])
        time.sleep(0.3)
        assert raw.ask("HEAD", url)[1]["Upload-Offset"] == "100000"
        assert first.recv(100) == b"", "it is cut off"
    with begun(raw, url, 100_000, 200_000) as first:
        first.sendall(data[100_000:150_000])
        time.sleep(0.3)
        # Of another file, too: a device has one request at a time.
        other = raw.create(2, NAME, data)[1]["Location"]
        assert first.recv(100) == b"" and other != url
    assert raw.ask("PATCH", url, data[150_000:], Upload_Offset="150000")[0] == 204
    assert (tmp_path / "linux-1" / "000001" / NAME).read_bytes() == data


@pytest.mark.parametrize("seed", SEEDS)
def test_many_at_once_on_one_upload_mix_nothing(small, tmp_path, seed):  # noqa: F811
    """Requests with right and lying offsets, other files under the name, all at once: one file comes whole, as told."""
    chance = random.Random(seed)
    raw, data = small(), data_of(400_000, seed)
    others = [data_of(chance.randrange(1, 60_000), seed + i) for i in range(1, 4)]
    raw.create(1, NAME, data)
    url = f"/clips/linux-1/1/{NAME}"
    end = time.monotonic() + 4
    seen = set()

    def attack(chance):
        while time.monotonic() < end:
            if chance.random() < 0.15:
                other = chance.choice(others)
                seen.add(raw.create(1, NAME, other, other if chance.random() < 0.3 else b"")[0])
            elif chance.random() < 0.3:
                seen.add(raw.create(1, NAME, data)[0])
            else:
                offset = int(raw.ask("HEAD", url)[1].get("Upload-Offset", chance.randrange(len(data))))
                piece = data[offset : offset + chance.randrange(1, 150_000)]
                if piece:
                    seen.add(raw.ask("PATCH", url, piece, Upload_Offset=str(offset))[0])

    threads = [threading.Thread(target=attack, args=(random.Random(seed * 100 + i),)) for i in range(4)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    assert seen <= {0, 201, 204, 404, 409, 413, 423, 460}, (seed, seen)
    while (status := raw.create(1, NAME, data, b"")[0]) == 423:
        time.sleep(0.1)
    there = tmp_path / "linux-1" / "000001" / NAME
    if status == 201 and not there.exists():
        offset = int(raw.ask("HEAD", url)[1]["Upload-Offset"])
        assert raw.ask("PATCH", url, data[offset:], Upload_Offset=str(offset))[0] == 204, seed
    assert there.read_bytes() in (data, *others), seed
    assert len(os.listdir(there.parent)) == 1, (seed, os.listdir(there.parent))


def test_a_file_that_has_come_is_not_written_over_by_one_that_was_begun_meanwhile(small, tmp_path, monkeypatch):  # noqa: F811
    """Its last byte is here and it is being hashed: another one of its name waits, and is refused."""
    raw, data, other = small(), data_of(100_000), data_of(100_000, 1)
    url = raw.create(1, NAME, data)[1]["Location"]
    right = upload_store._complete

    def slow(path, name):
        time.sleep(1)
        right(path, name)

    monkeypatch.setattr(upload_store, "_complete", slow)
    done = []
    sender = threading.Thread(target=lambda: done.append(raw.ask("PATCH", url, data, Upload_Offset="0")[0]))
    sender.start()
    time.sleep(0.4)
    assert raw.create(1, NAME, other, b"")[0] == 409
    sender.join()
    assert done[0] in (0, 204)
    assert (tmp_path / "linux-1" / "000001" / NAME).read_bytes() == data
    assert os.listdir(tmp_path / "linux-1" / "000001") == [NAME]


def test_files_that_are_begun_and_never_come_are_few(small):  # noqa: F811
    raw = small()
    told = [raw.create(i % 8, f"000001-{i:06d}.pls", b"abc")[0] for i in range(66)]
    assert told == [201] * 64 + [429] * 2
    assert raw.create(0, "000001-000000.pls", b"abc", b"abc")[0] == 201
    assert raw.create(0, "000001-000099.pls", b"abc")[0] == 201


def test_a_disk_that_fills_up_while_a_file_comes_is_left_to_all_else_and_heals(small, monkeypatch, tmp_path):  # noqa: F811
    raw, data = small(), data_of(200_000)
    url = raw.create(1, NAME, data)[1]["Location"]
    with monkeypatch.context() as patch:
        patch.setattr(upload_store.shutil, "disk_usage", lambda path: SimpleNamespace(free=(1 << 28) + 100_000))
        assert raw.ask("PATCH", url, data, Upload_Offset="0")[0] == 507
        assert raw.ask("PATCH", url, data[:90_000], Upload_Offset="0")[0] == 204
        assert raw.create(1, f"000002{NAME[6:]}", data, data)[0] == 507
    assert raw.ask("PATCH", url, data[90_000:], Upload_Offset="90000")[0] == 204
    assert (tmp_path / "linux-1" / "000001" / NAME).read_bytes() == data


def test_of_a_device_at_a_full_disk_nothing_is_let_go(tmp_path, monkeypatch, small):  # noqa: F811
    from tests.support import clip_maker

    device = clip_maker.Device("linux-1", tmp_path / "evidence.pem")
    device.run(5)
    device.event("button", 11)
    device.run(3)
    courier = upload_clients.Courier(device, small().port)
    with monkeypatch.context() as patch:
        patch.setattr(upload_store.shutil, "disk_usage", lambda path: SimpleNamespace(free=(1 << 28) + 60_000))
        courier.run(lambda: any("answers 507" in line for line in courier.log))
        assert not courier.all_sent() and courier.index.find(1).state == 1
    courier.run(courier.all_sent)


@pytest.mark.parametrize("said", [b"", b"POST /clips HTTP/1.1\r\nHost: hub\r\nX-Slow: "])
def test_who_says_nothing_or_says_it_slowly_is_cut_off(small, monkeypatch, said):  # noqa: F811
    monkeypatch.setattr(http_server, "_IDLE_S", 1)
    raw = small()
    with socket.create_connection((upload_clients.HOST, raw.port), timeout=20) as it:
        it.sendall(said)
        begin = time.monotonic()
        while said and time.monotonic() - begin < 10:
            try:
                it.sendall(b"a")
            except OSError:
                break
            time.sleep(0.2)
        try:
            while it.recv(1000):
                pass
        except ConnectionResetError:
            pass
        assert time.monotonic() - begin < 10


def test_connections_are_bounded_and_those_of_strangers_are_not_kept(small, monkeypatch):  # noqa: F811
    monkeypatch.setattr(http_server, "_MAX_CONNECTIONS", 20)
    raw = small()
    crowd = [socket.create_connection((upload_clients.HOST, raw.port), timeout=20) for _ in range(30)]
    shut = 0
    for it in crowd:
        it.settimeout(0.3)
        try:
            shut += it.recv(1) == b""
        except ConnectionResetError:
            shut += 1
        except TimeoutError:
            pass
    assert shut == 10
    for it in crowd:
        it.close()
    wait_until(lambda: raw.ask("HEAD", f"/clips/linux-1/1/{NAME}")[0] == 404)
    with socket.create_connection((upload_clients.HOST, raw.port), timeout=10) as it:
        head = "HEAD /clips/linux-1/1/x HTTP/1.1\r\nHost: hub\r\nTus-Resumable: 1.0.0\r\n"
        it.sendall(f"{head}Authorization: Patrolink linux-1:1:{'0' * 64}\r\n\r\n".encode())
        answer = b""
        while data := it.recv(1000):  # until it is closed
            answer += data
        assert b" 401 " in answer.splitlines()[0]


def test_what_retention_took_of_an_upload_is_begun_anew(tmp_path):
    async def run():
        files = upload_store.UploadStore(tmp_path, 1 << 30)
        data = data_of(50_000)
        file = upload_store.ClipFile("linux-1", 3, NAME)
        await files.create(file, len(data), hashlib.sha256(data).hexdigest())
        await files.delete(file.key)
        assert (
            files.get(file) is None and not files.pending(file.key) and not (tmp_path / "linux-1" / "000003").exists()
        )
        files = upload_store.UploadStore(tmp_path, 60_000)
        for _ in range(3):  # what it took is free again
            await files.create(file, len(data), "0" * 64)
            await files.delete(file.key)

    asyncio.run(run())
