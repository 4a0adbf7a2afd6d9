"""MQTT session over a scripted stream: oversized and retained messages, floods, late acknowledgements."""

import struct

from agent.link.session import Session
from compat import umqtt_import
from compat.stream import Network, PeerRefusedError

TIMEOUT_MS = 10000
KEEPALIVE_S = 60
TOPIC = b"p/dev-1/d"


def packet(first, body):
    n, length = len(body), bytearray()
    while True:
        length.append(n & 127 | (128 if n > 127 else 0))
        n >>= 7
        if not n:
            return bytes([first]) + bytes(length) + body


def message(payload, retained=False):
    return packet(0x32 | retained, struct.pack(">H", len(TOPIC)) + TOPIC + b"\x00\x05" + payload)


class Broker:
    """A raw stream with a broker behind it, on its own clock.

    Attributes:
        ms: The clock. Each wait takes 100 ms, each read 1 ms.
        puback_ms: Delay of each PUBACK; None for none.
        suback: Return code of each subscription.
        flood: Message repeated whenever the device reads and nothing else is there; b"" for none.
        received: Packets of the device, (first byte, body).
    """

    def __init__(self):
        self.ms = 0
        self.puback_ms = 0
        self.suback = 1
        self.flood = b""
        self.received = []
        self.frames = []
        self.log = []
        self.served = 0
        self.due = 0
        self.net = Network(self.now_ms, self.serve, TIMEOUT_MS, 20)
        self.session = Session(
            umqtt_import.load(),
            self.net,
            self.open,
            {"host": "broker", "port": 1883},
            b"dev-1",
            KEEPALIVE_S,
            self.on_frame,
            self.due_count,
            self.log.append,
        )

    def now_ms(self):
        return self.ms

    def serve(self):
        self.served += 1

    def due_count(self):
        return self.due

    def on_frame(self, data):
        self.frames.append(bytes(data))

    def open(self, net):
        self.incoming = []  # (time, bytes)
        self.outgoing = bytearray()
        return self

    def connect(self, address):
        pass

    def close(self):
        pass

    def wait(self, writing):
        self.ms += 100
        return True

    def down(self, data, delay_ms=0):
        self.incoming.append([self.ms + delay_ms, data])

    def recv_into(self, view):
        self.ms += 1
        for i, (at_ms, data) in enumerate(self.incoming):
            if at_ms <= self.ms:
                n = min(len(data), len(view))
                view[:n] = data[:n]
                self.incoming[i][1] = data[n:]
                if n == len(data):
                    self.incoming.pop(i)
                return n
        if self.flood:
            self.down(self.flood)
            return self.recv_into(view)
        return None

    def send(self, view):
        self.outgoing += bytes(view)
        while len(self.outgoing) >= 2:
            n = self.outgoing[1]
            i = 2
            if n > 127:
                n = n & 127 | self.outgoing[2] << 7
                i = 3
            if len(self.outgoing) < i + n:
                break
            first, body = self.outgoing[0], bytes(self.outgoing[i : i + n])
            self.outgoing = self.outgoing[i + n :]
            self.on_packet(first, body)
        return len(view)

    def on_packet(self, first, body):
        self.received.append((first, body))
        if first == 0x10:
            self.down(b"\x20\x02\x00\x00")
        elif first == 0x82:
            self.down(packet(0x90, body[:2] + bytes([self.suback])))
        elif first == 0x32 and self.puback_ms is not None:
            n = struct.unpack_from(">H", body)[0]
            self.down(packet(0x40, body[2 + n : 4 + n]), self.puback_ms)

    def is_lost(self, function, *args):
        """Call a function of the session; return whether it failed, and drop the session then."""
        try:
            function(*args)
            return False
        except OSError:
            self.session.drop()
            return True

    def subscriptions(self):
        return len([first for first, _ in self.received if first == 0x82])


def connected():
    broker = Broker()
    broker.session.connect()
    return broker


def test_long_and_retained_messages_are_ignored_and_acknowledged_once():
    for size, retained in ((1153, False), (2000, False), (100000, False), (40, True), (2000, True)):
        broker = connected()
        broker.down(message(bytes(size), retained))
        broker.down(message(b"next"))
        broker.session.keep_alive()
        assert broker.frames == [b"next"] and broker.session.ignored == 1, size
        broker.session.publish(b"frame")
        assert len([first for first, _ in broker.received if first == 0x40]) == 2, size


def test_a_message_of_the_longest_length_is_delivered():
    broker = connected()
    broker.down(message(b"x" * 1024))
    broker.session.publish(b"frame")
    assert broker.frames == [b"x" * 1024] and broker.session.ignored == 0


def test_a_malformed_length_ends_the_session():
    broker = connected()
    broker.down(packet(0x30, b"\x00\x09topic"))  # the topic is longer than the packet
    broker.down(bytes(10))
    assert broker.is_lost(broker.session.keep_alive)


def test_a_turn_takes_few_messages():
    broker = connected()
    for _ in range(20):
        broker.down(message(b"m"))
    broker.session.keep_alive()
    assert len(broker.frames) == 8
    for _ in range(2):
        broker.session.keep_alive()
    assert len(broker.frames) == 20


def test_the_main_loop_runs_and_the_wait_ends_during_a_flood():
    broker = connected()
    broker.puback_ms = None
    broker.flood = message(b"flood")
    start, served = broker.ms, broker.served
    assert broker.is_lost(broker.session.publish, b"frame")
    assert TIMEOUT_MS <= broker.ms - start < TIMEOUT_MS + 1000
    assert broker.served - served > (broker.ms - start) // 100
    # The next session publishes without a subscription, and subscribes later.
    subscriptions = broker.subscriptions()
    broker.flood = b""
    broker.puback_ms = 0
    broker.session.connect()
    broker.session.publish(b"frame")
    broker.session.keep_alive()
    assert broker.subscriptions() == subscriptions and "too much downlink" in broker.log[1]
    broker.ms += 60000
    broker.session.keep_alive()
    assert broker.subscriptions() == subscriptions + 1


def test_a_message_that_cannot_be_skipped_in_time_ends_the_session_and_the_subscription():
    broker = connected()
    broker.down(message(bytes(1200))[:1160])
    assert broker.is_lost(broker.session.keep_alive)
    subscriptions = broker.subscriptions()
    broker.session.connect()
    assert broker.subscriptions() == subscriptions


def test_the_wait_for_an_acknowledgement_grows_and_shrinks():
    broker = connected()
    broker.puback_ms = 35000
    waits = []
    for _ in range(3):
        start = broker.ms
        lost = broker.is_lost(broker.session.publish, b"frame")
        waits.append((broker.ms - start) // 1000)
        if lost:
            broker.session.connect()
    assert waits == [10, 20, 35]
    broker.puback_ms = 55000  # within twice the last one, and the keep-alive time
    assert not broker.is_lost(broker.session.publish, b"frame")
    broker.puback_ms = 1000
    broker.session.publish(b"frame")
    broker.puback_ms = None
    start = broker.ms
    assert broker.is_lost(broker.session.publish, b"frame")
    assert (broker.ms - start) // 1000 == 10


def test_an_event_ends_a_long_wait():
    broker = connected()
    broker.puback_ms = None
    for _ in range(3):
        assert broker.is_lost(broker.session.publish, b"frame")
        broker.session.connect()
    start = broker.ms
    broker.due = 1

    def serve():
        broker.due = 1 if broker.ms - start < 3000 else 2

    broker.net.idle = serve
    assert broker.is_lost(broker.session.publish, b"event")
    assert (broker.ms - start) // 1000 == 10


def test_a_refused_subscription_is_named():
    broker = Broker()
    broker.suback = 0x80
    try:
        broker.session.connect()
    except PeerRefusedError as e:
        assert "p/dev-1/d refused" in str(e)
        return
    raise AssertionError("a refused subscription was accepted")
