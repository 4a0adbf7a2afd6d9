"""A whole hub in the test's process, on a clock that the test sets, without network and without a broker."""

import asyncio
import inspect
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import patrolink_messages as m
from patrolink.core.capture import Record
from patrolink.hub.app import Hub
from patrolink.hub.config import HubContext
from patrolink.hub.voice.group_registry import GroupRegistry
from patrolink_names import NAMES as VALUE_NAMES
from patrolink_protocol import codec, frame, mcptt

from tests.support import site_file
from tests.support.hub_parts import NOW_MS, FakeClock

_TURNS = 20  # of the loop, until no message is under way between the halves
_EVENT_KINDS = {name: code for code, name in VALUE_NAMES["event", "kind"].items()}


class ImmediateLoop(asyncio.SelectorEventLoop):
    """An event loop that runs work for threads at once."""

    def run_in_executor(self, executor: Any, func: Callable, *args: Any) -> asyncio.Future:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as e:  # noqa: BLE001 - it belongs to who waits
            future.set_exception(e)
        return future


class FakeSocket:
    """A UDP socket that keeps what is sent."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent: list[tuple[bytes, Any]] = []

    def fileno(self) -> int:
        return -1

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def sendto(self, data: bytes, address: Any) -> int:
        self.sent.append((bytes(data), address))
        return len(data)

    def close(self) -> None:
        pass


class FakePlatform:
    """Surroundings of a hub for `HubHarness`.

    Attributes:
        sockets: By port.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.random_bytes: Callable[[int], bytes] = random.Random(1).randbytes
        self.sockets: dict[int, FakeSocket] = {}

    def bind_udp(self, host: str, port: int) -> FakeSocket:
        self.sockets[port] = FakeSocket(port)
        return self.sockets[port]

    def connect_broker(self, url: str, session: str, on_topic: Mapping, on_record: Callable) -> None:
        raise AssertionError("HubHarness runs no broker")

    def recording_writer(self, folder: Path) -> None:
        return None


class MessageRecorder:
    """Queue of a dispatcher that keeps all messages."""

    name = "duty"

    def __init__(self) -> None:
        self.messages: list[dict] = []

    def put(self, message: Any) -> None:
        self.messages.append(message)


class HubHarness:
    """A hub of the example site with one dispatcher, and devices that send frames.

    Attributes:
        voice, service: The halves of the hub.
        clock: Its clock.
        metrics, voice_metrics: Metrics of the halves.
    """

    def __init__(self, folder: Path, clock: FakeClock | None = None) -> None:
        self.folder, self.clock = folder, clock or FakeClock(NOW_MS)
        self.platform = FakePlatform(self.clock)
        self.loop = ImmediateLoop()
        hub = Hub(HubContext(folder / "site.toml"), self.platform)
        self.voice, self.service = hub._voice, hub._service
        self.metrics, self.voice_metrics = hub.metrics, hub._voice_metrics
        self.dispatcher = MessageRecorder()
        self.service._broadcaster.add(self.dispatcher)
        self._counters: dict[str, int] = {}
        self.call(self._connect)

    def _connect(self) -> None:
        halves = (self.voice, self.voice._requests), (self.service, self.service._events)
        self._ends = [self.loop.create_task(half._channel.run(handler)) for half, handler in halves]

    def call(self, function: Callable, *args: Any) -> Any:
        """Call a function on the hub's event loop, let the halves exchange messages, and return the result."""

        async def job() -> Any:
            result = function(*args)
            if inspect.isawaitable(result):
                result = await result
            for _ in range(_TURNS):
                self.voice._terms.send_next()
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(job())

    @property
    def registry(self) -> GroupRegistry:
        """The groups of the voice."""
        return self.voice._voice._registry

    def poll_bars(self) -> None:
        """Let the hub look at the file of barred devices."""
        self.call(self.service._barring.poll)

    def poll_updates(self) -> None:
        """Let the hub look at the file of campaigns, and do what is due."""
        self.call(self.service._updates.poll)

    def close(self) -> None:
        """Stop the event loop."""
        for end in self._ends:
            end.cancel()
        self.call(lambda: None)
        self.loop.close()

    # --- devices ------------------------------------------------------------------------------------------------------

    def seal(self, device: str, kind: int, values: dict, counter: int | None = None) -> bytes:
        """Return the next frame of a device, or one with a certain counter."""
        if counter is None:
            counter = self._counters[device] = self._counters.get(device, -1) + 1
        buf = bytearray(1024)
        end = codec.encode_into(kind, values, buf, frame.HEADER_BYTES)
        channel = frame.Channel(site_file.keys_of([device])[device], device.encode())
        return bytes(buf[: channel.seal_into(buf, kind, counter, end)])

    def receive(self, device: str, data: bytes) -> None:
        """Deliver a frame to the hub."""
        self.call(self.service._uplink.receive, Record(self.clock.now_ms, device, data))

    def send(self, device: str, kind: int, values: dict) -> bytes:
        """Send a message of a device, and return its frame."""
        data = self.seal(device, kind, values)
        self.receive(device, data)
        return data

    def send_event(self, device: str, event_id: int, kind: str, phase: int = 0) -> bytes:
        numbers = {"event_id": event_id, "kind": _EVENT_KINDS[kind], "phase": phase, "ack_wanted": 1, "cause": 0}
        return self.send(device, m.EVENT, {**numbers, "time_ms": NOW_MS + event_id, "text": b""})

    def send_sos(self, device: str, event_id: int) -> bytes:
        return self.send_event(device, event_id, "sos")

    def send_hello(self, device: str, **fields: Any) -> bytes:
        """Send a `hello` of a device; `fields` replace those of its board without slots."""
        numbers = dict.fromkeys(("boot", "schema_hash", "minor", "profiles", "heap_kb", "date_floor"), 0)
        numbers |= {"rollback_floor": 0, "platform": 0}
        texts = {"board": b"linux", "firmware": b"0", "runtime": b"test", "content": bytes(8)}
        return self.send(device, m.HELLO, {**numbers, "batch_fixes": 60, **texts, **fields})

    def request_floor(self, device: str, group: int) -> None:
        """Request the floor of a group for a device."""
        voice = self.voice._voice
        membership = self.registry.devices[device].memberships[group]
        writer = mcptt.Writer(bytearray(64))
        writer.begin(mcptt.REQUEST, membership.member.ssrc)
        writer.word(mcptt.INDICATOR, mcptt.NORMAL)
        data = bytes(writer.buf[: writer.end()])
        self.call(voice._server.receive, membership.group, membership.member, data, 1)

    @staticmethod
    def status_values() -> dict:
        fields = [codec.parse_field(spec) for spec in codec.message_spec(m.DEVICE_STATUS)[1:]]
        return {name: 0 for name, _, _, _, _, unknown in fields if unknown is None}

    # --- what the hub does --------------------------------------------------------------------------------------------

    def take_publications(self) -> list[tuple[str, int, dict]]:
        """Take all messages that wait for the broker: device, kind and fields."""
        messages = []
        while (waiting := self.service._sender._queue.pop()) is not None:
            messages.append(tuple(waiting.message))
        return messages

    def open_alarms(self) -> list[tuple[str, int]]:
        return [(row["device"], row["event_id"]) for row in self.service._incidents.alarms()]

    def messages(self, kind: str) -> list[dict]:
        """Return the messages of a type that the dispatcher has got."""
        return [message for message in self.dispatcher.messages if message["type"] == kind]

    def audit(self) -> list[dict]:
        path = self.service._context.state / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
