"""Live view (protocol/CLIP.md): sends the camera's pictures to the hub as SRTP for a while. MicroPython subset.

The packets of a picture are spread over the time that the rate gives them. A picture that comes before the previous one
is paid for is skipped, so the rate is kept even where pictures cannot be made smaller.
"""

from agent.live_view.bitrate import BitrateController
from patrolink_protocol import srtp
from patrolink_protocol.key_derivation import live_view_context
from patrolink_protocol.native import const

PACKET_MAX = const(1200)  # bytes of a datagram
PICTURE_MAX = const(16384)  # bytes of a JPEG
_DURATION_S, _DURATION_S_MAX = const(30), const(300)
_REPORT_TIMEOUT_MS = const(10000)
_REPORT_BYTES = const(32)  # a receiver report with one block
_RR, _BYE, _PSFB = const(201), const(203), const(206)  # RTCP packet types (RFC 3550, RFC 4585)
_BATCH = const(8)  # packets in one call
_SOCKET_RETRY_MS = const(20)  # until a socket that was not ready is tried again
_CREDIT_MS = const(250)  # of the rate, for packets that could not be sent in time
_SENT_TIMES = const(128)  # packets whose send time is known; a power of two
_DELAY_MAX_MS = const(1 << 20)  # the packet is older than the known send times


class LiveViewKeys:
    """Derives the keys of live views (protocol/CLIP.md).

    Args:
        device_key: The device's key, 32 bytes.
        epoch: Key epoch.
    """

    def __init__(self, device_key, epoch):
        self._device_key = device_key
        self._epoch = epoch

    def derive(self, label, command_id, expires_ms):
        """Return (master key, master salt) of one direction of one live view.

        Args:
            label: b"up" or b"down".
            command_id: Id of the command that starts it.
            expires_ms: Expiry of that command.
        """
        context = live_view_context(command_id, expires_ms)
        return srtp.derive_master(self._device_key, b"patrolink-live-" + label, self._epoch, context)


class LiveView:
    """Sends one live view at a time.

    Attributes:
        sent: Pictures sent in this view.
        skipped: Pictures skipped in this view.
        end_reason: Why the last view ended.

    Args:
        udp: Function(host, port) -> UDP socket (compat.udp); raises OSError.
        aes: patrolink_protocol.aes.encrypter.
        keys: Function(label, command id, expires_ms) -> (master key, master salt), see LiveViewKeys.
        log: Function(text).
        camera: Its `fault` ends the view.
        kbps_max: Upper limit of the rate, kbit/s.
        encoder: None if the pictures are JPEGs; else encode(picture, mono_ms, kbps, key_frame) -> access unit in
            Annex B format, or b"" for none; and close().
        busy: Function() -> true while something more important is to be sent: the view then uses half of the rate.
        packet_max: Bytes of a datagram.
        picture_max: Bytes of a JPEG.
    """

    def __init__(
        self,
        udp,
        aes,
        keys,
        log,
        camera,
        kbps_max,
        encoder=None,
        busy=None,
        packet_max=PACKET_MAX,
        picture_max=PICTURE_MAX,
    ):
        self._udp = udp
        self._aes = aes
        self._keys = keys
        self._log = log
        self._camera = camera
        self._kbps_max = kbps_max
        self._encoder = encoder
        self._busy = busy
        self._last_command = None  # (id, expires_ms): the keys of a command are used once
        self._socket = self._rtp = self._rtcp = self._reports = self._packetizer = None
        # Allocated once: after days of fragmentation a small heap may have no second block of this size.
        self._buf = bytearray(packet_max)
        self._view = memoryview(self._buf)
        self._report_buf = bytearray(_REPORT_BYTES * 4 + srtp.SRTCP_OVERHEAD_BYTES)
        self._sent_ms = [0] * _SENT_TIMES
        # Loaded here: a board needs only one of them.
        if encoder is None:
            from agent.live_view.rtp_jpeg import PAYLOAD_TYPE, JpegPacketizer

            self._make_packetizer, self._payload_type = JpegPacketizer, PAYLOAD_TYPE
            self._jpeg = bytearray(picture_max)
        else:
            from agent.live_view.rtp_h264 import PAYLOAD_TYPE, H264Packetizer

            self._make_packetizer, self._payload_type = H264Packetizer, PAYLOAD_TYPE
        self.sent = self.skipped = 0
        self.end_reason = ""
        self._refused = ""  # why the last picture was not sent

    def running(self):
        """Return whether a view is running."""
        return self._socket is not None

    def start(self, command, host, port, now):
        """Start a view.

        Args:
            command: A live_view_start command; its `number` is the duration in s, None for 30.
            host: Where to send to.
            port: UDP port.
            now: Monotonic ms.

        Returns:
            (whether it started, text for the operator).
        """
        name = command["command_id"], command["expires_ms"]
        if self._socket is not None:
            return False, "a live view is already running"
        if name == self._last_command:
            return False, "this command was already carried out"
        if self._camera.fault:
            return False, self._camera.fault
        try:
            self._socket = self._udp(host, port)
        except OSError as e:
            return False, "cannot send to %s:%d (%s)" % (host, port, e)
        self._last_command = name
        try:
            self._begin(name, now)
        except MemoryError:
            self._release()
            return False, "not enough memory for a live view"
        self._end_ms = now + 1000 * min(max(command["number"] or _DURATION_S, 1), _DURATION_S_MAX)
        return True, "live"

    def _begin(self, name, now):
        up = self._keys(b"up", *name)
        self._rtp = srtp.SrtpTransform(self._aes, *up, room=len(self._buf))
        self._rtcp = srtp.SrtcpTransform(self._aes, *up, room=_REPORT_BYTES)
        self._reports = srtp.SrtcpTransform(self._aes, *self._keys(b"down", *name), room=_REPORT_BYTES * 4)
        self._packetizer = self._make_packetizer()
        self._ssrc = name[0]
        self._sequence = self._reported_sequence = 0
        self._bitrate = BitrateController(self._kbps_max)
        self._timestamp = 0
        # When the next packet may be sent, when all sent packets are paid for at the rate, when a report came.
        self._due_ms = self._paid_ms = self._report_ms = now
        self._key_frame = True
        self.sent = self.skipped = 0
        self._refused = ""

    def kbps(self):
        """Return the current rate, kbit/s."""
        kbps = self._bitrate.kbps
        return kbps // 2 if self._busy is not None and self._busy() else kbps

    def picture(self, picture, mono_ms):
        """Send a picture of the camera, or skip it if the previous one is not paid for."""
        if self._socket is None or self._camera.fault:
            return
        if self._packetizer.more() or mono_ms < self._paid_ms:
            self.skipped += 1
            return
        if self._encoder is not None:
            data = self._encoder.encode(picture, mono_ms, self.kbps(), self._key_frame)
            if not data:
                return
            self._key_frame = False
        else:
            n = len(picture)
            if n > len(self._jpeg):
                self._refuse("it has %d bytes, the maximum is %d" % (n, len(self._jpeg)))
                return
            self._jpeg[:n] = picture
            data = memoryview(self._jpeg)[:n]
        reason = self._packetizer.begin(data)
        if reason:
            self._refuse(reason)
            return
        self.sent += 1
        self._timestamp = mono_ms * 90 & 0xFFFFFFFF
        self._paid_ms = max(self._paid_ms, mono_ms - _CREDIT_MS)

    def _refuse(self, reason):
        self.skipped += 1
        if reason != self._refused:
            self._refused = reason
            self._log("live view: a picture cannot be sent: " + reason)

    def serve(self, now):
        """Send what is due, handle reports, and end the view in time.

        Returns:
            The ms after which it wants to be called again.
        """
        if self._socket is None:
            return 1000
        self._receive(now)
        if self._camera.fault:
            self.stop(self._camera.fault, now)
        elif now >= self._end_ms:
            self.stop("the requested time is over", now)
        elif now - self._report_ms >= _REPORT_TIMEOUT_MS:
            self.stop("no report from the hub for 10 s", now)
        else:
            return self._send(now)
        return 1000

    def _send(self, now):
        for _ in range(_BATCH):
            if not self._packetizer.more():
                return 100
            if now < self._due_ms:
                break
            if not self._socket.ready():
                return _SOCKET_RETRY_MS
            n = self._write_packet()
            self._sent_ms[self._sequence & _SENT_TIMES - 1] = now
            self._sequence += 1
            self._socket.send(self._view[:n])
            duration_ms = n * 8 // self.kbps()
            self._paid_ms += duration_ms
            # A fifth faster than the rate, so that a picture has arrived before it is paid for.
            self._due_ms = max(self._due_ms, now - _CREDIT_MS) + duration_ms * 4 // 5
        return max(self._due_ms - now, 1)

    def _write_packet(self):
        """Write the next SRTP packet into the buffer, and return its length."""
        buf = self._buf
        payload_max = len(buf) - srtp.RTP_HEADER_BYTES - srtp.TAG_BYTES
        n = srtp.RTP_HEADER_BYTES + self._packetizer.next(buf, srtp.RTP_HEADER_BYTES, payload_max)
        sequence, timestamp, ssrc = self._sequence, self._timestamp, self._ssrc
        buf[0] = 0x80
        buf[1] = self._payload_type | (0 if self._packetizer.more() else 0x80)
        buf[2] = sequence >> 8 & 255
        buf[3] = sequence & 255
        for i in range(4):
            buf[4 + i] = timestamp >> 24 - 8 * i & 255
            buf[8 + i] = ssrc >> 24 - 8 * i & 255
        return self._rtp.protect(buf, n, sequence >> 16)

    def _receive(self, now):
        for _ in range(_BATCH):
            n = self._socket.recv_into(self._report_buf)
            if not n:
                return
            try:
                n = self._reports.open(self._report_buf, n)
            except srtp.SrtpError:
                continue
            if self._report_buf[0] == 0x81 and self._report_buf[1] == _PSFB:  # picture loss indication (RFC 4585)
                self._key_frame = True
            elif n >= _REPORT_BYTES and self._report_buf[0] == 0x81 and self._report_buf[1] == _RR:
                self._report_ms = now
                self._handle_report(now)

    def _handle_report(self, now):
        p = self._report_buf
        highest = p[16] << 24 | p[17] << 16 | p[18] << 8 | p[19]
        missing = self._sequence - 1 - highest
        delay_ms = -1  # the hub has all packets
        if 0 < missing < _SENT_TIMES:
            delay_ms = now - self._sent_ms[highest & _SENT_TIMES - 1]
        elif missing:
            delay_ms = _DELAY_MAX_MS
        self._bitrate.report(p[12], delay_ms, self._sequence - self._reported_sequence)
        self._reported_sequence = self._sequence

    def stop(self, reason, now):
        """End the view, and send BYE to the hub."""
        if self._socket is None:
            return
        # With a reason, because SRTCP needs 12 bytes. In a separate buffer: the other one may hold a packet.
        bye = bytearray(
            bytes((0x81, _BYE, 0, 2)) + self._ssrc.to_bytes(4, "big") + b"\x03end" + bytes(srtp.SRTCP_OVERHEAD_BYTES)
        )
        self._rtcp.protect(bye, 12, 0)
        self._socket.send(bye)
        self._release()
        self.end_reason = reason
        self._log("live view: ended (%s); %d pictures sent, %d skipped" % (reason, self.sent, self.skipped))

    def _release(self):
        self._socket.close()
        self._socket = self._rtp = self._rtcp = self._reports = self._packetizer = None
        if self._encoder is not None:
            self._encoder.close()
