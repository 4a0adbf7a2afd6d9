"""Live views at a hub (CLIP.md): SRTP of cameras on one socket, put in order and together, and reported on.

What is not genuine is counted by reason and changes nothing. A view is made before its command is sent; its SSRC is the
command's id, and only what stands under its keys moves it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from patrolink_protocol import srtp
from patrolink_protocol.key_derivation import live_view_context

from patrolink.core.keys import DeviceKey
from patrolink.hub.infra import crypto
from patrolink.hub.infra.udp import bind_udp
from patrolink.hub.live.depacketizer import H264_KIND, Take, assembler, is_key

PACKET = 1200
_SILENCE_MS = 10_000
_REPORT_S = 1
_ASK_MS = 300  # for a key frame, again and again until one comes
_WAIT_MS = 80  # for packets that were overtaken
_MOST_WAITING = 128  # packets
_BATCH = 64
_BYE = 203

Address = tuple[Any, ...]


def now_ms() -> int:
    """Return milliseconds of no particular start."""
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True)
class Picture:
    """A JPEG (`kind` 26), or an access unit of H.264 (96); `stamp` at 90 kHz."""

    device: str
    kind: int
    stamp: int
    data: bytes


@dataclass
class _Counts:
    """What a report tells of (RFC 3550 A.3, A.8)."""

    first: int = -1
    packets: int = 0
    before: tuple[int, int] = (0, 0)  # expected and received, at the report before
    jitter: float = 0.0
    transit: int | None = None
    stamp: int = -1

    def take(self, index: int, stamp: int, ms: int) -> None:
        if self.first < 0 or index < self.first:
            self.first = index
        self.packets += 1
        if stamp == self.stamp:  # packets of one picture are spread on purpose
            return
        self.stamp = stamp
        transit = (ms * 90 - stamp) & 0xFFFFFFFF
        if self.transit is not None:
            change = (transit - self.transit + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            self.jitter += (abs(change) - self.jitter) / 16
        self.transit = transit

    def block(self, ssrc: int, highest: int) -> bytes:
        """Return the report block of now."""
        expected = highest - self.first + 1 if self.packets else 0
        lost = expected - self.packets
        more, came = expected - self.before[0], self.packets - self.before[1]
        self.before = (expected, self.packets)
        fraction = min(max((more - came) * 256 // more, 0), 255) if more > 0 else 0
        out = ssrc.to_bytes(4, "big") + bytes((fraction,)) + max(min(lost, 0x7FFFFF), 0).to_bytes(3, "big")
        return (
            out + max(highest, 0).to_bytes(4, "big") + min(int(self.jitter), 0xFFFFFFFF).to_bytes(4, "big") + bytes(8)
        )


@dataclass(eq=False)
class View:
    """
    ssrc     the id of its command, whose expires_ms this one's is: both make its keys
    packet   is handed each plain RTP packet, in order
    picture  is handed each picture
    ended    is told once, with the reason
    """

    device: str
    ssrc: int
    expires_ms: int
    key: DeviceKey
    until_ms: int
    packet: Callable[[bytes], None]
    picture: Callable[[Picture], None]
    ended: Callable[[str], None]
    heard_ms: int = 0
    source: Address | None = None
    pictures: int = 0
    stream: srtp.Stream = field(default_factory=srtp.Stream)
    counts: _Counts = field(default_factory=_Counts)

    def __post_init__(self) -> None:
        up, down = self._master(b"patrolink-live-up"), self._master(b"patrolink-live-down")
        self.rtp = srtp.Rtp(crypto.aes, *up, room=PACKET)
        self.rtcp = srtp.Rtcp(crypto.aes, *up, room=PACKET)
        self._down = srtp.Rtcp(crypto.aes, *down, room=64)
        self._said = 0  # SRTCP packets
        self._asked_ms: int | None = None  # for a key frame; None: pictures come
        self._waiting: dict[int, tuple[int, bytes]] = {}  # index: when it came, plain packet
        self._next = -1
        self._take: Take | None = None
        self._kind = -1

    def _master(self, label: bytes) -> tuple[bytes, bytes]:
        context = live_view_context(self.ssrc, self.expires_ms)
        master: tuple[bytes, bytes] = srtp.derive_master(self.key.secret, label, self.key.epoch, context)
        return master

    def want_key(self) -> None:
        """Have a key frame asked for until it comes."""
        if self._asked_ms is None:
            self._asked_ms = 0

    def report(self) -> bytes:
        """Return the SRTCP receiver report of now."""
        buf = bytearray(b"\x81\xc9\0\x07") + (self.ssrc ^ 0xFFFFFFFF).to_bytes(4, "big")
        buf += self.counts.block(self.ssrc, self.stream.highest) + bytes(srtp.RTCP_MORE)
        return self._protected(buf)

    def asks(self, ms: int) -> bytes | None:
        """Return an SRTCP picture loss indication (RFC 4585 6.3.1) when it is time to ask for a key frame."""
        if self._asked_ms is None or ms - self._asked_ms < _ASK_MS:
            return None
        self._asked_ms = ms
        me = (self.ssrc ^ 0xFFFFFFFF).to_bytes(4, "big")
        return self._protected(bytearray(b"\x81\xce\0\2" + me + self.ssrc.to_bytes(4, "big") + bytes(srtp.RTCP_MORE)))

    def _protected(self, buf: bytearray) -> bytes:
        n = self._down.protect(buf, len(buf) - srtp.RTCP_MORE, self._said)
        self._said += 1
        return bytes(buf[:n])

    def open(self, buf: bytearray, n: int, ms: int) -> None:
        """Take the SRTP packet buf[:n]; SrtpError when it is not genuine and new."""
        index = self.rtp.verify(buf, n, self.stream)
        n = self.rtp.decrypt(buf, n, index)
        self.counts.take(index, int.from_bytes(buf[4:8], "big"), ms)
        if index >= self._next:
            self._waiting[index] = (ms, bytes(buf[:n]))
        self.pass_on(ms)

    def pass_on(self, ms: int) -> None:
        """Hand on what is in order, or has been waited for long enough."""
        while self._waiting:
            index = min(self._waiting)
            came, packet = self._waiting[index]
            in_order = index == self._next or (self._next < 0 and index == 0)
            if not in_order and ms - came < _WAIT_MS and len(self._waiting) <= _MOST_WAITING:
                return
            del self._waiting[index]
            if not in_order and self._kind == H264_KIND:
                self.want_key()
            self._next = index + 1
            self._on(index, packet)

    def _on(self, index: int, packet: bytes) -> None:
        self.packet(packet)
        kind, stamp = packet[1] & 0x7F, int.from_bytes(packet[4:8], "big")
        if kind != self._kind:
            self._kind, self._take = kind, assembler(kind)
        if self._take is not None:
            at = srtp.payload(packet, len(packet))
            data = self._take(packet[at:], stamp, bool(packet[1] & 0x80), index)
            if data is not None:
                self.pictures += 1
                if self._asked_ms is not None and (kind != H264_KIND or is_key(data)):
                    self._asked_ms = None
                self.picture(Picture(self.device, kind, stamp, data))


class LiveViews:
    """The socket of a hub's live views, and those that are under way. UserError when it cannot listen."""

    def __init__(self, host: str, port: int, refused: Counter[str]) -> None:
        self.views: dict[int, View] = {}
        self._refused = refused
        self._socket = bind_udp(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._buf = bytearray(2048)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._report_ms = 0

    def start(self) -> None:
        """Read from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)
        self._tick()

    def close(self) -> None:
        """End all views and read no more."""
        for view in list(self.views.values()):
            self.end(view, "the hub stops")
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
        self._socket.close()

    def begin(self, view: View, wait_ms: int = 0) -> None:
        """Expect a view from now on, which is over when nothing comes for wait_ms and then 10 s."""
        view.heard_ms = now_ms() + wait_ms
        self.views[view.ssrc] = view

    def end(self, view: View, why: str) -> None:
        """Expect it no more: without reports its device ends as well."""
        if self.views.pop(view.ssrc, None) is not None:
            view.ended(why)

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                n, source = self._socket.recvfrom_into(self._buf)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of a report
                continue
            self.take(n, source)

    def take(self, n: int, source: Address, data: bytes | None = None) -> None:
        """Take a datagram of n bytes, which is in the buffer unless it is given."""
        buf = self._buf
        if data is not None:
            buf[:n] = data
        rtcp = n >= 12 and 192 <= buf[1] <= 223
        at = 4 if rtcp else 8
        view = self.views.get(int.from_bytes(buf[at : at + 4], "big")) if n >= srtp.RTP_HEADER else None
        if view is None:
            self._refused["live ssrc"] += 1
            return
        try:
            if rtcp:
                view.rtcp.open(buf, n)
            else:
                view.open(buf, n, now_ms())
        except srtp.SrtpError as e:
            self._refused[f"live {e}"] += 1
            return
        view.heard_ms, view.source = now_ms(), source
        if rtcp and buf[1] == _BYE:
            view.pass_on(view.heard_ms + _WAIT_MS)
            self.end(view, "the device ended it")

    def _tick(self) -> None:
        now = now_ms()
        due = now - self._report_ms >= _REPORT_S * 1000
        if due:
            self._report_ms = now
        for view in list(self.views.values()):
            view.pass_on(now)
            if now >= view.until_ms:
                self.end(view, "time is over")
            elif now - view.heard_ms >= _SILENCE_MS:
                self.end(view, "nothing came for 10 s" if view.source else "nothing came")
            elif view.source is not None:
                asked = view.asks(now)
                for packet in ([view.report()] if due else []) + ([asked] if asked else []):
                    self._say(packet, view.source)
        if self._loop is not None:
            self._timer = self._loop.call_later(_WAIT_MS / 1000, self._tick)

    def _say(self, packet: bytes, to: Address) -> None:
        try:
            self._socket.sendto(packet, to)
        except OSError:
            self._refused["live not sent"] += 1
