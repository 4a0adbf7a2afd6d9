"""The broker configuration of the documentation, with a real mosquitto: identities, topics, sessions, limits."""

import os
import shutil
import socket
import ssl
import subprocess
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from patrolink.emulator.network import certificates
from patrolink.emulator.scenarios import control_room
from patrolink.transport.mqtt import MqttTransport

from tests.support.paths import ROOT
from tests.support.polling import TIMEOUT_S, wait_until

FOLDER = ROOT / "docs" / "guide" / "broker"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
USERS = ("hub", "monitor", "vest-1", "vest-2")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto; apt-get install mosquitto")


class Mosquitto:
    """A mosquitto with the documented configuration; only paths and port are replaced."""

    def __init__(self, folder) -> None:
        files = certificates.make(folder / "tls", "localhost")
        self.ca, self.folder = str(files.ca), folder
        self.port = control_room.free_ports(1, socket.SOCK_STREAM)[0]
        passwords = folder / "passwords"
        passwords.write_text("".join(f"{user}:word of {user}\n" for user in USERS))
        tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
        subprocess.run([tool, "-U", str(passwords)], check=True, capture_output=True)
        text = (FOLDER / "mosquitto.conf").read_text()
        for path, replacement in (
            ("listener 8883", f"listener {self.port} 127.0.0.1"),
            ("/etc/mosquitto/certs/broker.pem", files.cert),
            ("/etc/mosquitto/certs/broker.key", files.cert),
            ("/etc/mosquitto/passwords", passwords),
            ("/etc/mosquitto/acl", FOLDER / "acl"),
            ("/var/lib/mosquitto/", f"{folder}/"),
        ):
            assert text.count(path) == 1
            text = text.replace(path, str(replacement))
        if os.geteuid() == 0:
            text += "user root\n"  # otherwise mosquitto drops to a user that cannot read this folder
        (folder / "mosquitto.conf").write_text(text)
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [MOSQUITTO, "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        wait_until(self._is_open)

    def _is_open(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(TIMEOUT_S)


class Client:
    """A client of paho with a user; it collects what it receives."""

    def __init__(self, broker: Mosquitto, user: str, password: str | None = None, topics=()) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self.reason, self.disconnected = None, threading.Event()
        self._subscribed, self._topics = threading.Event(), list(topics)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="any")
        self._client.username_pw_set(user, password or f"word of {user}")
        self._client.tls_set_context(ssl.create_default_context(cafile=broker.ca))
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *args: self._subscribed.set()
        self._client.on_disconnect = lambda *args: self.disconnected.set()
        self._client.on_message = lambda client, data, m: self.messages.append((m.topic, m.payload, m.retain))
        self._client.connect("localhost", broker.port)
        self._client.loop_start()
        wait_until(lambda: self.reason is not None)
        if topics and not self.reason.is_failure:
            assert self._subscribed.wait(TIMEOUT_S)

    def _on_connect(self, client, userdata, flags, reason, properties) -> None:
        self.reason = reason
        for topic in self._topics:
            client.subscribe(topic, 1)

    def publish(self, topic: str, data: bytes, retain: bool = False) -> None:
        self._client.publish(topic, data, qos=1, retain=retain).wait_for_publish(TIMEOUT_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def mosquitto(tmp_path, monkeypatch):
    broker = Mosquitto(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", broker.ca)
    yield broker
    broker.stop()


@pytest.fixture
def client(mosquitto):
    """Return a function that connects a client."""
    clients = []

    def connect(user: str, **options) -> Client:
        clients.append(Client(mosquitto, user, **options))
        return clients[-1]

    yield connect
    for connected in clients:
        connected.close()


def test_wrong_password_is_refused(client):
    assert client("vest-1", password="word of vest-2").reason.is_failure
    assert client("nobody").reason.is_failure


def test_device_has_its_own_topics_only(client):
    monitor = client("monitor", topics=["p/+/u"])
    device = client("vest-1", topics=["p/+/d", "p/+/u", "#"])
    other = client("vest-2", topics=["p/+/d"])
    hub = client("hub", topics=["p/+/u"])
    for topic in ("p/vest-2/u", "p/vest-1/d", "p/vest-2/d", "h/site/home"):
        device.publish(topic, b"forged")
    device.publish("p/vest-1/u", b"own")
    hub.publish("p/vest-1/d", b"for vest-1")
    hub.publish("p/vest-2/d", b"for vest-2")
    wait_until(lambda: len(device.messages) == len(other.messages) == len(hub.messages) == len(monitor.messages) == 1)
    assert device.messages == [("p/vest-1/d", b"for vest-1", False)]
    assert other.messages == [("p/vest-2/d", b"for vest-2", False)]
    assert hub.messages == monitor.messages == [("p/vest-1/u", b"own", False)]


def test_second_client_of_a_user_takes_the_place_of_the_first(client):
    """Two devices with one identity are noticed: they disconnect each other."""
    first = client("vest-1")
    client("vest-1")
    assert first.disconnected.wait(TIMEOUT_S)


def test_frames_for_an_absent_hub_survive_a_restart_of_the_broker(mosquitto, client, monkeypatch):
    monkeypatch.setenv("PATROLINK_MQTT_PASSWORD", "word of hub")
    url = f"mqtts://hub@localhost:{mosquitto.port}"
    MqttTransport(url, session="hub").close()
    device = client("vest-1")
    for i in range(300):  # mosquitto keeps 1,000 by default
        device.publish("p/vest-1/u", i.to_bytes(2, "big"))
    device.close()
    mosquitto.stop()
    mosquitto.start()
    transport = MqttTransport(url, session="hub")
    frames = []
    for record in transport.records():
        if record is not None:
            frames.append(int.from_bytes(record.frame, "big"))
            transport.acknowledge()
        if len(frames) == 300:
            break
    transport.close()
    assert frames == list(range(300))


def test_large_messages_are_not_delivered(client):
    hub = client("hub", topics=["p/+/u"])
    device = client("vest-1")
    device.publish("p/vest-1/u", bytes(5000))
    device.publish("p/vest-1/u", b"short")
    wait_until(lambda: hub.messages)
    assert hub.messages == [("p/vest-1/u", b"short", False)]


def test_client_that_retains_a_message_is_disconnected(client):
    hub = client("hub", topics=["p/+/u"])
    device = client("vest-2")
    device._client.publish("p/vest-2/u", b"old", qos=1, retain=True)
    assert device.disconnected.wait(TIMEOUT_S) and hub.messages == []
