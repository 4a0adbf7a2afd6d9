"""A hub's two UDP sockets (PTT.md): floor control and keepalives of devices, and voice passed on as it came.

Everything is read and sent on the event loop, in a reader's callback, without a transport's copies and queues. A
datagram costs nothing dear before its source was found within its limit and its SSRC known. What is refused is counted
by reason, and changes nothing.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from patrolink_protocol import mcptt, srtp

from patrolink.core.clock import monotonic_ms
from patrolink.hub.config import HubConfig
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.udp import bind_udp
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_trace import Trace
from patrolink.hub.voice.floor_types import Member
from patrolink.hub.voice.groups import Address, Device, Group, GroupRegistry, Seat

ABSENT_MS = 60_000  # without a genuine SRTCP packet a device is gone: four keepalives
LIMIT_S = 1
FLOOR_LIMIT, MEDIA_LIMIT = 60, 250  # datagrams of one source in a second; a pre-roll of 1 s comes at once
_MOST_SOURCES = 50_000  # that are watched for their limit
_BATCH = 64  # datagrams before the other sockets have their turn
_ANCILLARY = 64
_RR = 201  # receiver report (RFC 3550 6.4.2)
_APP = 204
_REPROACHES = 8  # groups of a device that are tried for voice of an unknown SSRC

Do = Callable[[Floor, int], None]
Heard = Callable[["Voice", int, GroupKey, bytes | memoryview, int], None]


@dataclass(eq=False)
class Voice:
    """A burst's packets as they come. `seat` is None where a dispatcher speaks."""

    group: Group
    member: Member
    seat: Seat | None
    ssrc: int
    stream: srtp.SrtpStream = field(default_factory=srtp.SrtpStream)
    first: int = -1  # index
    packets: int = 0

    @property
    def lost(self) -> int:
        """Packets that have not come, of those that have been sent."""
        return max(0, self.stream.highest - self.first + 1 - self.packets) if self.packets else 0


class VoiceRelay:
    """
    heard     is handed every voice packet that was passed on: its Voice, index, key, bytes as they came (good
              during the call), arrival in ns of unix time
    found     is told of a device that has come, or come back
    """

    def __init__(self, roster: GroupRegistry, place: HubConfig, metrics: Metrics, trace: Trace | None) -> None:
        self._roster, self._metrics, self._trace = roster, metrics, trace
        self.heard: Heard = lambda voice, index, key, packet, ns: None
        self.found: Callable[[Device], None] = lambda device: None
        self.voices: dict[int, Voice] = {}
        self._sources: dict[Address, int] = {}
        self._by_media: dict[Address, Device] = {}
        self._buf = bytearray(2048)
        self._view = memoryview(self._buf)
        self._out = bytearray(2048)
        self._out_view = memoryview(self._out)
        self._floor = bind_udp(place.listen, place.floor_port)
        self._media = bind_udp(place.listen, place.media_port)
        self._told_port = place.floor_port
        self._index = 0  # of the voice packet that was verified last
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Read from now on. The groups' floors begin."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._floor, self._read, self._floor, FLOOR_LIMIT, self._on_floor)
        self._loop.add_reader(self._media, self._read, self._media, MEDIA_LIMIT, self._on_media)
        now = monotonic_ms()
        for device in self._roster.devices.values():
            if device.floor is not None:
                device.heard_ms = now
                if device.media is not None:
                    self._by_media[device.media] = device
                for seat in device.seats.values():
                    seat.member.present = True
        for group in self._roster.groups.values():
            group.changed()
            self.floor_of(group, Floor.start)

    def close(self) -> None:
        """Read no more, and let no timer run."""
        for it in (self._floor, self._media):
            if self._loop is not None:
                self._loop.remove_reader(it)
            it.close()
        self._loop = None
        for group in self._roster.groups.values():
            if group.timer is not None:
                group.timer.cancel()

    # --- floors and their timers --------------------------------------------------------------------------------------

    def floor_of(self, group: Group, do: Do | Callable[[Floor, int], object]) -> None:
        """Do something with a group's floor, and see to its timers."""
        now = monotonic_ms()
        try:
            do(group.floor, now)
        finally:
            self._poll(group)

    def _poll(self, group: Group) -> None:
        wait_ms = group.floor.poll(monotonic_ms())
        if group.timer is not None:
            group.timer.cancel()
        group.timer = None
        if wait_ms is not None and self._loop is not None:
            group.timer = self._loop.call_later(max(wait_ms, 1) / 1000, self._poll, group)

    def sweep(self) -> None:
        """Once a second: sources have their limit anew, and who has not been heard is gone."""
        self._sources.clear()
        now = monotonic_ms()
        for device in self._roster.devices.values():
            if device.heard_ms is not None and now - device.heard_ms > ABSENT_MS:
                device.heard_ms = None
                self._metrics.counts["devices_gone"] += 1
                for seat in device.seats.values():
                    seat.member.present = False
                    seat.group.changed()

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _read(self, it: socket.socket, limit: int, take: Callable[[int, Address, int], None]) -> None:
        buf, receive, sources = [self._buf], it.recvmsg_into, self._sources
        for _ in range(_BATCH):
            try:
                n, ancillary, flags, source = receive(buf, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of something that was sent
                continue
            count = sources.get(source, 0)
            if count >= limit or (not count and len(sources) >= _MOST_SOURCES):
                self._refuse("flood")
                continue
            sources[source] = count + 1
            if flags & socket.MSG_TRUNC:
                self._refuse("length")
                continue
            ns = time.time_ns()
            if ancillary:
                s, fraction = struct.unpack_from("@ll", ancillary[0][2])
                ns = s * 1_000_000_000 + fraction
            take(n, source, ns)

    def _refuse(self, reason: str) -> None:
        self._metrics.refused[reason] += 1

    def _on_media(self, n: int, source: Address, ns: int) -> None:
        buf = self._buf
        if n < srtp.RTP_HEADER_BYTES:
            self._refuse("length")
        elif 192 <= buf[1] <= 223:
            self._on_rtcp(n, source, True)
        else:
            self._on_voice(n, source, ns)

    def _on_floor(self, n: int, source: Address, ns: int) -> None:
        self._on_rtcp(n, source, False)

    def _on_rtcp(self, n: int, source: Address, media: bool) -> None:
        """Take an SRTCP packet of a device: it says where the device is, and on the floor socket what it wants."""
        buf = self._buf
        seat = self._roster.seats.get(int.from_bytes(buf[4:8], "big")) if n >= 12 else None
        if seat is None:
            self._refuse("ssrc" if n >= 12 else "length")
            return
        device = seat.device
        try:
            n = device.up.open(buf, n)
        except srtp.SrtpError as e:
            self._refuse(str(e))
            return
        index = int.from_bytes(buf[n : n + 4], "big") & srtp.INDEX_MAX
        self._locate(device, source, media)
        if buf[1] == _RR:
            self._metrics.counts["keepalives"] += 1
            if not media:
                self._say(device, bytes((0x80, _RR, 0, 1)) + seat.group.floor.hub_ssrc.to_bytes(4, "big"))
        elif media or buf[1] != _APP:
            self._refuse("packet type")
        else:
            self._on_message(seat, bytes(self._view[:n]), index, source)

    def _on_message(self, seat: Seat, data: bytes, index: int, source: Address) -> None:
        self._metrics.counts["floor_in"] += 1
        if self._trace is not None:
            self._trace.write(source, (self._floor.getsockname()[0], self._told_port), data)
        try:
            self.floor_of(seat.group, lambda floor, now: floor.receive(seat.member, data, index, now))
        except mcptt.FloorError:
            self._refuse("floor message")
        except OSError:  # no number that storage has not seen: nothing is granted
            self._metrics.counts["storage_failed"] += 1

    def _locate(self, device: Device, source: Address, media: bool) -> None:
        """A genuine SRTCP packet has come from there."""
        came = device.heard_ms is None
        device.heard_ms = monotonic_ms()
        if media:
            if device.media == source and not came:
                return
            if device.media is not None:
                self._by_media.pop(device.media, None)
            self._by_media[source] = device
            device.media = source
        elif device.floor == source and not came:
            return
        else:
            device.floor = source
        for seat in device.seats.values():
            seat.member.present = device.floor is not None
            seat.group.changed()
            if device.floor is not None and (came or not media):
                self._enter(seat)
        if came:
            self.found(device)

    def _enter(self, seat: Seat) -> None:
        """Late entry: it is told who speaks."""
        self._metrics.counts["late_entries"] += 1
        self.floor_of(seat.group, lambda floor, now: floor.sync(seat.member, now))

    # --- voice --------------------------------------------------------------------------------------------------------

    def _on_voice(self, n: int, source: Address, ns: int) -> None:
        voice = self.voices.get(int.from_bytes(self._buf[8:12], "big"))
        if voice is None or voice.seat is None:
            self._on_strange(n, source)
            return
        group = voice.group
        key = self._verify(group, n, voice.stream)
        if key is None:
            return
        if not group.floor.voice(voice.member, voice.ssrc, monotonic_ms()):
            self._refuse("no floor")
            self._poll(group)
            return
        packet = self._view[:n]
        self._pass_on(group, packet, voice.seat.device.media)
        self._metrics.relay.add((time.time_ns() - ns) // 1000)
        self._count(voice, self._index, key, packet, ns)

    def _count(self, voice: Voice, index: int, key: GroupKey, packet: bytes | memoryview, ns: int) -> None:
        if not voice.packets:
            voice.first = index
        voice.packets += 1
        self._metrics.counts["voice_in"] += 1
        self.heard(voice, index, key, packet, ns)

    def _verify(self, group: Group, n: int, stream: srtp.SrtpStream) -> GroupKey | None:
        """Return the key of a genuine voice packet: the group's, or the one before while that is good."""
        try:
            self._index = group.rtp.verify(self._buf, n, stream)
            return group.key
        except srtp.SrtpError as e:
            if str(e) == "tag" and group.before is not None:
                rtp, key, until_ms = group.before
                if monotonic_ms() < until_ms:
                    with contextlib.suppress(srtp.SrtpError):
                        self._index = rtp.verify(self._buf, n, stream)
                        return key
                else:
                    group.before = None
            self._refuse(str(e))
            return None

    def _pass_on(self, group: Group, packet: memoryview | bytes, own: Address | None) -> None:
        send = self._media.sendto
        sent = 0
        for target in group.targets:
            if target is not own:
                try:
                    send(packet, target)
                    sent += 1
                except OSError as e:  # its network, or our socket's buffer
                    self._metrics.counts["send_full" if isinstance(e, BlockingIOError) else "send_failed"] += 1
        self._metrics.counts["voice_out"] += sent

    def _on_strange(self, n: int, source: Address) -> None:
        """Voice of an SSRC that was never granted: when a device of ours sends it, it is told to stop."""
        device = self._by_media.get(source)
        if device is None:
            self._refuse("ssrc")
            return
        for seat in list(device.seats.values())[:_REPROACHES]:
            try:
                seat.group.rtp.verify(self._buf, n, srtp.SrtpStream())
            except srtp.SrtpError:
                continue
            self._refuse("no floor")
            member = seat.member
            self.floor_of(seat.group, lambda floor, now, member=member: floor.voice(member, 0, now))
            return
        self._refuse("tag")

    def speak(self, voice: Voice, packet: bytes) -> bool:
        """Send a plain RTP packet of a dispatcher to all; False when it has not the floor."""
        group = voice.group
        if not group.floor.voice(voice.member, voice.ssrc, monotonic_ms()):
            self._poll(group)
            return False
        self._out[: len(packet)] = packet
        n = group.rtp.protect(self._out, len(packet), 0)
        sealed = bytes(self._out_view[:n])
        self._pass_on(group, sealed, None)
        index = packet[2] << 8 | packet[3]
        voice.stream.add(index)
        self._count(voice, index, group.key, sealed, time.time_ns())
        return True

    # --- what goes ----------------------------------------------------------------------------------------------------

    def say(self, device: Device, data: bytes) -> None:
        """Send plain floor messages to a device."""
        self._metrics.counts["floor_out"] += 1
        if self._trace is not None and device.floor is not None:
            self._trace.write((self._floor.getsockname()[0], self._told_port), device.floor, data)
        self._say(device, data)

    def _say(self, device: Device, data: bytes) -> None:
        if device.floor is None:
            return
        self._roster.indices.reach(device.index)
        self._out[: len(data)] = data
        n = device.down.protect(self._out, len(data), device.index)
        device.index += 1
        try:
            self._floor.sendto(self._out_view[:n], device.floor)
        except OSError as e:
            self._metrics.counts["send_full" if isinstance(e, BlockingIOError) else "send_failed"] += 1
