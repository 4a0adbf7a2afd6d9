"""Measure parts of the agent on the board. bench_board.py enters the import at the board's prompt.

Prints one line of JSON in cycles of the board's clock and powers the board off. /log.nmea contains sentences of a
receiver, /walk.nmea three sentences per epoch.
"""

import gc
import json
from time import ticks_cpu, ticks_diff

import machine
import patrolink_messages as m
from agent.gps.sentences import GpsReceiver
from agent.link.event_queue import EventQueue
from agent.link.outbox import Outbox
from agent.link.session import Session
from agent.tracking.counter import Counter
from agent.tracking.device_clock import DeviceClock
from agent.tracking.reporter import Reporter
from compat import umqtt_import
from compat.stream import Network
from hal.baremetal.platform import Clock, Files, Store, battery
from patrolink_protocol import cipher, frame

ROUNDS = 8
DEVICE = b"bench-1"


class Broker:
    """A broker in memory behind a raw stream: acknowledges a connection, a subscription, then each publish."""

    def __init__(self, net):
        self._response = b"\x20\x02\x00\x00"
        self._sent = 0

    def connect(self, address):
        pass

    def wait(self, writing):
        raise OSError(110)  # data is available only after a request

    def send(self, view):
        # umqtt numbers its packets from 1; packet 1 is the subscription.
        n = self._sent
        if n:
            self._response = b"\x90\x03\x00\x01\x01" if n == 1 else bytes((0x40, 2, n >> 8, n & 255))
        self._sent = n + 1
        return len(view)

    def recv_into(self, view):
        response = self._response
        n = min(len(view), len(response))
        view[:n] = response[:n]
        self._response = response[n:]
        return n or None

    def close(self):
        pass


class Meter:
    """Counts cycles and allocated bytes between `begin` and `end`, without garbage collection."""

    def __init__(self):
        self.cycles = self.bytes = self._idle = 0
        for _ in range(2):
            self.begin()
            self.end()
            self._idle += self.cycles
            self.cycles = self.bytes = 0

    def begin(self):
        gc.enable()
        gc.collect()
        gc.disable()
        self._heap = gc.mem_alloc()
        self._start = ticks_cpu()

    def end(self):
        now = ticks_cpu()
        self.cycles += ticks_diff(now, self._start) - self._idle
        self.bytes += gc.mem_alloc() - self._heap


def sentences():
    """Return [sentences, cycles, bytes allocated] of the log by sentence formatter."""
    receiver = GpsReceiver(lambda fix: None)
    results = {}
    meter = Meter()
    buf = bytearray(128)
    with open("/log.nmea", "rb") as f:
        for line in f:
            n = len(line)
            buf[:n] = line
            meter.cycles = meter.bytes = 0
            meter.begin()
            receiver.feed(buf, n, 0)
            meter.end()
            totals = results.setdefault(line[3:6].decode(), [0, 0, 0])
            totals[0] += 1
            totals[1] += meter.cycles
            totals[2] += meter.bytes
    assert receiver.sentences == sum([totals[0] for totals in results.values()])
    return results


def epochs(buf):
    """Yield the length of each epoch of the walk, its three sentences in `buf`."""
    with open("/walk.nmea", "rb") as f:
        while True:
            n = 0
            for _ in range(3):
                line = f.readline()
                buf[n : n + len(line)] = line
                n += len(line)
            if not n:
                return
            yield n


def fixes():
    """Measure each step of the fixes: from bytes to rows of the open batch, body, frame, outbox and broker."""
    clock = Clock()
    files = Files("/bench")
    outbox = Outbox(files)
    channel = frame.Channel(bytes(32), DEVICE)
    config = {"batch_fixes": m.MAX_BATCH, "batch_s": 3600}
    counter, events = Counter(Store("/bench")), EventQueue(files, clock.now_ms)
    reporter = Reporter(channel, counter, outbox, events, config, battery, DeviceClock())
    receiver = GpsReceiver(lambda fix: reporter.on_fix(fix, 0))
    buf = bytearray(512)
    blocks = epochs(buf)
    receiver.feed(buf, next(blocks), 0)  # the first fix is sent at once
    receiver.flush()
    row = Meter()
    for n in blocks:
        row.begin()
        receiver.feed(buf, n, 0)
        receiver.flush()
        row.end()
    count = reporter.open_rows()
    encode, encrypt, sign, store = Meter(), Meter(), Meter(), Meter()
    frame_cipher = cipher.FrameCipher(bytes(16))
    out = memoryview(bytearray(m.MAX_FRAME))
    for i in range(ROUNDS):
        encode.begin()
        end, _ = reporter._track.fit_into(out, frame.HEADER_BYTES)
        encode.end()
        encrypt.begin()
        frame_cipher.apply(out, out, frame.HEADER_BYTES, end)
        encrypt.end()
        sign.begin()
        n = channel.seal_into(out, m.POSITION_BATCH, i, end)
        sign.end()
        store.begin()
        outbox.put(out[:n])
        store.end()
    publish = measure_publish(clock, out[:n])
    results = {"row": (row, count), "encode": (encode, ROUNDS * count)}
    results.update(
        {"encrypt": (encrypt, ROUNDS), "sign": (sign, ROUNDS), "store": (store, ROUNDS), "publish": (publish, ROUNDS)}
    )
    results = {name: (times, meter.cycles, meter.bytes) for name, (meter, times) in results.items()}
    results["frame"] = (count, n)
    return results


def measure_publish(clock, data):
    """Return the cost of ROUNDS publishes with QoS 1 to a broker in memory."""
    net = Network(clock.now_ms, lambda: None)
    session = Session(umqtt_import.load(), net, Broker, {"host": "b", "port": 1883}, DEVICE, 60, None, lambda: 0, print)
    session.connect()
    session.publish(data)
    meter = Meter()
    for _ in range(ROUNDS):
        meter.begin()
        session.publish(data)
        meter.end()
    return meter


print(json.dumps({"sentences": sentences(), "fixes": fixes()}))
machine.deepsleep()
