"""One MQTT session over umqtt.simple: connect, publish, subscribe, keep alive. Every call may raise one of `faults`.

umqtt blocks; the socket facade below it (compat.stream) bounds every wait and keeps the main loop running meanwhile.
"""

from agent.link.supervisor import describe
from compat.stream import PeerRefusedError, Stream

_PACKET_ID_MAX = 65535
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
        log: Function of one string.

    Attributes:
        connects: Sessions begun since boot.
        published: Frames acknowledged by the broker since boot.
        is_open: True from a successful `connect` until the session fails or is closed.
        faults: Exception types that a failed session raises. They include all that umqtt raises on malformed input;
            any other exception is a bug and must not be hidden.
    """

    def __init__(self, umqtt, net, raw, broker, device, keepalive_s, on_frame, log):
        self._umqtt = umqtt
        self._net = net
        self._raw = raw
        self._broker = broker
        self._device = device
        self._topic = b"p/" + device + b"/u"
        self._keepalive_ms = keepalive_s * 1000
        self._on_frame = on_frame
        self._log = log
        self._client = None
        self._last_tx_ms = 0
        self._ping_ms = None
        self.connects = 0
        self.published = 0
        self.is_open = False
        self.faults = (OSError, umqtt.MQTTException, AssertionError, IndexError, TypeError)

    def connect(self):
        """Open a session and subscribe to the downlink topic. Raises PeerRefusedError when the broker rejects it."""
        b = self._broker
        user = b["user"].encode() if b.get("user") else None
        password = (b.get("password") or "").encode()
        client = self._umqtt.MQTTClient(self._device, b["host"], b["port"], user, password, self._keepalive_ms // 1000)
        self._client = client
        # umqtt calls `socket` and `getaddrinfo` of a module global. All sessions share one thread: setting it is safe.
        self._umqtt.socket = self
        client.set_callback(self._on_message)
        try:
            client.connect()
        except self._umqtt.MQTTException as e:
            code = e.args[0] if e.args else 0
            raise PeerRefusedError(_CONNACK[code] if 0 < code < len(_CONNACK) else "CONNACK code %s" % code)
        client.subscribe(b"p/" + self._device + b"/d", 1)
        self.connects += 1
        self.is_open = True
        self._mark_sent()
        self._log("link: session %d with %s:%d" % (self.connects, b["host"], b["port"]))

    def socket(self):
        """Return a new, unconnected stream; umqtt calls it."""
        return Stream(self._net, self._raw(self._net))

    def getaddrinfo(self, host, port):
        """Return the host as it is, because the raw stream resolves its name; umqtt calls it."""
        return ((0, 0, 0, "", (host, port)),)

    def _on_message(self, topic, message):
        self._on_frame(message)

    def _mark_sent(self):
        self._last_tx_ms = self._net.now_ms()
        self._ping_ms = None

    def publish(self, frame):
        """Publish a frame with QoS 1 and wait for the broker's acknowledgement."""
        client = self._client
        if client.pid >= _PACKET_ID_MAX:
            client.pid = 0
        client.publish(self._topic, frame, False, 1)
        self.published += 1
        self._mark_sent()

    def keep_alive(self):
        """Handle received messages and ping the broker when due. Returns True when a ping was just answered."""
        client = self._client
        now_ms = self._net.now_ms()
        if client.check_msg() is not None:
            raise OSError(71)  # EPROTO: an acknowledgement without a request
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
        client, self._client = self._client, None
        if client is not None and client.sock is not None:
            client.sock.close()

    def close(self):
        """Send DISCONNECT and close the socket."""
        if self._client is not None:
            try:
                self._client.disconnect()
            except self.faults as e:
                self._log("link: DISCONNECT could not be sent (%s)" % describe(e))
            self.drop()
