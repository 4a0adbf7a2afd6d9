"""Frames from a broker: topic p/<device>/u at QoS 1."""

import collections
import logging
import os
import queue
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from patrolink.core.capture import FRAME_MAX_BYTES, Record
from patrolink.core.errors import DeadlineError, ServerError, UserError
from patrolink.core.keys import DEVICE_ID

_LOG = logging.getLogger("patrolink.mqtt")
_UPLINK = "p/+/u"
_ANSWER_TIMEOUT_S = 10
_QUEUE_MAX = 10_000
_RECONNECT_S = 1, 10  # shortest and longest delay; paho's default of two minutes is too long for a person to watch


class _Received(NamedTuple):
    record: Record
    mid: int
    connection: int


class MqttTransport:
    """Subscribes to the uplink of every device.

    The password comes from PATROLINK_MQTT_PASSWORD, never from a command line.

    Args:
        url: mqtt://[user@]host[:port], or mqtts:// to verify the broker's certificate with the system's authorities.
        extra_topics: other topic → function of the message's payload, called in paho's thread.
        session: client id of a persistent session: the broker keeps frames while this client is away, and delivers a
            frame again until `acknowledge`. None: a session that ends with the connection.

    Attributes:
        dropped: frames lost because `records` was read too slowly.

    Raises:
        UserError: the URL is invalid.
        ServerError: the broker cannot be reached, or refuses.
        DeadlineError: the broker does not answer.
    """

    def __init__(
        self, url: str, extra_topics: dict[str, Callable[[bytes], None]] | None = None, session: str | None = None
    ) -> None:
        self._extra_topics = extra_topics or {}
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            # The URL is not shown: it may hold a password.
            raise UserError("not a broker URL, or the port is not a number; write mqtt://host:1883") from None
        if not host:
            raise UserError(f"{url}: no host; write mqtt://host:1883")
        if parts.password:
            raise UserError("a password in a URL shows in process lists; put it in PATROLINK_MQTT_PASSWORD")
        self._queue: queue.Queue[_Received] = queue.Queue(_QUEUE_MAX)
        self._unacknowledged: collections.deque[_Received] = collections.deque()
        self._connection = 0  # counts connections: a message id is valid in the one that delivered it
        self.dropped = 0
        self._refused = ""
        self._subscribed = False
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=session or "",
            clean_session=session is None,
            manual_ack=session is not None,
        )
        self._client.reconnect_delay_set(*_RECONNECT_S)
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), os.environ.get("PATROLINK_MQTT_PASSWORD"))
        secure = parts.scheme == "mqtts"
        if secure:
            self._client.tls_set()
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        try:
            self._client.connect(host, port or (8883 if secure else 1883), keepalive=30)
        except ssl.SSLCertVerificationError as e:
            raise ServerError(
                f"{url}: the broker's certificate is not trusted ({e.verify_message}); "
                "use the host name in it, and set SSL_CERT_FILE to the file of its authority"
            ) from None
        except OSError as e:
            raise ServerError(f"{url}: no connection ({e}); is the broker running?") from None
        self._client.loop_start()
        self._await_subscription(url)

    def _await_subscription(self, url: str) -> None:
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        while not self._subscribed:
            if self._refused or time.monotonic() > deadline:
                self.close()
                if self._refused:
                    raise ServerError(f"{url}: the broker refused ({self._refused}); check user and password")
                raise DeadlineError(f"{url}: no answer within {_ANSWER_TIMEOUT_S} s; is this an MQTT broker?")
            time.sleep(0.01)

    def _on_connect(self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            _LOG.info("the broker refused the connection: %s", reason)
        else:
            self._connection += 1
            _LOG.info("connected to the broker %s:%s", client.host, client.port)
            client.subscribe([(topic, 1) for topic in (_UPLINK, *self._extra_topics)])

    def _on_disconnect(self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        _LOG.info("disconnected from the broker: %s", reason)

    def _on_subscribe(self, client: paho.Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        self._subscribed = True

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # a broker should refuse it; an exception would end paho's thread
            client.ack(message.mid, message.qos)
            return
        handler = self._extra_topics.get(topic)
        device = topic.split("/")[1]
        if handler is not None:
            handler(bytes(message.payload))
        elif DEVICE_ID.fullmatch(device) and not message.retain:  # a retained frame is old: devices retain nothing
            record = Record(time.time_ns() // 1_000_000, device, bytes(message.payload[:FRAME_MAX_BYTES]))
            try:
                self._queue.put_nowait(_Received(record, message.mid, self._connection))
            except queue.Full:
                self.dropped += 1  # of a persistent session: the broker delivers it again
            return
        client.ack(message.mid, message.qos)

    def records(self) -> Iterator[Record | None]:
        """Yield records as they arrive, and None about every 0.2 s without one. Never ends."""
        while True:
            try:
                received = self._queue.get(timeout=0.2)
            except queue.Empty:
                yield None
                continue
            self._unacknowledged.append(received)
            yield received.record

    def acknowledge(self) -> None:
        """Acknowledge the oldest record of `records` that is not acknowledged. May be called in any thread.

        A record whose connection has ended is delivered again.
        """
        received = self._unacknowledged.popleft()
        if received.connection == self._connection:
            self._client.ack(received.mid, 1)

    def publish(self, device: str, frame: bytes) -> None:
        """Send a frame to a device.

        Raises:
            DeadlineError: the broker did not acknowledge it.
        """
        self.publish_to(f"p/{device}/d", frame)

    def publish_to(self, topic: str, data: bytes) -> None:
        """Publish data on a topic at QoS 1.

        Raises:
            DeadlineError: the broker did not acknowledge it.
        """
        sent = self._client.publish(topic, data, qos=1)
        try:
            sent.wait_for_publish(_ANSWER_TIMEOUT_S)
        except (RuntimeError, ValueError) as e:
            raise DeadlineError(
                f"the broker did not acknowledge a frame for {topic} ({e}); check the connection"
            ) from None

    def counts(self) -> dict[str, int]:
        """Return the number of dropped frames."""
        return {"dropped": self.dropped}

    def close(self) -> None:
        """Disconnect from the broker."""
        self._client.loop_stop()
        self._client.disconnect()
