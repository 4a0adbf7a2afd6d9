"""The session over the real umqtt.simple, against a real broker behind a proxy that misbehaves."""

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


class Bench:
    """A session, its proxy, and a subscriber that hears what the broker took."""

    def __init__(self, port: int) -> None:
        self.proxy = TcpProxy(port)
        self.idles = 0
        self.log: list[str] = []
        self.net = Network(now_ms, self._idle, IO_TIMEOUT_MS)
        self.outbox = Outbox(MemoryFiles())
        self.taken: list[bytes] = []
        self.link = self.make_link(self.proxy.port)
        self.heard: list[bytes] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        ready = []
        self.client.on_message = lambda c, u, msg: self.heard.append(msg.payload)
        self.client.on_subscribe = lambda *a: ready.append(True)
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("p/dev-1/u", 1)
        self.client.loop_start()
        self.until(lambda: ready, step=False)

    def make_link(self, port: int, keepalive_s: int = 60, **broker) -> Supervisor:
        backoff = Backoff(random.Random(1).randrange, base_ms=20, cap_ms=100)
        broker = {"host": "127.0.0.1", "port": port, **broker}
        log = self.log.append
        self.session = Session(
            umqtt_import.load(), self.net, TcpSocket, broker, b"dev-1", keepalive_s, self.taken.append, log
        )
        return Supervisor(self.session, (self.outbox,), None, backoff, self.net, log, None)

    def _idle(self) -> None:
        self.idles += 1

    def until(self, condition, seconds: float = TIMEOUT_S, step: bool = True) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log
            if step:
                self.link.step()
            time.sleep(0.002)

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.outbox.put(frame)
        self.until(lambda: not len(self.outbox))

    def close(self) -> None:
        self.session.close()
        self.client.loop_stop()
        self.client.disconnect()
        self.proxy.close()


@pytest.fixture
def bench(broker):
    it = Bench(broker.port)
    yield it
    it.close()


def test_frames_arrive_in_order(bench):
    frames = [b"frame %d" % i for i in range(200)]
    bench.send(*frames)
    bench.until(lambda: len(bench.heard) == 200)
    assert bench.heard == frames and bench.session.published == 200


def test_one_send_per_packet(bench):
    bench.send(b"first")
    sent = bench.net.bytes_sent
    bench.send(b"x" * 100)
    assert bench.net.bytes_sent - sent == 2 + 2 + len("p/dev-1/u") + 2 + 100


def test_absent_broker_is_retried_with_growing_waits(bench):
    bench.proxy.mode = REFUSE
    bench.outbox.put(b"kept")
    bench.until(lambda: bench.proxy.accepted >= 4)
    assert bench.link.level == enums.DEVICE_STATUS_LINK_SESSION and len(bench.outbox) == 1
    assert any("no session (" in line for line in bench.log)
    bench.proxy.mode = PASS
    bench.until(lambda: bench.heard == [b"kept"])


def test_port_that_nobody_listens_on(bench):
    dead = socket.socket()
    dead.bind(("127.0.0.1", 0))  # and no listen: held, so that nobody else's is there
    bench.link = bench.make_link(dead.getsockname()[1])
    bench.until(lambda: len(bench.log) >= 3)
    dead.close()
    assert bench.link.level == enums.DEVICE_STATUS_LINK_SESSION


def test_reset_session_comes_back_and_loses_nothing(bench):
    for i in range(10):
        bench.send(b"before %d" % i)
        bench.proxy.cut()
        bench.send(b"after %d" % i)
    want = {b"%s %d" % (w, i) for i in range(10) for w in (b"before", b"after")}
    bench.until(lambda: set(bench.heard) == want)
    assert bench.session.connects >= 10


def test_black_hole_is_left_in_time_and_the_receiver_is_served(bench):
    bench.send(b"up")
    bench.proxy.mode = BLACKHOLE
    bench.outbox.put(b"into the dark")
    start, idles = time.monotonic(), bench.idles
    bench.link.step()
    assert IO_TIMEOUT_MS / 1000 <= time.monotonic() - start < 20 * IO_TIMEOUT_MS / 1000
    assert bench.link.level == enums.DEVICE_STATUS_LINK_SESSION and len(bench.outbox) == 1
    assert bench.idles - idles >= IO_TIMEOUT_MS // 100  # each 20 ms, where nobody else has the machine
    bench.proxy.mode = PASS
    bench.until(lambda: b"into the dark" in bench.heard)


def test_silent_black_hole_is_found_by_ping(bench):
    bench.link = bench.make_link(bench.proxy.port, keepalive_s=1)
    bench.send(b"up")
    bench.proxy.mode = BLACKHOLE
    bench.until(lambda: bench.link.level == enums.DEVICE_STATUS_LINK_SESSION, seconds=20)
    bench.proxy.mode = PASS
    bench.send(b"again")
    bench.until(lambda: b"again" in bench.heard)


def test_keepalive_holds_an_idle_session(bench):
    bench.link = bench.make_link(bench.proxy.port, keepalive_s=2)  # the broker waits half of it more
    bench.send(b"up")
    idle_until = time.monotonic() + 5
    bench.until(lambda: time.monotonic() > idle_until)
    assert bench.link.level == enums.DEVICE_STATUS_LINK_UP and bench.session.connects == 1


def test_packet_id_wraps(bench):
    bench.send(b"up")
    bench.session._client.pid = 65533
    bench.send(*[b"%d" % i for i in range(5)])
    bench.until(lambda: len(bench.heard) == 6)
    assert bench.session.connects == 1 and bench.session._client.pid == 3


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x05", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20", b""])
def test_something_that_is_no_broker(bench, answer):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        for _ in range(2):
            peer, _ = server.accept()
            peer.recv(100)
            peer.sendall(answer)
            peer.close()

    threading.Thread(target=serve, daemon=True).start()
    bench.link = bench.make_link(server.getsockname()[1])
    bench.until(lambda: len(bench.log) >= 2)
    server.close()
    assert bench.link.level == enums.DEVICE_STATUS_LINK_SESSION


@pytest.mark.parametrize("code, words", [(5, "not authorised"), (4, "wrong user or password"), (77, "code 77")])
def test_a_broker_that_refuses_is_told_in_words(bench, code, words):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        for _ in range(2):
            peer, _ = server.accept()
            peer.recv(200)
            peer.sendall(bytes([0x20, 2, 0, code]))
            peer.close()

    threading.Thread(target=serve, daemon=True).start()
    bench.link = bench.make_link(server.getsockname()[1], user="patrol", password="s3cret-word")
    bench.until(lambda: len(bench.log) >= 2)
    server.close()
    assert all(words in line for line in bench.log) and bench.link.recovery_step == enums.DEVICE_STATUS_RUNG_RETRY, (
        bench.log
    )
    assert not any("s3cret-word" in line for line in bench.log)


def test_what_comes_down_is_handed_on(bench):
    bench.send(b"up")
    for i in range(5):
        bench.client.publish("p/dev-1/d", b"down %d" % i, 1)
    bench.until(lambda: len(bench.taken) == 5)
    assert bench.taken == [b"down %d" % i for i in range(5)] and bench.session.connects == 1


def test_hostile_length_is_refused_before_it_is_read(bench):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        peer, _ = server.accept()
        peer.recv(100)
        # CONNACK, then a PUBLISH that claims 268,435,455 bytes
        peer.sendall(b"\x20\x02\x00\x00" + b"\x30\xff\xff\xff\x7f\x00\x01t")
        time.sleep(1)
        peer.close()

    threading.Thread(target=serve, daemon=True).start()
    bench.link = bench.make_link(server.getsockname()[1])
    bench.until(lambda: bench.log and bench.link.level != enums.DEVICE_STATUS_LINK_UP)
    server.close()
    assert any("EMSGSIZE" in line or "90" in line for line in bench.log)


def test_a_bug_of_ours_in_a_network_wait_is_not_taken_for_a_fault(bench):
    bench.send(b"up")

    def broken():
        raise IndexError("a bug")

    bench.net.idle = broken
    bench.proxy.mode = BLACKHOLE
    bench.outbox.put(b"x")
    with pytest.raises(IndexError, match="a bug"):
        bench.link.step()
