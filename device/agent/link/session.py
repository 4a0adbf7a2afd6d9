"""One MQTT session over umqtt.simple: connect, publish, listen, keep alive. Every call may raise one of `faults`.

umqtt blocks; the facade under it (compat.stream) bounds every wait and keeps the receiver served meanwhile.
"""

from agent.link.supervisor import tell
from compat.stream import PeerRefusedError

_PID_LAST = 65535
_CONNACK = (
    "",
    "protocol version not spoken there",
    "this device id is not accepted",
    "broker not available",
    "wrong user or password",
    "not authorised",
)


class Session:
    """
    umqtt     the umqtt.simple module
    net       compat.stream.Network
    broker    {"host", "port"} and optionally "user", "password"
    device    device id, bytes
    take      function(frame) for what comes down
    log       function of one string
    """

    def __init__(self, umqtt, net, broker, device, keepalive_s, take, log):
        self._umqtt = umqtt
        self._net = net
        self._broker = broker
        self._device = device
        self._topic = b"p/" + device + b"/u"
        self._keepalive_ms = keepalive_s * 1000
        self._take = take
        self._log = log
        self._client = None
        self._last_tx_ms = 0
        self._ping_ms = None
        self.connects = 0
        self.published = 0
        # What a broken or hostile broker makes umqtt raise; anything else is a bug and must show.
        self.faults = (OSError, umqtt.MQTTException, AssertionError, IndexError, TypeError)

    def connect(self):
        """Open the session and listen to what comes down."""
        b = self._broker
        user = b["user"].encode() if b.get("user") else None
        password = (b.get("password") or "").encode()
        client = self._umqtt.MQTTClient(self._device, b["host"], b["port"], user, password, self._keepalive_ms // 1000)
        self._client = client
        # umqtt takes its sockets from a module global; sessions share one thread, so setting it here is enough.
        self._umqtt.socket = self._net
        client.set_callback(self._on_message)
        try:
            client.connect()
        except self._umqtt.MQTTException as e:
            code = e.args[0] if e.args else 0
            raise PeerRefusedError(_CONNACK[code] if 0 < code < len(_CONNACK) else "code %s" % code)
        client.subscribe(b"p/" + self._device + b"/d", 1)
        self.connects += 1
        self._sent()
        self._log("link: session %d with %s:%d" % (self.connects, b["host"], b["port"]))

    def _on_message(self, topic, message):
        self._take(message)

    def _sent(self):
        self._last_tx_ms = self._net.now_ms()
        self._ping_ms = None

    def publish(self, frame):
        """Send a frame and wait for the broker's acknowledgement."""
        client = self._client
        if client.pid >= _PID_LAST:
            client.pid = 0
        client.publish(self._topic, frame, False, 1)
        self.published += 1
        self._sent()

    def keep_alive(self):
        """Take what has come, ping when it is time; True when the broker has just shown that it lives."""
        client = self._client
        now = self._net.now_ms()
        if client.check_msg() is not None:
            raise OSError(71)  # EPROTO: an acknowledgement nobody waits for
        client.sock.flush()
        if self._ping_ms is not None:
            if self._net.last_rx_ms >= self._ping_ms:
                self._ping_ms = None
                return True
            if now - self._ping_ms > self._keepalive_ms // 3:
                raise OSError(110)  # ETIMEDOUT
        elif now - self._last_tx_ms > self._keepalive_ms // 3:
            client.ping()
            client.sock.flush()
            self._ping_ms = self._last_tx_ms = now
        return False

    def hang_up(self):
        """Let go of a session that has ended."""
        client, self._client = self._client, None
        if client is not None and client.sock is not None:
            client.sock.close()

    def close(self):
        """Disconnect politely."""
        if self._client is not None:
            try:
                self._client.disconnect()
            except self.faults as e:
                self._log("link: no good-bye (%s)" % tell(e))
            self.hang_up()
