"""The broker on an event loop: frames of devices come in, frames to devices go out in their order.

With several hubs at a site the one of the lowest shard seals what goes to devices, whose counter has to grow. The
others ask it to, on topic `h/<site>/home`: device id, then AES-GCM under a key of that device (label `patrolink-hub`)
of a JSON of who asks, when, and the message. One that is older than a minute, or than one before, is refused.
"""

import asyncio
import contextlib
import json
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from patrolink.core.capture import Record
from patrolink.core.clock import unix_ms
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.hub.config import HubContext
from patrolink.hub.infra.downlink import Downlink
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.persistence import PersistentCounter
from patrolink.transport.mqtt import MqttTransport

_MOST_WAITING = 20_000
_FRESH_MS = 60_000
_NONCE = 12
_LABEL = b"patrolink-hub"

Values = dict[str, Any]


class HubRequests:
    """Seals and opens what one hub asks another to tell a device."""

    def __init__(self, place: HubContext) -> None:
        self._place = place
        self._aad = b"patrolink-hub " + place.site.name.encode()
        self._last: dict[tuple[int, str], int] = {}  # by shard and device

    def _key(self, device: str) -> AESGCM:
        return AESGCM(self._place.keys[device].derive(_LABEL))

    def seal(self, device: str, kind: int, values: Values) -> bytes:
        """Return the request to tell a device a message."""
        sender = self._place.hub.shard
        last = self._last[sender, device] = max(unix_ms(), self._last.get((sender, device), 0) + 1)
        plain = {name: {"hex": value.hex()} if isinstance(value, bytes) else value for name, value in values.items()}
        text = json.dumps({"shard": sender, "time_ms": last, "kind": kind, "values": plain}).encode()
        nonce = secrets.token_bytes(_NONCE)
        name = device.encode()
        return bytes([len(name)]) + name + nonce + self._key(device).encrypt(nonce, text, self._aad + name)

    def open(self, data: bytes) -> tuple[str, int, Values]:
        """Return device, type and fields of a genuine request; ValueError otherwise."""
        name = data[1 : 1 + data[0]] if data else b""
        device = name.decode()
        if device not in self._place.keys:
            raise ValueError("device")
        nonce, rest = data[1 + len(name) :][:_NONCE], data[1 + len(name) + _NONCE :]
        try:
            it = json.loads(self._key(device).decrypt(nonce, rest, self._aad + name))
        except InvalidTag:
            raise ValueError("tag") from None
        sender = it["shard"], device
        if abs(unix_ms() - it["time_ms"]) > _FRESH_MS or it["time_ms"] <= self._last.get(sender, 0):
            raise ValueError("replay")
        self._last[sender] = it["time_ms"]
        values = {name: bytes.fromhex(v["hex"]) if isinstance(v, dict) else v for name, v in it["values"].items()}
        return device, it["kind"], values


class Broker:
    """
    uplink  is handed each frame that comes, on the event loop
    """

    def __init__(self, place: HubContext, metrics: Metrics, uplink: Callable[[Record], None]) -> None:
        self._place, self._metrics, self._uplink = place, metrics, uplink
        self._home = f"h/{place.site.name}/home"
        self._requests = HubRequests(place)
        self._downlink = Downlink(place.keys, PersistentCounter(place.state / "downlink.json", 1024).take)
        self._waiting: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(_MOST_WAITING)
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._pool = ThreadPoolExecutor(1, "publisher")
        self._reader = threading.Thread(target=self._read, name="broker", daemon=True)
        metrics.gauges["downlink_waiting"] = self._waiting.qsize

    async def start(self) -> None:
        """Connect; UserError when the broker cannot be reached. Later it is tried again, and what goes out waits."""
        topics: dict[str, Callable[[bytes], None]] = {self._home: self._on_request} if self._place.is_home else {}
        self._transport = await asyncio.to_thread(MqttTransport, self._place.site.broker, topics)
        self._reader.start()
        self._writer = asyncio.ensure_future(self._write())

    def rekey(self, device: str, key: DeviceKey) -> None:
        """A device has begun another key epoch."""
        self._downlink.rekey(device, key)

    def send(self, device: str, kind: int, values: Values) -> None:
        """Tell a device a message, through the hub that talks to it."""
        if self._place.is_home:
            self._put(f"p/{device}/d", self._downlink.seal(device, kind, values))
        else:
            self._put(self._home, self._requests.seal(device, kind, values))

    def answer(self, device: str, event_id: int) -> None:
        """Tell a device that its event is known here."""
        self._put(f"p/{device}/d", self._downlink.answer(device, event_id, unix_ms()))

    def _put(self, topic: str, data: bytes) -> None:
        try:
            self._waiting.put_nowait((topic, data))
        except asyncio.QueueFull:
            self._metrics.counts["downlink_dropped"] += 1

    async def _write(self) -> None:
        while True:
            topic, data = await self._waiting.get()
            try:
                await self._loop.run_in_executor(self._pool, self._transport.publish_to, topic, data)
                self._metrics.counts["downlink"] += 1
            except UserError:
                self._metrics.counts["downlink_failed"] += 1

    def _read(self) -> None:
        for record in self._transport.records():
            if self._closing:
                return
            if record is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._uplink, record)

    def _on_request(self, data: bytes) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._relay, data)

    def _relay(self, data: bytes) -> None:
        try:
            device, kind, values = self._requests.open(data)
            self.send(device, kind, values)
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            self._metrics.refused[f"hub request: {e}" if str(e) in ("device", "tag", "replay") else "hub request"] += 1

    async def close(self) -> None:
        """Send what waits, for a second at most, and go."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drained(), 1)
        self._writer.cancel()
        self._closing = True
        await self._loop.run_in_executor(None, self._reader.join, 1)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._transport.close()

    async def _drained(self) -> None:
        while not self._waiting.empty():
            await asyncio.sleep(0.02)
