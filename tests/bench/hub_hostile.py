"""Load on a hub beside voice, as a process of its own: `hub_hostile.py KIND SECONDS ADDRESS [TOKEN | FILE]`.

Prints `ready` when the load is on, and a count at the end. ADDRESS is host:port of the console; for a backlog of
frames, of the broker.
"""

import asyncio
import contextlib
import gzip
import json
import struct
import sys
import time
from pathlib import Path

import aiohttp
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

CONSOLES, FLOODERS, CONNECTIONS = 200, 20, 420
KINDS = ("compressed bodies", "half requests", "200 consoles", "dispatcher floods")


async def _compressed_bodies(address: str, token: str, end_s: float) -> int:
    bomb, count = gzip.compress(bytes(1 << 26), 9), 0

    async def post(session: aiohttp.ClientSession) -> None:
        nonlocal count
        while time.monotonic() < end_s:
            headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post(f"http://{address}/login", data=bomb, headers=headers) as response:
                    await response.read()
            count += 1

    async with aiohttp.ClientSession() as session:
        print("ready", flush=True)
        await asyncio.gather(*(post(session) for _ in range(8)))
    return count


async def _half_requests(address: str, token: str, end_s: float) -> int:
    host, _, port = address.rpartition(":")
    writers = []
    print("ready", flush=True)
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /login HTTP/1.1\r\nHost: hub\r\nContent-Length: 10000\r\nX-Half: ")
            writers.append(writer)
        if len(writers) > CONNECTIONS:
            writers.pop(0).close()
    for writer in writers:
        writer.close()
    return len(writers)


async def _sockets(address: str, token: str, count: int, stack: contextlib.AsyncExitStack) -> list:
    session = await stack.enter_async_context(
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}, connector=aiohttp.TCPConnector(limit=0))
    )
    connector = [session.ws_connect(f"http://{address}/socket", max_msg_size=0) for _ in range(count)]
    return [await stack.enter_async_context(await connection) for connection in connector]


async def _consoles(address: str, token: str, end_s: float) -> int:
    """Consoles that listen to the same group, and read everything."""
    async with contextlib.AsyncExitStack() as stack:
        sockets = await _sockets(address, token, CONSOLES, stack)
        for ws in sockets:
            await ws.send_json({"do": "listen", "id": 1, "group": 1})
        print("ready", flush=True)
        count = 0

        async def read(ws: aiohttp.ClientWebSocketResponse) -> None:
            nonlocal count
            while (left_s := end_s - time.monotonic()) > 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await ws.receive(timeout=left_s)
                    count += 1

        await asyncio.gather(*(read(ws) for ws in sockets))
    return count


async def _dispatcher_floods(address: str, token: str, end_s: float) -> int:
    """Dispatchers who send requests of all kinds, and voice without the floor, as fast as they are read."""
    requests = [
        json.dumps({"do": "press", "id": 1, "group": 2, "priority": 0}),
        json.dumps({"do": "release", "id": 2, "group": 2}),
        json.dumps({"do": "make_group", "id": 3, "name": "flood", "devices": [f"l-{i}" for i in range(1124)]}),
        json.dumps({"do": "recordings", "id": 4, "limit": 1000}),
        "[" * 30_000,
    ]
    async with contextlib.AsyncExitStack() as stack:
        sockets = await _sockets(address, token, FLOODERS, stack)
        print("ready", flush=True)
        count = 0

        async def flood(ws: aiohttp.ClientWebSocketResponse) -> None:
            nonlocal count
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                while time.monotonic() < end_s:
                    await ws.send_str(requests[count % len(requests)])
                    await ws.send_bytes(struct.pack(">I", 1) + bytes(160))
                    count += 1

        async def drain(ws: aiohttp.ClientWebSocketResponse) -> None:
            async for _ in ws:
                pass

        readers = [asyncio.ensure_future(drain(ws)) for ws in sockets]
        await asyncio.gather(*(flood(ws) for ws in sockets))
        for reader in readers:
            reader.cancel()
    return count


def backlog(address: str, path: Path) -> int:
    """Publish all frames of a file at once: lines of topic and hexadecimal frame."""
    host, _, port = address.rpartition(":")
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.max_queued_messages_set(0)
    client.max_inflight_messages_set(1000)
    client.connect(host, int(port))
    client.loop_start()
    frames = [line.split() for line in path.read_text().splitlines()]
    print("ready", flush=True)
    sent = [client.publish(topic, bytes.fromhex(frame), qos=1) for topic, frame in frames]
    for message in sent:
        message.wait_for_publish(60)
    client.loop_stop()
    return len(frames)


def main(kind: str, seconds: float, address: str, argument: str) -> None:
    """Make one kind of load for some seconds."""
    jobs = dict(zip(KINDS, (_compressed_bodies, _half_requests, _consoles, _dispatcher_floods), strict=True))
    if kind in jobs:
        count = asyncio.run(jobs[kind](address, argument, time.monotonic() + seconds))
    else:
        count = backlog(address, Path(argument))
    print(count)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4])
