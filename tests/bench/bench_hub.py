"""Load test of a hub: 200 groups talk at once to 1124 listeners; a real `patrolink hub`, broker and sockets.

Writes build/bench/hub.json. A voice packet is SRTP with 60 ms of A-law, prepared before the measurement. The relay time
of a packet is measured for every listener. It starts just before the packet is sent and ends when the kernel has
received it at the listener's socket. After the required load, the rate is increased up to the saturation point, at
which packets are lost or the 95th percentile exceeds 5 ms. Each talker has its own socket; listeners of different
groups share sockets.
"""

import contextlib
import json
import select
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
import patrolink_messages
import psutil
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("", "device", "tests/unit"):
    sys.path.insert(0, str(ROOT / folder))

from patrolink.core.keys import DeviceKey  # noqa: E402
from patrolink.emulator.network.broker import Broker  # noqa: E402
from patrolink.hub.infra.crypto import aes  # noqa: E402
from patrolink_protocol import codec, decode, frame, mcptt, srtp  # noqa: E402
from patrolink_protocol.receiver import Receiver  # noqa: E402

from tests.support import device_client, hub_process, site_file  # noqa: E402

GROUPS, LISTENERS = 200, 1124
STEPS = ((60.0, 10.0), (40.0, 4.0), (30.0, 4.0), (24.0, 4.0), (20.0, 4.0), (15.0, 4.0), (12.0, 4.0))  # ms, seconds
LIMIT_P95_MS = 5.0
LISTENERS_PER_SOCKET = 10
PAYLOAD = bytes(range(160)) * 3
KEEP_PACKETS = 60  # packets per talker that hold the floor while the others are prepared
_TIMESTAMPNS = 35  # SO_TIMESTAMPNS
_BUFFER_BYTES = 8 << 20


class Device:
    """A simulated device: keys, sockets, and the terms of its group."""

    def __init__(self, name: str, group: int, media: socket.socket) -> None:
        self.name, self.group, self.media = name, group, media
        self.key = site_file.keys_of([name])[name]
        self.terms: dict = {}
        self.index = 0
        self.ssrc = 0
        self.floor: socket.socket | None = None
        self._receiver = Receiver(self.key, name.encode(), frame.DOWNLINK)
        self._uplink_srtcp = self._srtcp_context(b"patrolink-ptt-up")

    def _srtcp_context(self, label: bytes) -> srtp.SrtcpTransform:
        return srtp.SrtcpTransform(aes, *srtp.derive_master(self.key, label, 0))

    def hello(self) -> bytes:
        channel, buf = frame.Channel(self.key, self.name.encode()), bytearray(512)
        values = dict.fromkeys(("boot", "schema_hash", "minor", "profiles", "heap_kb", "date_floor"), 0)
        values |= {"batch_fixes": 60, "board": b"linux", "firmware": b"0", "runtime": b"load"}
        n = codec.encode_into(patrolink_messages.HELLO, values, buf, frame.HEADER_BYTES)
        return bytes(buf[: channel.seal_into(buf, patrolink_messages.HELLO, 0, n)])

    def on_frame(self, data: bytes) -> None:
        """Process a frame of the hub and store the group's terms."""
        kind, _, body, _, _ = self._receiver.open(data)
        message = decode.decode(kind, body)
        if kind == patrolink_messages.PTT_GROUP and message["group"] == self.group:
            self.terms = message

    def protect_rtcp(self, data: bytes) -> bytes:
        buf = bytearray(data) + bytearray(32)
        n = self._uplink_srtcp.protect(buf, len(data), self.index)
        self.index += 1
        return bytes(buf[:n])

    def report(self) -> bytes:
        return self.protect_rtcp(device_client.RECEIVER_REPORT.pack(0x80, 201, 1, self.terms["ssrc"]))

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

    def voice(self, first: int, count: int) -> list[bytes]:
        """Return voice packets under the granted SSRC, from sequence number `first`."""
        key = aes_key_unwrap(DeviceKey(self.key).derive(b"patrolink-ptt-wrap")[:16], self.terms["wrapped"])
        context, packets = srtp.SrtpTransform(aes, key[:16], key[16:30]), []
        buf = bytearray(12 + len(PAYLOAD) + srtp.TAG_BYTES)
        for i in range(first, first + count):
            struct.pack_into(">BBHII", buf, 0, 0x80, 8, i, i * len(PAYLOAD), self.ssrc)
            buf[12 : 12 + len(PAYLOAD)] = PAYLOAD
            packets.append(bytes(buf[: context.protect(buf, 12 + len(PAYLOAD), 0)]))
        return packets


def udp_socket(stack: contextlib.ExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind(("127.0.0.1", 0))
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
    """

    def __init__(self, stack: contextlib.ExitStack, hub: str = "", dispatchers: str = "") -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-load-")))
        self.ports = hub_process.free_ports(2)
        self.broker = broker = Broker()
        stack.callback(broker.stop)
        names: dict[int, list[str]] = {g: [f"t-{g}"] for g in range(1, GROUPS + 1)}
        for i in range(LISTENERS):
            names[i % GROUPS + 1].append(f"l-{i}")
        shared = [udp_socket(stack) for _ in range((LISTENERS + LISTENERS_PER_SOCKET - 1) // LISTENERS_PER_SOCKET)]
        self.talkers = [Device(members[0], g, udp_socket(stack)) for g, members in names.items()]
        # Listeners of one group are on different sockets, because GROUPS is a multiple of LISTENERS_PER_SOCKET.
        self.listeners = [Device(f"l-{i}", i % GROUPS + 1, shared[i // LISTENERS_PER_SOCKET]) for i in range(LISTENERS)]
        self.devices = self.talkers + self.listeners
        self.listener_counts = [len(names[g]) - 1 for g in range(1, GROUPS + 1)]
        groups = "\n".join(
            site_file.GROUP_TEMPLATE.format(id=g, devices=json.dumps(members), more="talk_s = 600")
            for g, members in names.items()
        )
        site = site_file.SITE_TEMPLATE.format(
            url=broker.url, ports=self.ports, top="", hub=hub, groups=groups + dispatchers
        )
        self.hub = hub_process.HubProcess(folder, site, [device.name for device in self.devices])
        stack.callback(lambda: self.hub.process.poll() is None and self.hub.kill())
        self.receiving = select.epoll()
        self.sockets = {sock.fileno(): sock for sock in shared}
        for fd in self.sockets:
            self.receiving.register(fd, select.EPOLLIN)
        self._join(broker.port, stack)

    def _join(self, port: int, stack: contextlib.ExitStack) -> None:
        by_name = {device.name: device for device in self.devices}
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.max_queued_messages_set(0)
        client.on_message = lambda c, u, m: by_name[m.topic.split("/")[1]].on_frame(m.payload)
        client.on_connect = lambda c, *_: c.subscribe("p/+/d", qos=1)
        client.connect("127.0.0.1", port)
        client.loop_start()
        stack.callback(client.loop_stop)
        time.sleep(0.5)
        for device in self.devices:
            client.publish(f"p/{device.name}/u", device.hello(), qos=1)
        self._wait_until(lambda: all(device.terms for device in self.devices), "the terms of its group", 60)
        floor = [udp_socket(stack) for _ in range(len(self.devices) // 20 + 1)]
        for i, device in enumerate(self.devices):
            device.floor = floor[i // 20]
            device.floor.sendto(device.report(), ("127.0.0.1", self.ports[0]))
            device.media.sendto(device.report(), ("127.0.0.1", self.ports[1]))
            if i % 100 == 99:
                time.sleep(0.05)
        time.sleep(1)
        for device in self.talkers:
            device.floor.sendto(device.request(), ("127.0.0.1", self.ports[0]))
        self._wait_until(self._receive_grants, "the floor", 5)

    def _receive_grants(self) -> bool:
        by_hub_ssrc = {device.terms["hub_ssrc"]: device for device in self.talkers}
        for sock in {device.floor for device in self.talkers}:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data = sock.recv(2048)
                    device = by_hub_ssrc.get(int.from_bytes(data[4:8], "big"))
                    with contextlib.suppress(srtp.SrtpError):
                        if device is not None:  # otherwise the packet belongs to a private group
                            device.on_floor_packet(data)
        return all(device.ssrc for device in self.talkers)

    @staticmethod
    def _wait_until(condition, subject: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"error: not every device received {subject} within {seconds:g} s; reduce the load")
            time.sleep(0.02)

    def drain(self) -> None:
        """Discard received packets."""
        for sock in self.sockets.values():
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.recv(2048)


def step(load: Load, voice: list[list[bytes]], first: int, interval_ms: float, seconds: float) -> dict:
    """Send one packet per talker and interval; return the delays and losses."""
    count = int(seconds * 1000 / interval_ms)
    target = ("127.0.0.1", load.ports[1])
    talkers = [(device.media.sendto, voice[g], device.ssrc) for g, device in enumerate(load.talkers)]
    sent_ns: dict[int, int] = {}
    delays_ns: list[int] = []
    max_at_once = 0
    hub_cpu_start_s, generator_cpu_s = cpu_s(load), time.process_time()
    start = time.time_ns()
    gap = interval_ms * 1e6 / GROUPS
    total, sent = count * GROUPS, 0
    while True:
        now = time.time_ns()
        due = min(total, int((now - start) / gap) + 1)
        for k in range(sent, due):
            send, packets, ssrc = talkers[k % GROUPS]
            i = first + k // GROUPS
            sent_ns[ssrc << 16 | KEEP_PACKETS + i] = time.time_ns()
            send(packets[i], target)
        max_at_once = max(max_at_once, due - sent)
        sent = due
        if sent == total and now - start > seconds * 1e9 + 0.5e9:
            break
        for fd, _ in load.receiving.poll(0.0005):
            receive(load.sockets[fd], sent_ns, delays_ns)
    elapsed_ns = time.time_ns() - start
    hub_cpu_s = cpu_s(load) - hub_cpu_start_s
    expected = sum(load.listener_counts) * count
    ms = np.array(delays_ns) / 1e6
    p50, p95, p99 = np.percentile(ms, [50, 95, 99]) if delays_ns else (0, 0, 0)
    return {
        "frame_ms": interval_ms,
        "in_per_s": round(GROUPS * 1000 / interval_ms),
        "out_per_s": round(sum(load.listener_counts) * 1000 / interval_ms),
        "sent": total,
        "wanted": expected,
        "lost": expected - len(delays_ns),
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "p99_ms": round(float(p99), 2),
        "most_ms": round(float(ms.max()), 2) if delays_ns else None,
        "hub_cpu_pct": round(hub_cpu_s / (elapsed_ns / 1e9) * 100),
        "generator_cpu_pct": round((time.process_time() - generator_cpu_s) / (elapsed_ns / 1e9) * 100),
        "sent_at_once_most": max_at_once,
    }


def cpu_s(load: Load) -> float:
    """Return the CPU time that the processes of the hub have used."""
    hub = psutil.Process(load.hub.process.pid)
    times = [process.cpu_times() for process in (hub, *hub.children())]
    return sum(entry.user + entry.system for entry in times)


def receive(sock: socket.socket, sent_ns: dict[int, int], delays_ns: list[int]) -> None:
    """Read a socket and append the delay of each packet, by the kernel's receive time."""
    recvmsg = sock.recvmsg
    for _ in range(64):
        try:
            data, ancillary, _, _ = recvmsg(600, 64)
        except BlockingIOError:
            return
        if data[1] & 0x7F != 8:
            continue
        start_ns = sent_ns.get(int.from_bytes(data[8:12], "big") << 16 | data[2] << 8 | data[3])
        if start_ns is not None:
            s, ns = struct.unpack_from("@ll", ancillary[0][2])
            delays_ns.append(s * 1_000_000_000 + ns - start_ns)


def prepare(load: Load, count: int) -> list[list[bytes]]:
    """Return `count` packets per talker, from sequence number KEEP_PACKETS. All talkers hold the floor meanwhile."""
    keep = [device.voice(0, KEEP_PACKETS) for device in load.talkers]
    voice, round_number, sent_s = [], 0, 0.0
    for device in load.talkers:
        if time.monotonic() - sent_s > 1:
            sent_s = time.monotonic()
            for other, packets in zip(load.talkers, keep, strict=True):
                other.media.sendto(packets[round_number], ("127.0.0.1", load.ports[1]))
            round_number += 1
        voice.append(device.voice(KEEP_PACKETS, count))
    load.drain()
    return voice


def main() -> None:
    results: list[dict] = []
    with contextlib.ExitStack() as stack:
        load = Load(stack)
        counts = [int(seconds * 1000 / interval) for interval, seconds in STEPS]
        voice = prepare(load, sum(counts))
        first = 0
        for (interval, seconds), count in zip(STEPS, counts, strict=True):
            results.append(step(load, voice, first, interval, seconds))
            print(json.dumps(results[-1]), flush=True)
            first += count
            if results[-1]["lost"] or results[-1]["p95_ms"] >= LIMIT_P95_MS:
                break
        counts_of_hub = load.hub.stop()
    passed = [result for result in results if not result["lost"] and result["p95_ms"] < LIMIT_P95_MS]
    report = {
        "groups": GROUPS,
        "listeners": LISTENERS,
        "steps": results,
        "carries_out_per_s": passed[-1]["out_per_s"] if passed else 0,
        "saturates_at_out_per_s": None if results[-1] in passed else results[-1]["out_per_s"],
        "hub": {
            name: counts_of_hub.get(name, 0)
            for name in ("voice_in", "voice_out", "send_full", "send_failed", "refused")
        },
        "hub_relay": counts_of_hub["relay"],
    }
    out = ROOT / "build" / "bench" / "hub.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in report.items() if name != "steps"}))
    if results[0] not in passed:
        print("requirement missed: 200 groups and 1124 listeners without loss and with p95 below 5 ms")


if __name__ == "__main__":
    main()
