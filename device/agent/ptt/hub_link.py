"""Connection to one hub: one UDP socket for floor control, one for media, SRTCP on both (protocol/PTT.md).

A receiver report goes out every 15 s on each socket and keeps address translations open; on the floor socket it lists
the groups and keys that the device holds. An unanswered report is repeated, then sent from new sockets, because the
address of the board may have changed.
"""

from patrolink_protocol import group_report, srtp
from patrolink_protocol.native import const

_REPORT_MS = const(15000)
_LOST_MS = const(45000)
_RETRY_MS = const(1000)
_REOPEN_AFTER = const(4)  # unanswered reports
_PLAIN_MAX = const(320)  # longest floor control datagram


class SrtcpContext:
    """SRTCP of this device in one key epoch: one key for all hubs in each direction.

    Args:
        aes: patrolink_protocol.aes.encrypter.
        derive_keys: function(label) returning (master key, master salt); the labels are b"up" and b"down".
        next_index: function() returning an SRTCP index that was never used before, or raising OSError if there is none.
    """

    def __init__(self, aes, derive_keys, next_index):
        self._next_index = next_index
        self._up = srtp.SrtcpTransform(aes, *derive_keys(b"up"), room=_PLAIN_MAX)
        self._down = srtp.SrtcpTransform(aes, *derive_keys(b"down"), room=_PLAIN_MAX)
        self._buf = bytearray(_PLAIN_MAX + srtp.SRTCP_OVERHEAD_BYTES)
        self._view = memoryview(self._buf)

    def protect(self, plain):
        """Return the SRTCP packet of a plain one, valid until the next call, or None: storage grants no index.

        Raises:
            IndexError: the packet is longer than 320 bytes.
        """
        try:
            index = self._next_index()
        except OSError:
            return None
        n = len(plain)
        self._buf[:n] = plain
        return self._view[: self._up.protect(self._buf, n, index)]

    def unprotect(self, buf, n, replay_list):
        """Authenticate and decrypt the SRTCP packet buf[:n] in place and return its plain length.

        Args:
            buf: holds the packet.
            n: length of the packet.
            replay_list: srtp.ReplayList of the sender; every hub counts its own indices.

        Raises:
            srtp.SrtpError: the packet is not authentic, or was received before.
        """
        return self._down.open(buf, n, replay_list)


class HubLink:
    """Sockets to one hub, shared by all groups of that hub.

    Args:
        address: (host, floor port, media port).
        open_udp: function(host, port) returning a UDP socket of the HAL, or raising OSError.
        srtcp: SrtcpContext.
        log: function(text).
        now_ms: current time.
    """

    def __init__(self, address, open_udp, srtcp, log, now_ms):
        self.address = address
        self._open_udp = open_udp
        self._srtcp = srtcp
        self._log = log
        self._replay_list = srtp.ReplayList()
        self._report = group_report.receiver_report(0, b"")  # sent on the floor socket
        self._entries = b""
        self._short_report = bytearray((0x80, group_report.RECEIVER_REPORT, 0, 1, 0, 0, 0, 0))
        self._ssrcs = ()  # of the device in its groups at this hub
        self._turn = 0
        self._floor_socket = self._media_socket = None
        self._unanswered = self._rejected = 0
        self._received_ms = self._reported_ms = None
        self._report_due_ms = now_ms
        self.index = 0  # SRTCP index of the packet that was unprotected last
        self._logged_up = False

    def up(self, now_ms):
        """Return True if a packet of the hub was received within the last 45 s."""
        return self._received_ms is not None and now_ms - self._received_ms < _LOST_MS

    def set_groups(self, room, ssrcs, entries, now_ms):
        """Report these groups from now on, at once if they have changed.

        Args:
            room: number of further groups that the device can hold.
            ssrcs: tuple of the SSRCs of the device in its groups at this hub, at least one.
            entries: packed entries of these groups (group_report.pack_entry).
            now_ms: current time.
        """
        self._ssrcs = ssrcs
        self._report = group_report.receiver_report(room, entries)
        if entries != self._entries:
            self._entries = entries
            self._report_due_ms = now_ms

    def hasten(self, now_ms, interval_ms):
        """Send the next receiver reports not later than `interval_ms` after the last ones."""
        due_ms = now_ms if self._reported_ms is None else max(now_ms, self._reported_ms + interval_ms)
        if due_ms < self._report_due_ms:
            self._report_due_ms = due_ms

    def close(self):
        """Close the sockets."""
        for s in (self._floor_socket, self._media_socket):
            if s is not None:
                s.close()
        self._floor_socket = self._media_socket = None

    def poll(self, now_ms):
        """Send the receiver reports when they are due; return milliseconds until the next ones."""
        if now_ms >= self._report_due_ms:
            if self._unanswered and self._unanswered % _REOPEN_AFTER == 0:
                self.close()
            self._send_reports()
            self._reported_ms = now_ms
            self._report_due_ms = now_ms + min(_RETRY_MS << min(self._unanswered, 4), _REPORT_MS)
            self._unanswered += 1
        if self.up(now_ms) != self._logged_up:
            self._logged_up = not self._logged_up
            self._log_up()
        return self._report_due_ms - now_ms

    def _send_reports(self):
        # The hub may have ended one of the groups. It does not know that SSRC then, so the SSRCs take turns.
        self._turn = (self._turn + 1) % len(self._ssrcs)
        ssrc = self._ssrcs[self._turn].to_bytes(4, "big")
        for report in (self._report, self._short_report):
            report[4:8] = ssrc
        self.send_floor(self._report)
        packet = self._srtcp.protect(self._short_report)
        if packet is not None:
            self.send_media(packet)

    def _log_up(self):
        text = "answers" if self._logged_up else "does not answer"
        if self._rejected and not self._logged_up:
            text += "; %d packets were not authentic: compare the device's key with the hub's" % self._rejected
        self._log("ptt: hub %s %s" % (self.address[0], text))
        self._rejected = 0

    def send_floor(self, plain):
        """Protect a plain floor control datagram and send it.

        Without a socket or an index it is lost, as any datagram may be.
        """
        if self._open():
            packet = self._srtcp.protect(plain)
            if packet is not None:
                self._floor_socket.send(packet)

    def send_media(self, packet):
        """Send a protected packet on the media socket."""
        if self._open():
            self._media_socket.send(packet)

    def recv_floor_into(self, buf):
        """Return the length of a floor control datagram received into `buf`, 0 if there is none."""
        return self._floor_socket.recv_into(buf) if self._floor_socket is not None else 0

    def recv_media_into(self, buf):
        """Return the length of a media datagram received into `buf`, 0 if there is none."""
        return self._media_socket.recv_into(buf) if self._media_socket is not None else 0

    def _open(self):
        if self._floor_socket is None:
            host, floor_port, media_port = self.address
            try:
                self._floor_socket = self._open_udp(host, floor_port)
                self._media_socket = self._open_udp(host, media_port)
            except OSError:
                self.close()
        return self._floor_socket is not None

    def unprotect(self, buf, n, now_ms):
        """Authenticate and decrypt the SRTCP packet buf[:n] in place and return its plain length.

        Raises:
            srtp.SrtpError: the packet is not authentic, or was received before.
        """
        try:
            n = self._srtcp.unprotect(buf, n, self._replay_list)
        except srtp.SrtpError:
            self._rejected += 1
            raise
        # The index stays behind the plain packet.
        self.index = (buf[n] & 0x7F) << 24 | buf[n + 1] << 16 | buf[n + 2] << 8 | buf[n + 3]
        self._received_ms = now_ms
        if self._unanswered:
            self._unanswered = 0
            if self._report_due_ms > now_ms:  # else the groups have changed since the report that this answers
                self._report_due_ms = now_ms + _REPORT_MS
        return n
