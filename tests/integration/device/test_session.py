"""The MQTT session with the real umqtt.simple and a real broker, through a proxy that emulates network faults."""

import random
import socket
import threading
import time

import paho.mqtt.client as paho
import patrolink_enums as enums
import pytest
from agent.link.backoff import Backoff
from agent.link.outbox import Outbox
from agent.link.session import Session
from agent.link.supervisor import Supervisor
from compat import umqtt_import
from compat.netsock import TcpSocket
from compat.stream import Network
from memory_storage import MemoryFiles

from tests.support.polling import TIMEOUT_S
from tests.support.tcp_proxy import BLACKHOLE, PASS, REFUSE, TcpProxy

IO_TIMEOUT_MS = 400


def now_ms():
    return time.monotonic_ns() // 1_000_000


class SessionHarness:
    """A session, its proxy, and a subscriber at the broker.

    Attributes:
        delivered: The messages that the broker has delivered to the subscriber.
        downlink: The messages that the session has received.
    """

    def __init__(self, port: int) -> None:
        self.proxy = TcpProxy(port)
        self.idle_calls = 0
        self.log: list[str] = []
        self.net = Network(now_ms, self._idle, IO_TIMEOUT_MS)
        self.outbox = Outbox(MemoryFiles())
        self.downlink: list[bytes] = []
        self.link = self.make_link(self.proxy.port)
        self.delivered: list[bytes] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        subscribed = []
        self.client.on_message = lambda client, userdata, message: self.delivered.append(message.payload)
        self.client.on_subscribe = lambda *arguments: subscribed.append(True)
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("p/dev-1/u", 1)
        self.client.loop_start()
        self.wait_until(lambda: subscribed, step=False)

    def make_link(self, port: int, keepalive_s: int = 60, **broker) -> Supervisor:
        backoff = Backoff(random.Random(1).randrange, base_ms=20, cap_ms=100)
        broker = {"host": "127.0.0.1", "port": port, **broker}
        log = self.log.append
        self.session = Session(
            umqtt_import.load(),
            self.net,
            TcpSocket,
            broker,
            b"dev-1",
            keepalive_s,
            self.downlink.append,
            lambda: 0,
            log,
        )
        return Supervisor(self.session, (self.outbox,), None, backoff, self.net, log, None)

    def _idle(self) -> None:
        self.idle_calls += 1

    def wait_until(self, condition, seconds: float = TIMEOUT_S, step: bool = True) -> None:
        """Wait until `condition()` is true; run the supervisor meanwhile if `step` is set."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log
            if step:
                self.link.step()
            time.sleep(0.002)

    def send(self, *frames: bytes) -> None:
        """Put frames into the outbox and wait until it is empty."""
        for frame in frames:
            self.outbox.put(frame)
        self.wait_until(lambda: not len(self.outbox))

    def close(self) -> None:
        self.session.close()
        self.client.loop_stop()
        self.client.disconnect()
        self.proxy.close()


@pytest.fixture
def harness(broker):
    session = SessionHarness(broker.port)
    yield session
    session.close()


def test_frames_arrive_in_order(harness):
    frames = [b"frame %d" % i for i in range(200)]
    harness.send(*frames)
    harness.wait_until(lambda: len(harness.delivered) == 200)
    assert harness.delivered == frames and harness.session.published == 200


def test_publish_has_no_overhead_beyond_its_mqtt_headers(harness):
    harness.send(b"first")
    sent = harness.net.bytes_sent
    harness.send(b"x" * 100)
    assert harness.net.bytes_sent - sent == 2 + 2 + len("p/dev-1/u") + 2 + 100


def test_refused_connection_is_retried_and_loses_nothing(harness):
    harness.proxy.mode = REFUSE
    harness.outbox.put(b"frame kept")
    harness.wait_until(lambda: harness.proxy.accepted >= 4)
    assert harness.link.level == enums.DEVICE_STATUS_LINK_SESSION and len(harness.outbox) == 1
    assert any("no session (" in line for line in harness.log)
    harness.proxy.mode = PASS
    harness.wait_until(lambda: harness.delivered == [b"frame kept"])


def test_closed_port_is_retried(harness):
    closed_port = socket.socket()
    closed_port.bind(("127.0.0.1", 0))  # without listen; bound, so that no other process uses the port
    harness.link = harness.make_link(closed_port.getsockname()[1])
    harness.wait_until(lambda: len(harness.log) >= 3)
    closed_port.close()
    assert harness.link.level == enums.DEVICE_STATUS_LINK_SESSION


def test_reset_session_reconnects_and_loses_nothing(harness):
    for i in range(10):
        harness.send(b"before %d" % i)
        harness.proxy.cut()
        harness.send(b"after %d" % i)
    expected = {b"%s %d" % (word, i) for i in range(10) for word in (b"before", b"after")}
    harness.wait_until(lambda: set(harness.delivered) == expected)
    assert harness.session.connects >= 10


def test_unresponsive_connection_is_closed_in_time_and_idle_work_continues(harness):
    harness.send(b"frame up")
    harness.proxy.mode = BLACKHOLE
    harness.outbox.put(b"frame unanswered")
    start_s, idle_calls = time.monotonic(), harness.idle_calls
    harness.link.step()
    assert time.monotonic() - start_s >= IO_TIMEOUT_MS / 1000
    assert harness.link.level == enums.DEVICE_STATUS_LINK_SESSION and len(harness.outbox) == 1
    assert harness.idle_calls > idle_calls
    harness.proxy.mode = PASS
    harness.wait_until(lambda: b"frame unanswered" in harness.delivered)


def test_unresponsive_idle_connection_is_detected_by_keepalive(harness):
    harness.link = harness.make_link(harness.proxy.port, keepalive_s=1)
    harness.send(b"frame up")
    harness.proxy.mode = BLACKHOLE
    harness.wait_until(lambda: harness.link.level == enums.DEVICE_STATUS_LINK_SESSION)
    harness.proxy.mode = PASS
    harness.send(b"frame reconnected")
    harness.wait_until(lambda: b"frame reconnected" in harness.delivered)


def test_keepalive_prevents_the_timeout_of_an_idle_session(harness):
    # The timeout of the broker is 1.5 times the keep-alive interval.
    harness.link = harness.make_link(harness.proxy.port, keepalive_s=2)
    harness.send(b"frame up")
    idle_until_s = time.monotonic() + 5
    harness.wait_until(lambda: time.monotonic() > idle_until_s)
    assert harness.link.level == enums.DEVICE_STATUS_LINK_UP and harness.session.connects == 1


def test_packet_id_wraps(harness):
    harness.send(b"frame up")
    harness.session._client.pid = 65533
    harness.send(*[b"frame %d" % i for i in range(5)])
    harness.wait_until(lambda: len(harness.delivered) == 6)
    assert harness.session.connects == 1 and harness.session._client.pid == 3


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x05", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20", b""])
def test_server_that_does_not_speak_mqtt_is_retried(harness, answer):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        for _ in range(2):
            peer, _ = server.accept()
            peer.recv(100)
            peer.sendall(answer)
            peer.close()

    threading.Thread(target=serve, daemon=True).start()
    harness.link = harness.make_link(server.getsockname()[1])
    harness.wait_until(lambda: len(harness.log) >= 2)
    server.close()
    assert harness.link.level == enums.DEVICE_STATUS_LINK_SESSION


@pytest.mark.parametrize("code, reason", [(5, "not authorised"), (4, "wrong user or password"), (77, "code 77")])
def test_refusal_of_the_broker_is_logged_with_its_reason(harness, code, reason):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        for _ in range(2):
            peer, _ = server.accept()
            peer.recv(200)
            peer.sendall(bytes([0x20, 2, 0, code]))
            peer.close()

    threading.Thread(target=serve, daemon=True).start()
    harness.link = harness.make_link(server.getsockname()[1], user="patrol", password="s3cret-word")
    harness.wait_until(lambda: len(harness.log) >= 2)
    server.close()
    assert all(reason in line for line in harness.log), harness.log
    assert harness.link.recovery_step == enums.DEVICE_STATUS_RUNG_RETRY
    assert not any("s3cret-word" in line for line in harness.log)


def test_downlink_messages_are_received_in_order(harness):
    harness.send(b"frame up")
    for i in range(5):
        harness.client.publish("p/dev-1/d", b"down %d" % i, 1)
    harness.wait_until(lambda: len(harness.downlink) == 5)
    assert harness.downlink == [b"down %d" % i for i in range(5)] and harness.session.connects == 1


def test_an_excessive_message_ends_the_session_and_the_subscription(harness):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        peer, _ = server.accept()
        peer.recv(100)
        # CONNACK, then a PUBLISH that claims 268,435,455 bytes
        peer.sendall(b"\x20\x02\x00\x00" + b"\x30\xff\xff\xff\x7f\x00\x01t")
        time.sleep(1)
        peer.close()

    threading.Thread(target=serve, daemon=True).start()
    harness.link = harness.make_link(server.getsockname()[1])
    harness.wait_until(lambda: harness.log and harness.link.level != enums.DEVICE_STATUS_LINK_UP)
    server.close()
    assert any("too much downlink" in line for line in harness.log)


def test_program_error_during_a_network_wait_is_not_handled_as_a_fault(harness):
    harness.send(b"frame up")

    def raise_error():
        raise IndexError("a bug")

    harness.net.idle = raise_error
    harness.proxy.mode = BLACKHOLE
    harness.outbox.put(b"frame x")
    with pytest.raises(IndexError, match="a bug"):
        harness.link.step()
