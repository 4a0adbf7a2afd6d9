"""The way to one hub: a socket for floor control and one for media, SRTCP on both (protocol/PTT.md).

A receiver report goes out every 15 s and keeps the way open through address translation; until it is answered it goes
out again, and then from new sockets, for the board's own address may be another one now.
"""

from patrolink_protocol import srtp
from patrolink_protocol.native import const

_KEEP_MS = const(15000)
_LOST_MS = const(45000)
_AGAIN_MS = const(1000)
_NEW_SOCKETS = const(4)  # reports without an answer
_PLAIN = const(320)  # longest floor control datagram


class Shield:
    """SRTCP of this device in one key epoch: under `up` to every hub, under `down` from every hub.

    keys   function(label) -> (master key, master salt)
    index  function() -> a number that was never used before
    """

    def __init__(self, aes, keys, index):
        self._index = index
        self._up = srtp.Rtcp(aes, *keys(b"up"), room=_PLAIN)
        self.down = srtp.Rtcp(aes, *keys(b"down"), room=_PLAIN)
        self._buf = bytearray(_PLAIN + srtp.RTCP_MORE)
        self._view = memoryview(self._buf)

    def protect(self, plain):
        """Return the SRTCP packet of a plain one, valid until the next call; IndexError for one that is too long."""
        n = len(plain)
        self._buf[:n] = plain
        return self._view[: self._up.protect(self._buf, n, self._index())]


class Line:
    """
    address  (host, floor port, media port)
    udp      function(host, port) -> hal UDP socket; OSError
    shield   Shield
    """

    def __init__(self, address, udp, shield, now_ms):
        self.address = address
        self._udp = udp
        self.shield = shield
        self._window = srtp.Window()
        self._report = bytearray((0x80, 201, 0, 1, 0, 0, 0, 0))
        self.ssrcs = []  # of our groups there
        self.floor = self.media = None
        self._unanswered = 0
        self._heard_ms = None
        self._due_ms = now_ms
        self.index = 0  # of the packet that was opened last
        self.told = False  # whether it is up, as far as the log knows

    def up(self, now_ms):
        """True while the hub has been heard within 45 s."""
        return self._heard_ms is not None and now_ms - self._heard_ms < _LOST_MS

    def greet(self, now_ms):
        """Report at once: a group has been joined."""
        self._due_ms = now_ms

    def close(self):
        """Let go of the sockets."""
        for s in (self.floor, self.media):
            if s is not None:
                s.close()
        self.floor = self.media = None

    def poll(self, now_ms):
        """Report when it is time; return milliseconds until it is again."""
        if now_ms >= self._due_ms:
            if self._unanswered and self._unanswered % _NEW_SOCKETS == 0:
                self.close()
            for ssrc in self.ssrcs:
                self._report[4:8] = ssrc.to_bytes(4, "big")
                self.say(self._report)
                self.send(self.shield.protect(self._report))
            self._due_ms = now_ms + min(_AGAIN_MS << min(self._unanswered, 4), _KEEP_MS)
            self._unanswered += 1
        return self._due_ms - now_ms

    def say(self, plain):
        """Send a plain datagram of floor control, protected. What cannot be sent is lost, as it may be on its way."""
        if self._open():
            self.floor.send(self.shield.protect(plain))

    def send(self, packet):
        """Send a protected packet of media."""
        if self._open():
            self.media.send(packet)

    def _open(self):
        if self.floor is None:
            host, floor_port, media_port = self.address
            try:
                self.floor = self._udp(host, floor_port)
                self.media = self._udp(host, media_port)
            except OSError:
                self.close()
        return self.floor is not None

    def open(self, buf, n, now_ms):
        """Open the SRTCP packet buf[:n] and return its length; srtp.SrtpError when it is not genuine and new."""
        down = self.shield.down
        down.window = self._window
        n = down.open(buf, n)
        self.index = _index(buf, n)
        self._heard_ms = now_ms
        if self._unanswered:
            self._unanswered = 0
            self._due_ms = now_ms + _KEEP_MS
        return n


def _index(buf, n):
    """The SRTCP index that still stands behind an opened packet."""
    return (buf[n] & 0x7F) << 24 | buf[n + 1] << 16 | buf[n + 2] << 8 | buf[n + 3]
