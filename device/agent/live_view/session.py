"""Live view (protocol/CLIP.md): pictures of the camera as SRTP to the hub, for a while. MicroPython subset.

Packets of a picture are spread over the time that the rate gives them, and a picture that comes before the one before
it is paid for is left out; so the rate is kept by leaving out pictures where a picture cannot be made smaller.
"""

from patrolink_protocol import srtp
from patrolink_protocol.native import const

PACKET = const(1200)  # bytes of a datagram at most
PICTURE = const(16384)
_SECONDS, _SECONDS_MOST = const(30), const(300)
_SILENCE_MS = const(10000)  # without a report
_REPORT = const(32)  # a receiver report with one block
_RR, _BYE, _PSFB = const(201), const(203), const(206)
_BATCH = const(8)  # packets in a call
_AGAIN_MS = const(20)  # until a socket that had no room is asked again
_CREDIT_MS = const(250)  # of the rate, for what could not be sent before
_SENT = const(128)  # packets whose time is known
_FLOOR, _BEGIN = const(16), const(64)  # kbit/s
_LOSS = const(13)  # of 256: 5 %
_ONE = const(384)  # of 256: more than one packet, less than two
_WAIT_MS = const(400)  # beyond the shortest way that was seen
_WAY_MS = const(500)  # taken for the shortest until a shorter one was seen
_FAR_MS = const(1 << 20)  # on the way is what is known no more


class RateController:
    """What may be sent, in kbit/s: less at once where packets are lost or wait on the way, more by little steps.

    Until it was too much for the first time the steps are of what is allowed, then of what the way carries.
    """

    def __init__(self, most):
        self._most = max(most, _FLOOR)
        self.kbps = min(max(self._most // 4, _BEGIN), self._most)
        self._sure = False  # what the way carries has been seen
        self._shortest_ms = _WAY_MS
        self._lossy = False  # the report before told of loss

    def report(self, loss, way_ms, packets=_SENT):
        """Follow a report: loss in 256ths; way_ms since the newest packet that it knows was sent, -1 not known.

        packets  sent since the report before: of a few, one that is lost once is chance
        """
        lossy = loss > _LOSS
        chance = lossy and not self._lossy and loss * packets < _ONE
        self._lossy = lossy
        if 0 <= way_ms < self._shortest_ms:
            self._shortest_ms = way_ms
        if lossy and not chance or way_ms > self._shortest_ms + _WAIT_MS:
            self.kbps = max(self.kbps * 5 // 8, _FLOOR)
            self._sure = True
        else:
            step = max(self.kbps // 16, self._most // 64) if self._sure else self._most // 16
            self.kbps = min(self.kbps + max(step, 1), self._most)


class LiveView:
    """
    udp      function(host, port) -> UDP socket (compat/udp.py); OSError
    aes      compat.aes.encrypter
    keys     function(label, command id, expires_ms) -> (master key, master salt)
    camera   its `fault` ends the view
    encoder  None where pictures are JPEGs; else encode(picture, mono_ms, kbps, key) -> access unit (Annex B), b"" for
             none; close()
    kbps     never more than this
    packet   bytes of a datagram at most
    room     bytes of a JPEG at most
    busy     function() -> True while something more important is to be sent: half of the rate is left to it
    on_end   function(why), called once for each view that has begun
    """

    def __init__(
        self, udp, aes, keys, log, camera, kbps, encoder=None, busy=None, on_end=None, packet=PACKET, room=PICTURE
    ):
        self._udp = udp
        self._aes = aes
        self._keys = keys
        self._log = log
        self._camera = camera
        self._kbps = kbps
        self._encoder = encoder
        self._busy = busy
        self.on_end = on_end
        self._last = None  # id and expires_ms of a command: their keys are used once
        self._sock = self._rtp = self._rtcp = self._reports = None
        # Taken once: after days on a small heap there may be no second ones.
        self._buf = bytearray(packet)
        self._view = memoryview(self._buf)
        self._in = bytearray(_REPORT * 4 + srtp.RTCP_MORE)
        self._times = [0] * _SENT
        if encoder is None:
            from agent.live_view.rtp_jpeg import KIND, JpegPacketizer

            self._make, self._kind = JpegPacketizer, KIND
            self._held = bytearray(room)
        else:
            from agent.live_view.rtp_h264 import KIND, H264Packetizer

            self._make, self._kind = H264Packetizer, KIND
        self.sent = self.skipped = 0  # pictures
        self.refused = ""  # why the last picture could not travel

    def running(self):
        """True while somebody may be watching."""
        return self._sock is not None

    def start(self, command, host, port, now):
        """Begin what a live_view_start asks for: send to host:port for its `number` of s (None: 30).

        Return (done, text).
        """
        name = command["command_id"], command["expires_ms"]
        if self._sock is not None:
            return False, "a live view is under way"
        if name == self._last:
            return False, "this command was carried out before"
        if self._camera.fault:
            return False, self._camera.fault
        try:
            self._sock = self._udp(host, port)
        except OSError as e:
            return False, "no way to %s:%d (%s)" % (host, port, e)
        self._last = name
        try:
            self._begin(name, now)
        except MemoryError:
            self._let_go()
            return False, "no memory is left for it"
        self._until = now + 1000 * min(max(command["number"] or _SECONDS, 1), _SECONDS_MOST)
        return True, "live"

    def _begin(self, name, now):
        up = self._keys(b"up", *name)
        self._rtp = srtp.Rtp(self._aes, *up, room=len(self._buf))
        self._rtcp = srtp.Rtcp(self._aes, *up, room=_REPORT)
        self._reports = srtp.Rtcp(self._aes, *self._keys(b"down", *name), room=_REPORT * 4)
        self._packets = self._make()
        self._ssrc = name[0]
        self._sequence = self._reported = 0
        self.rate = RateController(self._kbps)
        self._stamp = 0
        # When the next packet may go; when all that went is paid for at the rate; when a report came.
        self._due = self._paid = self._heard = now
        self._key = True
        self.sent = self.skipped = 0
        self.refused = ""

    def kbps(self):
        """The rate that holds now."""
        kbps = self.rate.kbps
        return kbps // 2 if self._busy is not None and self._busy() else kbps

    def picture(self, picture, mono_ms):
        """Take a picture of the camera: it goes, or is left out when the one before it is not paid for."""
        if self._sock is None or self._camera.fault:
            return
        if self._packets.more() or mono_ms < self._paid:
            self.skipped += 1
            return
        if self._encoder is not None:
            data = self._encoder.encode(picture, mono_ms, self.kbps(), self._key)
            if not data:
                return
            self._key = False
        else:
            n = len(picture)
            if n > len(self._held):
                self._refuse("a picture has %d bytes, at most %d travel" % (n, len(self._held)))
                return
            self._held[:n] = picture
            data = memoryview(self._held)[:n]
        why = self._packets.begin(data)
        if why:
            self._refuse("a picture cannot travel: " + why)
            return
        self.sent += 1
        self._stamp = mono_ms * 90 & 0xFFFFFFFF
        self._paid = max(self._paid, mono_ms - _CREDIT_MS)

    def _refuse(self, why):
        self.skipped += 1
        if why != self.refused:
            self.refused = why
            self._log("live view: " + why)

    def serve(self, now):
        """Send what is due, take reports, end when it is time; return ms until it wants to be called again."""
        if self._sock is None:
            return 1000
        self._take(now)
        if self._camera.fault:
            self.stop(self._camera.fault, now)
        elif now >= self._until:
            self.stop("time is over", now)
        elif now - self._heard >= _SILENCE_MS:
            self.stop("nothing was heard of the hub for 10 s", now)
        else:
            return self._send(now)
        return 1000

    def _send(self, now):
        for _ in range(_BATCH):
            if not self._packets.more():
                return 100
            if now < self._due:
                break
            if not self._sock.ready():
                return _AGAIN_MS
            n = self._packet()
            self._times[self._sequence & _SENT - 1] = now
            self._sequence += 1
            self._sock.send(self._view[:n])
            took = n * 8 // self.kbps()
            self._paid += took
            self._due = max(self._due, now - _CREDIT_MS) + took * 4 // 5  # a picture is there before it is paid for
        return max(self._due - now, 1)

    def _packet(self):
        """Make the next packet and return its length."""
        buf = self._buf
        n = srtp.RTP_HEADER + self._packets.next(buf, srtp.RTP_HEADER, len(buf) - srtp.RTP_HEADER - srtp.TAG)
        s, stamp, ssrc = self._sequence, self._stamp, self._ssrc
        buf[0] = 0x80
        buf[1] = self._kind | (0 if self._packets.more() else 0x80)
        buf[2] = s >> 8 & 255
        buf[3] = s & 255
        for i in range(4):
            buf[4 + i] = stamp >> 24 - 8 * i & 255
            buf[8 + i] = ssrc >> 24 - 8 * i & 255
        return self._rtp.protect(buf, n, s >> 16)

    def _take(self, now):
        for _ in range(_BATCH):
            n = self._sock.recv_into(self._in)
            if not n:
                return
            try:
                n = self._reports.open(self._in, n)
            except srtp.SrtpError:
                continue
            if self._in[0] == 0x81 and self._in[1] == _PSFB:  # picture loss indication (RFC 4585)
                self._key = True
            elif n >= _REPORT and self._in[0] == 0x81 and self._in[1] == _RR:
                self._heard = now
                self._report(now)

    def _report(self, now):
        p = self._in
        highest = p[16] << 24 | p[17] << 16 | p[18] << 8 | p[19]
        behind = self._sequence - 1 - highest
        way_ms = -1  # all that was sent is there
        if 0 < behind < _SENT:
            way_ms = now - self._times[highest & _SENT - 1]
        elif behind:
            way_ms = _FAR_MS
        self.rate.report(p[12], way_ms, self._sequence - self._reported)
        self._reported = self._sequence

    def stop(self, why, now):
        """End the view, and tell the hub."""
        if self._sock is None:
            return
        # With a reason, for SRTCP wants 12 bytes. Not in the buffer, whose packet may still wait to go.
        bye = bytearray(bytes((0x81, _BYE, 0, 2)) + self._ssrc.to_bytes(4, "big") + b"\x03end" + bytes(srtp.RTCP_MORE))
        self._rtcp.protect(bye, 12, 0)
        self._sock.send(bye)
        self._let_go()
        self._log("live view: %s after %d pictures, %d left out" % (why, self.sent, self.skipped))
        if self.on_end is not None:
            self.on_end(why)

    def _let_go(self):
        self._sock.close()
        self._sock = self._rtp = self._rtcp = self._reports = self._packets = None
        if self._encoder is not None:
            self._encoder.close()
