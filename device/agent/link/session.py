"""One MQTT session over umqtt.simple: connect, publish, subscribe, keep alive. Every call may raise one of `faults`.

umqtt blocks; the socket facade below it (compat.stream) bounds every wait and keeps the main loop running meanwhile.

An acknowledgement that comes too late ends the session, and the frame is sent again. The wait then doubles, up to the
keep-alive time: otherwise a slow broker would get the same frame for ever. An event that becomes due ends a long wait.

A downlink that delays acknowledgements, by a flood of messages or by one that takes too long to skip, ends the session,
too. The next sessions subscribe later: what the device has to say is published first.
"""

from agent.link.mqtt_stream import MqttStream
from agent.link.supervisor import describe
from compat.stream import PeerRefusedError
from patrolink_protocol.native import const

_PACKET_ID_MAX = const(65535)
_PACKETS_PER_TURN = const(8)
_FLOOD_PACKETS = const(32)  # received while one acknowledgement is awaited
_QUIET_MIN_MS = const(60000)  # without a subscription, after a flood
_QUIET_MAX_MS = const(600000)
_CONNACK = (  # MQTT 3.1.1, table 3.1
    "",
    "protocol version not supported by the broker",
    "device id not accepted by the broker",
    "broker not available",
    "wrong user or password",
    "not authorised",
)


class Session:
    """An MQTT session.

    Args:
        umqtt: The umqtt.simple module.
        net: compat.stream.Network.
        raw: Function (net) -> raw stream (see compat.stream).
        broker: {"host", "port"} and optionally "user", "password".
        device: Device id, bytes.
        keepalive_s: MQTT keep-alive time in seconds.
        on_frame: Function called with each frame from the hub.
        due_count: Function that returns the number of events that are due.
        log: Function of one string.

    Attributes:
        connects: Sessions begun since boot.
        published: Frames acknowledged by the broker since boot.
        is_open: True from a successful `connect` until the session fails or is closed.
        ignored: Downlink messages ignored since boot: retained ones, which may be old, and oversized ones.
        faults: Exception types that a failed session raises. They include all that umqtt raises on malformed input;
            any other exception is a bug and must not be hidden.
    """

    def __init__(self, umqtt, net, raw, broker, device, keepalive_s, on_frame, due_count, log):
        self._umqtt = umqtt
        self._net = net
        self._raw = raw
        self._broker = broker
        self._device = device
        self._topic = b"p/" + device + b"/u"
        self._keepalive_ms = keepalive_s * 1000
        self._on_frame = on_frame
        self._due_count = due_count
        self._log = log
        self._client = None
        self._stream = None
        self._last_tx_ms = 0
        self._ping_ms = None
        self._patience_ms = net.timeout_ms  # of the wait for an acknowledgement
        self._asked_ms = None  # when that wait began
        self._asked_due = 0  # events due then
        self._asked_packets = 0  # packets received then
        self._is_subscribed = False
        self._subscribe_at_ms = 0
        self._quiet_ms = _QUIET_MIN_MS
        self.connects = 0
        self.published = 0
        self.is_open = False
        self.ignored = 0
        self.faults = (OSError, umqtt.MQTTException, AssertionError, IndexError, TypeError)

    def connect(self):
        """Open a session and subscribe to the downlink topic. Raises PeerRefusedError when the broker rejects it."""
        b = self._broker
        user = b["user"].encode() if b.get("user") else None
        password = (b.get("password") or "").encode()
        client = self._umqtt.MQTTClient(self._device, b["host"], b["port"], user, password, self._keepalive_ms // 1000)
        self._client = client
        self._asked_ms = None
        self._is_subscribed = False
        # umqtt calls `socket` and `getaddrinfo` of a module global. All sessions share one thread: setting it is safe.
        self._umqtt.socket = self
        client.set_callback(self._on_message)
        try:
            client.connect()
        except self._umqtt.MQTTException as e:
            code = e.args[0] if e.args else 0
            raise PeerRefusedError(_CONNACK[code] if 0 < code < len(_CONNACK) else "CONNACK code %s" % code)
        if self._net.now_ms() >= self._subscribe_at_ms:
            self._subscribe()
        self.connects += 1
        self.is_open = True
        self._mark_sent()
        self._log("link: session %d with %s:%d" % (self.connects, b["host"], b["port"]))

    def socket(self):
        """Return a new, unconnected stream; umqtt calls it."""
        self._stream = MqttStream(self._net, self._raw(self._net), self._deadline_ms)
        return self._stream

    def getaddrinfo(self, host, port):
        """Return the host as it is, because the raw stream resolves its name; umqtt calls it."""
        return ((0, 0, 0, "", (host, port)),)

    def _subscribe(self):
        topic = b"p/" + self._device + b"/d"
        self._ask()
        self._is_subscribed = True
        try:
            self._client.subscribe(topic, 1)
        except self._umqtt.MQTTException:
            raise PeerRefusedError("subscription to %s refused; allow it in the broker's access list" % topic.decode())
        self._asked_ms = None

    def _ask(self):
        """Begin to wait for an acknowledgement."""
        self._asked_ms = self._net.now_ms()
        self._asked_due = self._due_count()
        self._asked_packets = self._stream.packets

    def _deadline_ms(self, start_ms):
        """Return until when a read that began at `start_ms` may take."""
        net = self._net
        if self._asked_ms is None:
            return start_ms + net.timeout_ms
        usual_ms = self._asked_ms + net.timeout_ms
        if net.now_ms() >= usual_ms and self._due_count() > self._asked_due:
            return usual_ms
        return self._asked_ms + self._patience_ms

    def _on_message(self, topic, message):
        stream = self._stream
        if stream.skipped or stream.retained:
            self.ignored += 1
            self._log(
                "link: downlink message ignored: %s"
                % ("%d bytes are too many" % stream.skipped if stream.skipped else "the broker has retained it")
            )
        else:
            self._on_frame(message)

    def _mark_sent(self):
        self._last_tx_ms = self._net.now_ms()
        self._ping_ms = None

    def publish(self, frame):
        """Publish a frame with QoS 1 and wait for the broker's acknowledgement."""
        client = self._client
        if client.pid >= _PACKET_ID_MAX:
            client.pid = 0
        self._ask()
        client.publish(self._topic, frame, False, 1)
        self._set_patience(2 * (self._net.now_ms() - self._asked_ms))
        self._asked_ms = None
        self.published += 1
        self._mark_sent()

    def _set_patience(self, wait_ms):
        self._patience_ms = max(self._net.timeout_ms, min(wait_ms, self._keepalive_ms))

    def keep_alive(self):
        """Handle received messages and ping the broker when due. Returns True when a ping was just answered."""
        client = self._client
        now_ms = self._net.now_ms()
        if not self._is_subscribed and now_ms >= self._subscribe_at_ms:
            self._subscribe()
        for _ in range(_PACKETS_PER_TURN):
            packets = self._stream.packets
            if client.check_msg() is not None:
                raise OSError(71)  # EPROTO: an acknowledgement without a request
            if self._stream.packets == packets:
                break
        client.sock.flush()
        if self._ping_ms is not None:
            if self._net.last_rx_ms >= self._ping_ms:
                self._ping_ms = None
                return True
            if now_ms - self._ping_ms > self._keepalive_ms // 3:
                raise OSError(110)  # ETIMEDOUT
        elif now_ms - self._last_tx_ms > self._keepalive_ms // 3:
            client.ping()
            client.sock.flush()
            self._ping_ms = self._last_tx_ms = now_ms
        return False

    def drop(self):
        """Close the socket of a session that has failed."""
        self.is_open = False
        if self._asked_ms is not None or self._is_subscribed:
            self._learn()
        client, self._client = self._client, None
        if client is not None and client.sock is not None:
            client.sock.close()

    def _learn(self):
        """Adapt to the reason of a failure: a late acknowledgement, or a downlink that delays everything."""
        now_ms = self._net.now_ms()
        waited_ms = 0 if self._asked_ms is None else now_ms - self._asked_ms
        self._asked_ms = None
        flood = waited_ms and self._stream.packets - self._asked_packets >= _FLOOD_PACKETS
        if self._is_subscribed and (flood or self._stream.skipping):
            if now_ms - self._subscribe_at_ms > _QUIET_MAX_MS:
                self._quiet_ms = _QUIET_MIN_MS
            self._subscribe_at_ms = now_ms + self._quiet_ms
            self._log("link: too much downlink; frames are sent for %d s without it" % (self._quiet_ms // 1000))
            self._quiet_ms = min(2 * self._quiet_ms, _QUIET_MAX_MS)
        elif waited_ms >= self._patience_ms:
            self._set_patience(2 * waited_ms)
        self._is_subscribed = False

    def close(self):
        """Send DISCONNECT and close the socket."""
        if self._client is not None:
            try:
                self._client.disconnect()
            except self.faults as e:
                self._log("link: DISCONNECT could not be sent (%s)" % describe(e))
            self.drop()
