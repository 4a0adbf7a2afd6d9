"""Load on a real `patrolink hub` with broker and sockets: 200 groups talk at once to 1124 listeners.

A voice packet is SRTP with 60 ms of A-law. The relay time of a packet is measured for every listener. It starts just
before the packet is sent and ends when the kernel has received it at the listener's socket. Each talker has its own
socket; listeners of different groups share sockets.
"""

import contextlib
import json
import os
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import paho.mqtt.client as paho
import patrolink_messages
import priority
import psutil
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from hub_delivery import Delivery
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("", "device", "tests/unit"):
    sys.path.insert(0, str(ROOT / folder))

from patrolink.core.keys import DeviceKey  # noqa: E402
from patrolink.emulator.network.broker import Broker  # noqa: E402
from patrolink_protocol import codec, decode, frame, group_report, mcptt, srtp  # noqa: E402
from patrolink_protocol.aes import encrypter  # noqa: E402
from patrolink_protocol.receiver import Receiver  # noqa: E402

from tests.support import device_client, hub_process, site_file  # noqa: E402

GROUPS, LISTENERS = 200, 1124
INTERVAL_MS = 60.0  # of the packets of one talker
LISTENERS_PER_SOCKET = 10
PAYLOAD = bytes(range(160)) * 3
_TIMESTAMPNS = 35  # SO_TIMESTAMPNS
_BUFFER_BYTES = 8 << 20
_SPARE = 8  # packets that hold the floor while others are prepared
_HOLD_S = 1.0  # between packets that hold the floor
_SILENT_S = 3.0  # the hub ends a burst without a packet for 4 s
_KEEPALIVE_S = 25.0  # a device without one for 60 s counts as absent
_LOOPBACK = "127.0.0.1"


class Device:
    """A simulated device: keys, sockets, and the terms of its group."""

    def __init__(self, name: str, group: int, media: socket.socket) -> None:
        self.name, self.group, self.media = name, group, media
        self.key = site_file.keys_of([name])[name]
        self.terms: dict = {}
        self.index = 0
        self.ssrc = 0
        self.sequence = 0  # of the next voice packet
        self.spare: list[bytes] = []  # packets that hold the floor, older than those that are prepared
        self.floor: socket.socket | None = None
        self._voice: srtp.SrtpTransform | None = None
        self._receiver = Receiver(self.key, name.encode(), frame.DOWNLINK)
        self._uplink_srtcp = self._srtcp_context(b"patrolink-ptt-up")
        self._frames = frame.Channel(self.key, name.encode())
        self._counter = 0
        self.held: dict[int, dict] = {}  # terms of all groups
        self.states: list[int] = []  # of the device's events, as the hub has answered

    def _srtcp_context(self, label: bytes) -> srtp.SrtcpTransform:
        return srtp.SrtcpTransform(encrypter, *srtp.derive_master(self.key, label, 0))

    def message(self, kind: int, values: dict) -> bytes:
        """Return the next frame of the device."""
        buf = bytearray(512)
        n = codec.encode_into(kind, values, buf, frame.HEADER_BYTES)
        sealed = bytes(buf[: self._frames.seal_into(buf, kind, self._counter, n)])
        self._counter += 1
        return sealed

    def hello(self) -> bytes:
        values = dict.fromkeys(("boot", "schema_hash", "minor", "profiles", "heap_kb", "date_floor"), 0)
        values |= {"batch_fixes": 60, "board": b"linux", "firmware": b"0", "runtime": b"load"}
        values |= {"content": bytes(8), "rollback_floor": 0, "platform": 0}
        return self.message(patrolink_messages.HELLO, values)

    def on_frame(self, data: bytes) -> None:
        """Process a frame of the hub: store terms of groups, and answers to events."""
        kind, _, _ = self._receiver.accept(data)
        body, _ = self._receiver.read(data)
        message = decode.decode(kind, body)
        if kind == patrolink_messages.EVENT_STATE:
            self.states.append(message["state"])
        elif kind == patrolink_messages.PTT_GROUP and not message["rights"]:
            self.held.pop(message["group"], None)
        elif kind == patrolink_messages.PTT_GROUP:
            self.held[message["group"]] = message
            if message["group"] == self.group:
                self.terms, self._voice = message, None

    def group_key(self, terms: dict) -> bytes:
        """Return master key and salt of a group, 30 bytes."""
        wrapping_key = DeviceKey(self.key).derive(b"patrolink-ptt-wrap")[:16]
        return aes_key_unwrap(wrapping_key, terms["wrapped"])[:30]

    def protect_rtcp(self, data: bytes) -> bytes:
        buf = bytearray(data) + bytearray(32)
        n = self._uplink_srtcp.protect(buf, len(data), self.index)
        self.index += 1
        return bytes(buf[:n])

    def report(self) -> bytes:
        """Return a keepalive."""
        return self.protect_rtcp(device_client.RECEIVER_REPORT.pack(0x80, 201, 1, self.terms["ssrc"]))

    def group_report(self) -> bytes:
        """Return a keepalive with the groups and keys that the device holds, as devices send it every 15 s."""
        entries = [
            group_report.pack_entry(number, terms["key"], self._digest(terms)) for number, terms in self.held.items()
        ]
        packet = group_report.receiver_report(group_report.MAX_GROUPS - len(entries), b"".join(entries))
        packet[4:8] = self.terms["ssrc"].to_bytes(4, "big")
        return self.protect_rtcp(bytes(packet))

    def _digest(self, terms: dict) -> bytes:
        values = {name: value.encode() if isinstance(value, str) else value for name, value in terms.items()}
        return group_report.terms_digest(values, self.group_key(terms))

    def request(self) -> bytes:
        writer = mcptt.Writer(bytearray(64))
        writer.begin(mcptt.REQUEST, self.terms["ssrc"])
        writer.word(mcptt.INDICATOR, mcptt.NORMAL | mcptt.QUEUEING)
        return self.protect_rtcp(bytes(writer.buf[: writer.end()]))

    def on_floor_packet(self, data: bytes) -> None:
        """Process a floor control packet and store the granted SSRC."""
        downlink, buf, message = self._srtcp_context(b"patrolink-ptt-down"), bytearray(data), mcptt.Message()
        n = downlink.open(buf, len(buf))
        at = 0
        while buf[1] == 204 and at < n:
            at = message.read(buf, at, n, mcptt.DOWNLINK_TYPES)
            if message.type == mcptt.GRANTED:
                self.ssrc = message.audio_ssrc

    def voice(self, count: int) -> list[bytes]:
        """Return the next voice packets under the granted SSRC."""
        if self._voice is None:
            key = self.group_key(self.terms)
            self._voice = srtp.SrtpTransform(encrypter, key[:16], key[16:30])
        packets = []
        buf = bytearray(12 + len(PAYLOAD) + srtp.TAG_BYTES)
        for i in range(self.sequence, self.sequence + count):
            struct.pack_into(">BBHII", buf, 0, 0x80, 8, i, i * len(PAYLOAD), self.ssrc)
            buf[12 : 12 + len(PAYLOAD)] = PAYLOAD
            packets.append(bytes(buf[: self._voice.protect(buf, 12 + len(PAYLOAD), 0)]))
        self.sequence += count
        return packets


def udp_socket(stack: contextlib.ExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind((_LOOPBACK, 0))
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, 33, _BUFFER_BYTES)  # SO_RCVBUFFORCE, for root
    sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
    return sock


class Load:
    """A hub, devices that have joined their groups, and talkers that hold the floor.

    Args:
        stack: Owner of hub, broker and sockets.
        hub: Lines for the [[hub]] table of the site file.
        dispatchers: [[dispatcher]] tables.
        source: Checkout whose hub is run; None: this one.
    """

    def __init__(
        self, stack: contextlib.ExitStack, hub: str = "", dispatchers: str = "", source: Path | None = None
    ) -> None:
        self.folder = folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-load-")))
        self.ports = hub_process.free_ports(2)
        self.broker = Broker()
        stack.callback(self.broker.stop)
        names: dict[int, list[str]] = {g: [f"t-{g}"] for g in range(1, GROUPS + 1)}
        for i in range(LISTENERS):
            names[i % GROUPS + 1].append(f"l-{i}")
        shared = [udp_socket(stack) for _ in range((LISTENERS + LISTENERS_PER_SOCKET - 1) // LISTENERS_PER_SOCKET)]
        self.talkers = [Device(members[0], g, udp_socket(stack)) for g, members in names.items()]
        # Listeners of one group are on different sockets, because GROUPS is a multiple of LISTENERS_PER_SOCKET.
        self.listeners = [Device(f"l-{i}", i % GROUPS + 1, shared[i // LISTENERS_PER_SOCKET]) for i in range(LISTENERS)]
        self.devices = self.talkers + self.listeners
        self.listener_counts = [len(names[g]) - 1 for g in range(1, GROUPS + 1)]
        self.members, self._site_parts = names, (hub, dispatchers)
        environment = source_environment(source) if source else None
        self.hub = hub_process.HubProcess(
            folder, self.site(names), [device.name for device in self.devices], environment=environment
        )
        stack.callback(lambda: self.hub.process.poll() is None and self.hub.kill())
        priority.raise_sessions([psutil.Process(self.hub.process.pid), *self.processes().values()])
        self.sockets = shared
        self._held_s = self._keepalive_s = 0.0
        self._join(stack)

    def site(self, names: dict[int, list[str]]) -> str:
        """Return a site file with the members of each group."""
        hub, dispatchers = self._site_parts
        groups = "\n".join(
            site_file.GROUP_TEMPLATE.format(id=g, devices=json.dumps(members), more="talk_s = 600")
            for g, members in names.items()
        )
        return site_file.SITE_TEMPLATE.format(
            url=self.broker.url, ports=self.ports, top="", hub=hub, groups=groups + dispatchers
        )

    def _join(self, stack: contextlib.ExitStack) -> None:
        by_name = {device.name: device for device in self.devices}
        self.client = client = paho.Client(CallbackAPIVersion.VERSION2)
        client.max_queued_messages_set(0)
        client.on_message = lambda c, u, m: by_name[m.topic.split("/")[1]].on_frame(m.payload)
        client.on_connect = lambda c, *_: c.subscribe("p/+/d", qos=1)
        client.connect(_LOOPBACK, self.broker.port)
        client.loop_start()
        stack.callback(client.loop_stop)
        time.sleep(0.5)
        for device in self.devices:
            client.publish(f"p/{device.name}/u", device.hello(), qos=1)
        wait_until(lambda: all(device.terms for device in self.devices), "the terms of its group", 60)
        floor = [udp_socket(stack) for _ in range(len(self.devices) // 20 + 1)]
        for i, device in enumerate(self.devices):
            device.floor = floor[i // 20]
        self._send_keepalives()

    # --- processes ----------------------------------------------------------------------------------------------------

    def processes(self) -> dict[str, psutil.Process]:
        """Return the processes of the hub by name: supervisor, voice, service and others."""
        hub = psutil.Process(self.hub.process.pid)
        by_name = {"hub": hub}
        for process in hub.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                by_name[next((name for name in ("voice", "service") if name in words), "writer")] = process
        return by_name

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU time that each process of the hub has used."""
        used = {}
        for name, process in self.processes().items():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used[name] = times.user + times.system
        return used

    # --- floors -------------------------------------------------------------------------------------------------------

    def _send_keepalives(self) -> None:
        self._keepalive_s = time.monotonic()
        for i, device in enumerate(self.devices):
            device.floor.sendto(device.report(), (_LOOPBACK, self.ports[0]))
            device.media.sendto(device.report(), (_LOOPBACK, self.ports[1]))
            if i % 20 == 19:
                time.sleep(0.02)
                self.hold()
        time.sleep(0.5)  # they are processed before the measurement

    def take_floors(self) -> None:
        """Request the floor for the talkers that do not hold it, and wait for it."""
        if time.monotonic() - self._held_s > _SILENT_S:
            for device in self.talkers:
                device.ssrc = device.sequence = 0
        discard({device.floor for device in self.talkers})  # grants of earlier requests
        for _ in range(10):
            missing = [device for device in self.talkers if not device.ssrc]
            for device in missing:
                device.floor.sendto(device.request(), (_LOOPBACK, self.ports[0]))
            with contextlib.suppress(SystemExit):
                wait_until(self._receive_grants, "the floor", 1)
                return
        raise SystemExit(f"error: {len(missing)} talkers did not get the floor within 10 s")

    def _receive_grants(self) -> bool:
        self.hold()
        by_hub_ssrc = {device.terms["hub_ssrc"]: device for device in self.talkers}
        for sock in {device.floor for device in self.talkers}:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data = sock.recv(2048)
                    device = by_hub_ssrc.get(int.from_bytes(data[4:8], "big"))
                    with contextlib.suppress(srtp.SrtpError):
                        if device is not None and not device.ssrc:  # otherwise of a private group, or a repeat
                            device.on_floor_packet(data)
        return all(device.ssrc for device in self.talkers)

    def hold(self) -> None:
        """Hold the floors by a packet each, if the last one was a second ago."""
        if time.monotonic() - self._held_s >= _HOLD_S:
            self._held_s = time.monotonic()
            for device in self.talkers:
                if device.ssrc:
                    packet = device.spare.pop(0) if device.spare else device.voice(1)[0]
                    device.media.sendto(packet, (_LOOPBACK, self.ports[1]))

    def wait(self, seconds: float) -> None:
        """Wait while the talkers hold their floors."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self.hold()
            time.sleep(min(0.1, left_s))

    def drain(self) -> None:
        """Discard received voice packets."""
        discard(self.sockets)

    # --- measurement --------------------------------------------------------------------------------------------------

    def measure(self, seconds: float, interval_ms: float = INTERVAL_MS) -> dict:
        """Send one packet per talker and interval; return the delays, losses and the CPU shares of the processes.

        A talker whose packets were all lost has lost its floor, and requests it before the next measurement.
        """
        if time.monotonic() - self._keepalive_s > _KEEPALIVE_S:
            self._send_keepalives()
        self.take_floors()
        count = int(seconds * 1000 / interval_ms)
        voice = []
        for device in self.talkers:
            device.spare = device.voice(_SPARE)
        for device in self.talkers:
            self.hold()
            voice.append(device.voice(count))
        for device in self.talkers:
            device.spare.clear()
        self.drain()
        delivery = Delivery(self.talkers, voice, interval_ms, self.ports[1], self.sockets, sum(self.listener_counts))
        cpu_s, generator_s, start_s = self.cpu_s(), time.process_time(), time.monotonic()
        delivery.run()
        elapsed_s = time.monotonic() - start_s
        self._held_s = time.monotonic()
        used = {name: round((used - cpu_s.get(name, 0)) / elapsed_s * 100, 1) for name, used in self.cpu_s().items()}
        hub_pct = round(sum(used.values()))
        used["generator"] = round((time.process_time() - generator_s) / elapsed_s * 100, 1)
        for device in self.talkers:
            if device.ssrc not in delivery.delivered:
                device.ssrc = device.sequence = 0
        rates = {
            "frame_ms": interval_ms,
            "in_per_s": round(GROUPS * 1000 / interval_ms),
            "out_per_s": round(sum(self.listener_counts) * 1000 / interval_ms),
        }
        return {**rates, **delivery.result(), "hub_cpu_pct": hub_pct, "cpu_pct": used}


def discard(sockets: Iterable[socket.socket]) -> None:
    """Discard the packets that sockets have received."""
    for sock in sockets:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.recv(2048)


def source_environment(source: Path) -> dict[str, str]:
    """Return the environment that runs the tools of another checkout with this interpreter."""
    folders = ("host_tools", "protocol", "protocol/generated")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(source / folder) for folder in folders)}


def wait_until(condition, subject: str, seconds: float) -> None:
    """Wait for a condition of all devices."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"error: not every device received {subject} within {seconds:g} s; reduce the load")
        time.sleep(0.02)
