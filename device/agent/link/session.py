"""One MQTT session over umqtt.simple: connect, publish, keep alive, reconnect.

umqtt blocks; the facade under it (compat.netsock) bounds every wait and keeps the receiver served meanwhile.
"""

DOWN = 0
UP = 1
_PID_LAST = 65535


class Session:
    """
    umqtt     the umqtt.simple module
    net       compat.netsock.Network
    broker    {"host", "port"} and optionally "user", "password"
    device    device id, bytes
    backoff   link.backoff.Backoff
    log       function of one string
    """

    def __init__(self, umqtt, net, broker, device, backoff, keepalive_s, log):
        self._umqtt = umqtt
        self._net = net
        self._broker = broker
        self._device = device
        self._topic = b"p/" + device + b"/u"
        self._backoff = backoff
        self._keepalive_s = keepalive_s
        self._log = log
        self._client = None
        self._retry_at = 0
        self._last_tx_ms = 0
        self._ping_ms = None
        self.state = DOWN
        self.connects = 0
        self.published = 0
        # What a broken or hostile broker makes umqtt raise; anything else is a bug and must show.
        self.faults = (OSError, umqtt.MQTTException, AssertionError, IndexError, TypeError)

    def step(self, outbox):
        """Do the next useful thing: connect when due, send one frame, or keep the session alive."""
        now = self._net.now_ms()
        if self.state == DOWN and now < self._retry_at:
            return
        try:
            if self.state == DOWN:
                self._connect()
            elif not self._send_one(outbox):
                self._keep_alive(now)
        except self.faults as e:
            if e is self._net.bug:
                raise
            self._fail(e)

    def _connect(self):
        b = self._broker
        client = self._umqtt.MQTTClient(
            self._device, b["host"], b["port"], b.get("user"), b.get("password"), self._keepalive_s
        )
        self._client = client
        # umqtt takes its sockets from a module global; sessions share one thread, so setting it here is enough.
        self._umqtt.socket = self._net
        client.set_callback(_ignore)
        client.connect()
        self.state = UP
        self.connects += 1
        self._last_tx_ms = self._net.now_ms()
        self._ping_ms = None
        self._log("link: session %d with %s:%d" % (self.connects, b["host"], b["port"]))

    def _send_one(self, outbox):
        frame = outbox.begin()
        if frame is None:
            return False
        client = self._client
        if client.pid >= _PID_LAST:
            client.pid = 0
        client.publish(self._topic, frame, False, 1)
        outbox.done()
        self.published += 1
        self._last_tx_ms = self._net.now_ms()
        self._ping_ms = None
        self._backoff.reset()
        return True

    def _keep_alive(self, now):
        client = self._client
        if client.check_msg() is not None:
            raise OSError(71)  # EPROTO: an acknowledgement nobody waits for
        if self._ping_ms is not None:
            if self._net.last_rx_ms >= self._ping_ms:
                self._ping_ms = None
                self._backoff.reset()
            elif now - self._ping_ms > self._keepalive_s * 1000 // 3:
                raise OSError(110)  # ETIMEDOUT
        elif now - self._last_tx_ms > self._keepalive_s * 1000 // 3:
            client.ping()
            client.sock.flush()
            self._ping_ms = self._last_tx_ms = now

    def _fail(self, error):
        if self.state == UP:
            what = "session lost"
        else:
            what = "no session with %s:%d" % (self._broker["host"], self._broker["port"])
        self._hang_up()
        wait = self._backoff.next_ms()
        self._retry_at = self._net.now_ms() + wait
        self._log("link: %s (%s); next attempt in %d ms" % (what, _tell(error), wait))

    def _hang_up(self):
        self.state = DOWN
        client, self._client = self._client, None
        if client is not None and client.sock is not None:
            client.sock.close()

    def close(self):
        """Disconnect politely."""
        if self._client is not None:
            try:
                self._client.disconnect()
            except self.faults:
                pass
            self._hang_up()


def _ignore(topic, message):
    """Nothing is subscribed; a broker that sends anyway is not listened to."""


def _tell(error):
    text = str(error)
    return type(error).__name__ + (" " + text if text else "")
