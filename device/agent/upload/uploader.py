"""Uploads clips to the hub: chooses the file, keeps the connection, limits the rate. MicroPython subset.

The main loop calls `step`, which sends little at a time. Uploads pause for voice and for events that wait to be sent.
"""

from agent.upload.rate_control import RateController
from agent.upload.tus import HttpError, HttpResponse, Transfer, UploadRejectedError
from compat.stream import Network
from patrolink_protocol.native import const

BUFFER = const(1024)  # bytes of one send, and of one read
_SENDS_MAX = const(4)  # in one step
_STEP_MS = const(5)
_SLICE_MS = const(5)  # of waiting, so that voice is served meanwhile
_RESPONSE_POLL_MS = const(10)
_VOICE_PAUSE_MS = const(2000)  # after voice
_IDLE_MS = const(1000)  # until the queue is checked again
_TIMEOUT_MS = const(30000)  # without a byte sent or received
_CONNECT_MS = const(5000)  # with TLS
_POSTPONE_MS = const(3600000)  # of a file that the hub does not accept
_POSTPONED_MAX = const(32)
_ECANCELED = const(125)
_ECONNRESET = const(104)
_ETIMEDOUT = const(110)
_EIO = const(5)


class UploadNetwork(Network):
    """Buffers and deadlines of the upload connection. A wait ends early when something more urgent is to be sent.

    Args:
        now_ms: Function() -> monotonic ms.
        idle: Function(), called while a wait lasts.
        raw: Function(network) -> raw stream (compat.stream).
        urgent: Function() -> true while an event waits to be sent.
    """

    def __init__(self, now_ms, idle, raw, urgent):
        Network.__init__(self, now_ms, idle, _CONNECT_MS, _SLICE_MS, BUFFER)
        self.raw = raw
        self._urgent = urgent

    def await_(self, raw, writing, deadline):
        """Wait as Network does; OSError ECANCELED if something urgent is to be sent."""
        Network.await_(self, raw, writing, deadline)
        if self._urgent():
            raise OSError(_ECANCELED)


class Uploader:
    """Uploads the pending files, the most important first.

    Attributes:
        rate: rate_control.RateController.
        sent: Bytes given to connections since the boot.
        files: Files completed since the boot.

    Args:
        queue: agent.recording.upload_queue.UploadQueue.
        client: agent.upload.tus.TusClient.
        network: UploadNetwork.
        address: (host, port) of the hub.
        kbps: Maximum rate, kbit/s; the rate control may stay below it.
        unix: Function(monotonic ms) -> unix ms, 0 while not known.
        backoff: agent.link.backoff.Backoff.
        log: Function(text).
        faults: Exceptions that a connection may raise.
    """

    def __init__(self, queue, client, network, address, kbps, unix, backoff, log, faults=(OSError,)):
        self._queue = queue
        self._client = client
        self._network = network
        self._address = address
        self.rate = RateController(kbps, BUFFER)
        self._unix = unix
        self._backoff = backoff
        self._log = log
        self._faults = tuple(faults) + (HttpError,)
        self._raw = self._transfer = self._response = None
        self._head = b""  # rest of the request's head
        self._at = self._end = 0  # rest of the request's body, in the file
        self._buf_at = self._buf_end = 0  # rest of the body that is in the buffer
        self._body_bytes = 0  # of the request
        self._voice_until_ms = None
        self._retry_ms = self._active_ms = 0
        self._postponed = {}  # (clip, name) -> when to try again
        self.sent = 0
        self.files = 0

    def retry_now(self, sos=False):
        """A new file is pending: check the queue now. For an SOS, skip the back-off too."""
        if sos or self._transfer is None:
            self._retry_ms = 0

    def step(self, now, voice_busy, urgent):
        """Upload a little.

        Args:
            now: Monotonic ms.
            voice_busy: Someone is speaking on the PTT channel.
            urgent: An event waits to be sent.

        Returns:
            The ms after which more is due.
        """
        if voice_busy:
            self._voice_until_ms = now + _VOICE_PAUSE_MS
        if urgent or (self._voice_until_ms is not None and now < self._voice_until_ms):
            self.rate.pause()
            self._active_ms = now  # the pause is ours, not the hub's
            return _IDLE_MS if urgent or voice_busy else self._voice_until_ms - now
        self._voice_until_ms = None
        if now < self._retry_ms:
            return self._retry_ms - now
        try:
            return self._continue(now)
        except UploadRejectedError as e:
            self._postpone(e, now)
        except self._faults as e:
            if e is self._network.bug:
                raise
            if e.args[:1] == (_ECANCELED,):
                self._log("clips: upload interrupted to send an event")
                self.disconnect()
            else:
                self._failed(e)
        return 0

    def _continue(self, now):
        if self._transfer is None and not self._choose():
            self.disconnect()
            self._retry_ms = now + _IDLE_MS
            return _IDLE_MS
        unix_ms = self._unix(now)
        if self._response is None:
            if not unix_ms:
                return _IDLE_MS  # the hub accepts no request without the time
            if self._raw is None:
                self._connect()
            self._begin_request(unix_ms)
        self.rate.refill(now)
        self._send()
        self._receive(now)
        if now - self._active_ms > _TIMEOUT_MS:
            raise OSError(_ETIMEDOUT)
        if self._request_is_sent():
            return _RESPONSE_POLL_MS
        return max(_STEP_MS, min(self.rate.wait_ms(), _RESPONSE_POLL_MS))

    def _choose(self):
        """Take the most important file. Returns False if there is none."""
        for item in self._queue.pending():
            retry_ms = self._postponed.get((item.clip, item.name))
            if retry_ms is None or self._network.now_ms() >= retry_ms:
                url = self._queue.upload_url(item.clip, item.name)
                self._transfer = Transfer(self._client, item, url)
                return True
        return False

    def _connect(self):
        raw = self._network.raw(self._network)
        self._raw = raw
        raw.connect(self._address)
        self.rate.reset()

    def _begin_request(self, unix_ms):
        transfer = self._transfer
        request = transfer.next_request(unix_ms, self.rate.request_bytes())
        self._head = memoryview(request.head)
        self._at = transfer.offset
        self._end = transfer.offset + request.body_bytes
        self._body_bytes = request.body_bytes
        self._buf_at = self._buf_end = 0
        self._response = HttpResponse(request.method)
        self._active_ms = self._network.now_ms()
        self.rate.begin(self._active_ms)

    def _request_is_sent(self):
        return not len(self._head) and self._at == self._end and self._buf_at == self._buf_end

    def _send(self):
        for _ in range(_SENDS_MAX):
            in_head = len(self._head) > 0
            if not in_head and self._buf_at == self._buf_end and not self._fill():
                return
            n = self.rate.piece
            if in_head:
                piece = self._head[:n]
            else:
                piece = self._network.out[self._buf_at : min(self._buf_at + n, self._buf_end)]
            if not self.rate.allows(len(piece)):
                return
            n = self._raw.send(piece)
            now = self._network.now_ms()
            if not n:
                self.rate.on_sent(0, False, now)
                return
            if in_head:
                self._head = self._head[n:]
            else:
                self._buf_at += n
            self.sent += n
            self._active_ms = now
            self.rate.on_sent(n, self._request_is_sent(), now)

    def _fill(self):
        """Read the next bytes of the file into the buffer. Returns False at the end of the request."""
        n = min(self._end - self._at, BUFFER)
        if not n:
            return False
        if self._queue.read(self._transfer.item.name, self._at, self._network.out[:n]) != n:
            raise OSError(_EIO)
        self._at += n
        self._buf_at, self._buf_end = 0, n
        return True

    def _receive(self, now):
        n = self._raw.recv_into(self._network.inward)
        if n is None:
            return
        if not n:
            raise OSError(_ECONNRESET)
        self._active_ms = now
        response = self._response
        response.feed(self._network.inward[:n])
        if not response.done:
            return
        self._response = None
        if not response.keep_alive or not self._request_is_sent():
            self.disconnect()  # after an early response the hub would read the rest of the body as a request
        self._handle_response(response, now)

    def _handle_response(self, response, now):
        transfer = self._transfer
        item = transfer.item
        old_url, old_offset = transfer.url, transfer.offset
        wait_ms = transfer.handle_response(response)
        if transfer.url is not None and transfer.url != old_url:
            self._queue.set_upload_url(item.clip, item.name, transfer.url)
        if transfer.offset == old_offset + self._body_bytes:
            self.rate.on_response(now)
        if transfer.offset > old_offset or transfer.done:
            self._backoff.reset()
        if wait_ms:
            wait_ms = self._backoff.next_ms() if wait_ms < 0 else wait_ms
            self._log("clips: the hub answered %d for %s; retrying in %d ms" % (response.status, item.name, wait_ms))
            self.disconnect()
            self._retry_ms = now + wait_ms
        if transfer.done:
            self._queue.mark_uploaded(item.clip, item.name)
            self.files += 1
            self._transfer = None
        elif not item.sos and not wait_ms:
            self._yield_to_sos()

    def _yield_to_sos(self):
        """Leave the current file when one of an SOS is pending; the hub keeps what it has of it."""
        for item in self._queue.pending():
            if item.sos and (item.clip, item.name) not in self._postponed:
                self._transfer = None
            return

    def _postpone(self, error, now):
        item = self._transfer.item
        self._log("clips: upload of %s of clip %d failed: %s; retrying in 60 min" % (item.name, item.clip, error))
        if len(self._postponed) >= _POSTPONED_MAX:
            self._postponed.pop(min(self._postponed, key=self._postponed.get))
        self._postponed[(item.clip, item.name)] = now + _POSTPONE_MS
        self._transfer = None
        self.disconnect()

    def _failed(self, error):
        wait_ms = self._backoff.next_ms()
        reason = str(error) or type(error).__name__
        self._log("clips: upload interrupted (%s); retrying in %d ms" % (reason, wait_ms))
        self.disconnect()
        self._retry_ms = self._network.now_ms() + wait_ms

    def disconnect(self):
        """Close the connection. The upload continues later at the byte that the hub has."""
        raw, self._raw = self._raw, None
        self._response = None
        self._head = b""
        if self._transfer is not None:
            self._transfer.connection_lost()
        if raw is not None:
            try:
                raw.close()
            except self._faults:
                pass
