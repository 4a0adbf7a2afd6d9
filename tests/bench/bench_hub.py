"""A hub under load: 200 groups speak at once, 1124 listeners; a real `patrolink hub`, broker and sockets.

Writes build/bench/hub.json. Voice is SRTP of 60 ms of A-law a packet, made beforehand. A packet's relay time is from
before it is sent to when the kernel has it at a listener's socket, for every listener. After the load that it has to
carry the rate grows until packets are lost or the p95 is over 5 ms: there it saturates. Talkers have sockets of their
own, listeners of different groups share some.
"""

import contextlib
import hmac
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
for room in ("", "device", "tests/unit"):
    sys.path.insert(0, str(ROOT / room))

from patrolink.emulator.network.broker import Broker  # noqa: E402
from patrolink.hub.infra.crypto import aes  # noqa: E402
from patrolink_protocol import codec, decode, frame, mcptt, srtp  # noqa: E402
from patrolink_protocol.receiver import Receiver  # noqa: E402

from tests.support import hub_process  # noqa: E402

GROUPS, LISTENERS = 200, 1124
STEPS = ((60.0, 10.0), (40.0, 4.0), (30.0, 4.0), (24.0, 4.0), (20.0, 4.0), (15.0, 4.0), (12.0, 4.0))  # ms, seconds
BAR_MS = 5.0
SHARED = 10  # listeners behind one socket
PAYLOAD = bytes(range(160)) * 3
KEPT = 60  # packets that keep the floor before the measurement
_TIMESTAMPNS = 35  # SO_TIMESTAMPNS
_BUFFER = 8 << 20


class Device:
    """What the generator knows of a device: keys, sockets, and the terms of its group."""

    def __init__(self, name: str, group: int, media: socket.socket) -> None:
        self.name, self.group, self.media = name, group, media
        self.key = hub_process.keys_of([name])[name]
        self.terms: dict = {}
        self.index = 0
        self.ssrc = 0
        self._receiver = Receiver(self.key, name.encode(), frame.DOWNLINK)
        self._up = self._master(b"patrolink-ptt-up")

    def _derive(self, label: bytes) -> bytes:
        return hmac.digest(self.key, label + bytes(4), "sha256")

    def _master(self, label: bytes) -> srtp.SrtcpTransform:
        master = self._derive(label)
        return srtp.SrtcpTransform(aes, master[:16], master[16:30])

    def hello(self) -> bytes:
        channel, buf = frame.Channel(self.key, self.name.encode()), bytearray(512)
        values = dict.fromkeys(("boot", "schema_hash", "minor", "profiles", "heap_kb", "date_floor"), 0)
        values |= {"batch_fixes": 60, "board": b"linux", "firmware": b"0", "runtime": b"load"}
        n = codec.encode_into(patrolink_messages.HELLO, values, buf, frame.HEADER_BYTES)
        return bytes(buf[: channel.seal_into(buf, patrolink_messages.HELLO, 0, n)])

    def told(self, data: bytes) -> None:
        """Take a frame of the hub's; the group's terms are kept."""
        kind, _, body, _, _ = self._receiver.open(data)
        message = decode.decode(kind, body)
        if kind == patrolink_messages.PTT_GROUP and message["group"] == self.group:
            self.terms = message

    def sealed(self, data: bytes) -> bytes:
        buf = bytearray(data) + bytearray(32)
        n = self._up.protect(buf, len(data), self.index)
        self.index += 1
        return bytes(buf[:n])

    def report(self) -> bytes:
        return self.sealed(hub_process.RECEIVER_REPORT.pack(0x80, 201, 1, self.terms["ssrc"]))

    def request(self) -> bytes:
        writer = mcptt.Writer(bytearray(64))
        writer.begin(mcptt.REQUEST, self.terms["ssrc"])
        writer.word(mcptt.INDICATOR, mcptt.NORMAL | mcptt.QUEUEING)
        return self.sealed(bytes(writer.buf[: writer.end()]))

    def heard(self, data: bytes) -> None:
        """Take a packet of floor control: the SSRC that is granted."""
        down, buf, message = self._master(b"patrolink-ptt-down"), bytearray(data), mcptt.Message()
        n = down.open(buf, len(buf))
        at = 0
        while buf[1] == 204 and at < n:
            at = message.read(buf, at, n, mcptt.DOWNLINK_TYPES)
            if message.type == mcptt.GRANTED:
                self.ssrc = message.audio_ssrc

    def voice(self, first: int, count: int) -> list[bytes]:
        """Packets of voice under the granted SSRC, from this sequence number on."""
        plain = aes_key_unwrap(self._derive(b"patrolink-ptt-wrap")[:16], self.terms["wrapped"])
        rtp, out = srtp.SrtpTransform(aes, plain[:16], plain[16:30]), []
        buf = bytearray(12 + len(PAYLOAD) + srtp.TAG_BYTES)
        for i in range(first, first + count):
            struct.pack_into(">BBHII", buf, 0, 0x80, 8, i, i * len(PAYLOAD), self.ssrc)
            buf[12 : 12 + len(PAYLOAD)] = PAYLOAD
            out.append(bytes(buf[: rtp.protect(buf, 12 + len(PAYLOAD), 0)]))
        return out


def udp(stack: contextlib.ExitStack) -> socket.socket:
    it = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    it.bind(("127.0.0.1", 0))
    it.setblocking(False)
    with contextlib.suppress(OSError):
        it.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE, for root
    it.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
    return it


class Load:
    """Hub, devices that have joined, and talkers that hold the floor."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-load-")))
        self.ports = hub_process.free_ports(2)
        broker = Broker()
        stack.callback(broker.stop)
        names: dict[int, list[str]] = {g: [f"t-{g}"] for g in range(1, GROUPS + 1)}
        for i in range(LISTENERS):
            names[i % GROUPS + 1].append(f"l-{i}")
        shared = [udp(stack) for _ in range((LISTENERS + SHARED - 1) // SHARED)]
        self.talkers = [Device(members[0], g, udp(stack)) for g, members in names.items()]
        # Those of one group are behind different sockets: GROUPS is a multiple of what a socket has.
        self.listeners = [Device(f"l-{i}", i % GROUPS + 1, shared[i // SHARED]) for i in range(LISTENERS)]
        self.devices = self.talkers + self.listeners
        self.heard_by = [len(names[g]) - 1 for g in range(1, GROUPS + 1)]
        groups = "\n".join(
            hub_process.GROUP_TEMPLATE.format(id=g, devices=json.dumps(members), more="talk_s = 600")
            for g, members in names.items()
        )
        site = hub_process.SITE_TEMPLATE.format(url=broker.url, ports=self.ports, top="", hub="", groups=groups)
        self.hub = hub_process.HubProcess(folder, site, [it.name for it in self.devices])
        stack.callback(lambda: self.hub.process.poll() is None and self.hub.kill())
        self.receiving = select.epoll()
        self.of_fd = {it.fileno(): it for it in shared}
        for fd in self.of_fd:
            self.receiving.register(fd, select.EPOLLIN)
        self._join(broker.port, stack)

    def _join(self, port: int, stack: contextlib.ExitStack) -> None:
        by_name = {it.name: it for it in self.devices}
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.max_queued_messages_set(0)
        client.on_message = lambda c, u, m: by_name[m.topic.split("/")[1]].told(m.payload)
        client.on_connect = lambda c, *_: c.subscribe("p/+/d", qos=1)
        client.connect("127.0.0.1", port)
        client.loop_start()
        stack.callback(client.loop_stop)
        time.sleep(0.5)
        for it in self.devices:
            client.publish(f"p/{it.name}/u", it.hello(), qos=1)
        self._until(lambda: all(it.terms for it in self.devices), "terms of their group", 60)
        floor = [udp(stack) for _ in range(len(self.devices) // 20 + 1)]
        for i, it in enumerate(self.devices):
            it.floor = floor[i // 20]
            it.floor.sendto(it.report(), ("127.0.0.1", self.ports[0]))
            it.media.sendto(it.report(), ("127.0.0.1", self.ports[1]))
            if i % 100 == 99:
                time.sleep(0.05)
        time.sleep(1)
        for it in self.talkers:
            it.floor.sendto(it.request(), ("127.0.0.1", self.ports[0]))
        self._until(self._granted, "the floor", 5)

    def _granted(self) -> bool:
        by_hub = {it.terms["hub_ssrc"]: it for it in self.talkers}
        for sock in {it.floor for it in self.talkers}:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data = sock.recv(2048)
                    it = by_hub.get(int.from_bytes(data[4:8], "big"))
                    with contextlib.suppress(srtp.SrtpError):
                        if it is not None:  # and not a private group, which each device has
                            it.heard(data)
        return all(it.ssrc for it in self.talkers)

    @staticmethod
    def _until(condition, what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"error: not every device has been told {what} within {seconds:g} s")
            time.sleep(0.02)

    def drain(self) -> None:
        """Throw away what has come."""
        for sock in self.of_fd.values():
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.recv(2048)


def step(load: Load, voice: list[list[bytes]], first: int, interval_ms: float, seconds: float) -> dict:
    """Every talker sends a packet each interval for so long; return what became of them."""
    count = int(seconds * 1000 / interval_ms)
    target = ("127.0.0.1", load.ports[1])
    talkers = [(it.media.sendto, voice[g], it.ssrc) for g, it in enumerate(load.talkers)]
    sent: dict[int, int] = {}
    times: list[int] = []
    late = 0
    process = psutil.ProcessDevice(load.hub.process.pid)
    before, own = process.cpu_times(), time.process_time()
    start = time.time_ns()
    gap = interval_ms * 1e6 / GROUPS
    total, done = count * GROUPS, 0
    while True:
        now = time.time_ns()
        due = min(total, int((now - start) / gap) + 1)
        for k in range(done, due):
            send, packets, ssrc = talkers[k % GROUPS]
            i = first + k // GROUPS
            sent[ssrc << 16 | KEPT + i] = time.time_ns()
            send(packets[i], target)
        late = max(late, due - done)
        done = due
        if done == total and now - start > seconds * 1e9 + 0.5e9:
            break
        for fd, _ in load.receiving.poll(0.0005):
            take(load.of_fd[fd], sent, times)
    spent = time.time_ns() - start
    after = process.cpu_times()
    wanted = sum(load.heard_by) * count
    ms = np.array(times) / 1e6
    p50, p95, p99 = np.percentile(ms, [50, 95, 99]) if times else (0, 0, 0)
    cpu = after.user + after.system - before.user - before.system
    return {
        "frame_ms": interval_ms,
        "in_per_s": round(GROUPS * 1000 / interval_ms),
        "out_per_s": round(sum(load.heard_by) * 1000 / interval_ms),
        "sent": total,
        "wanted": wanted,
        "lost": wanted - len(times),
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "p99_ms": round(float(p99), 2),
        "most_ms": round(float(ms.max()), 2) if times else None,
        "hub_cpu_pct": round(cpu / (spent / 1e9) * 100),
        "generator_cpu_pct": round((time.process_time() - own) / (spent / 1e9) * 100),
        "sent_at_once_most": late,
    }


def take(sock: socket.socket, sent: dict[int, int], times: list[int]) -> None:
    """Take what a socket has, with the kernel's time of each."""
    receive = sock.recvmsg
    for _ in range(64):
        try:
            data, ancillary, _, _ = receive(600, 64)
        except BlockingIOError:
            return
        if data[1] & 0x7F != 8:
            continue
        at = sent.get(int.from_bytes(data[8:12], "big") << 16 | data[2] << 8 | data[3])
        if at is not None:
            s, ns = struct.unpack_from("@ll", ancillary[0][2])
            times.append(s * 1_000_000_000 + ns - at)


def prepare(load: Load, count: int) -> list[list[bytes]]:
    """So many packets for each talker, from sequence number KEPT on; the floor is kept by speaking meanwhile."""
    kept = [it.voice(0, KEPT) for it in load.talkers]
    voice, turn, spoke = [], 0, 0.0
    for it in load.talkers:
        if time.monotonic() - spoke > 1:
            spoke = time.monotonic()
            for other, packets in zip(load.talkers, kept, strict=True):
                other.media.sendto(packets[turn], ("127.0.0.1", load.ports[1]))
            turn += 1
        voice.append(it.voice(KEPT, count))
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
            if results[-1]["lost"] or results[-1]["p95_ms"] >= BAR_MS:
                break
        told = load.hub.stop()
    good = [it for it in results if not it["lost"] and it["p95_ms"] < BAR_MS]
    report = {
        "groups": GROUPS,
        "listeners": LISTENERS,
        "steps": results,
        "carries_out_per_s": good[-1]["out_per_s"] if good else 0,
        "saturates_at_out_per_s": None if results[-1] in good else results[-1]["out_per_s"],
        "hub": {name: told.get(name, 0) for name in ("voice_in", "voice_out", "send_full", "send_failed", "refused")},
        "hub_relay": told["relay"],
    }
    out = ROOT / "build" / "bench" / "hub.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in report.items() if name != "steps"}))
    if results[0] not in good:
        print("missed: 200 groups and 1124 listeners without loss and with p95 under 5 ms")


if __name__ == "__main__":
    main()
