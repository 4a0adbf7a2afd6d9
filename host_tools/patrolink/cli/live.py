"""Watch a device's camera, as a dispatcher: in a player on this machine with --sdp, or into a file with --out.

The hub asks the device for it, unless somebody watches already; its indicator is lit, and who watches is written down
on both sides. The token is taken from PATROLINK_HUB_TOKEN. --sdp writes a file that ffplay or VLC opens, for RTP on
127.0.0.1 as it comes from the device: JPEG (RFC 2435) or H.264 (RFC 6184); a player sees a picture within 10 s.
Ctrl-C or --seconds ends it. Exit code 3 when the device refuses, 4 when nothing comes.
"""

import argparse
import asyncio
import contextlib
import io
import json
import socket
import sys
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from patrolink.cli._arguments import positive_count
from patrolink.core import signals
from patrolink.core.errors import DeadlineError, DeviceError, UserError
from patrolink.core.signals import StopSignal

if TYPE_CHECKING:
    from patrolink.hub.dispatch.client import ConsoleClient

HELP = "watch a device's camera in a player, or into a file"
_FORMATS = {26: "mjpeg", 96: "h264"}  # of FFmpeg, by RTP payload type
_SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s={device}
c=IN IP4 127.0.0.1
t=0 0
m=video {port} RTP/AVP {kind}
"""
_H264 = "a=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEVICE")
    parser.add_argument("--hub", default="http://127.0.0.1:8080", metavar="URL", help="the hub's console")
    parser.add_argument(
        "--seconds", type=positive_count, default=60, metavar="N", help="how long, at most 300 (default: 60)"
    )
    parser.add_argument("--sdp", metavar="FILE", help="file to write for a player; RTP comes on 127.0.0.1")
    parser.add_argument("--out", metavar="FILE", help="new MP4 file to record into")


def run(args: argparse.Namespace) -> int:
    if not args.sdp and not args.out:
        raise UserError("nowhere to show it: name --sdp FILE for a player, --out FILE.mp4 to record, or both")
    with contextlib.ExitStack() as stack:
        player = film = None
        if args.sdp:
            player = Player(args.device, Path(args.sdp))
            stack.callback(player.close)
        if args.out:
            film = Film(Path(args.out))
            stack.callback(film.close)
        watcher = Watcher(args.device, player, film)
        with contextlib.suppress(StopSignal):
            signals.run(watcher.run(args.hub, args.seconds))
    return watcher.finish(args.json)


class Player:
    """Plain RTP to a player on this machine; the SDP file is written once it is known what comes."""

    def __init__(self, device: str, sdp: Path) -> None:
        self._device, self._sdp, self._file = device, sdp, _new(sdp, "w")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._to: tuple[str, int] | None = None

    def take(self, packet: bytes) -> None:
        if self._to is None:
            self._to = "127.0.0.1", _free_port()
            kind = packet[1] & 0x7F
            text = _SDP.format(device=self._device, port=self._to[1], kind=kind) + (_H264 if kind == 96 else "")
            self._file.write(text.encode())
            self._file.flush()
            print(f"play it with: ffplay -protocol_whitelist file,udp,rtp {self._sdp}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # no player yet, or no more
            self._socket.sendto(packet, self._to)

    def close(self) -> None:
        self._socket.close()
        _done(self._sdp, self._file)


def _new(path: Path, mode: Literal["w", "x"]) -> IO[bytes]:
    """Return a file to write, before anybody is asked for anything; with `x` one that was not there."""
    try:
        return path.open("wb" if mode == "w" else "xb")
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name another file") from None


def _done(path: Path, file: IO[bytes]) -> None:
    """Close it, and leave none behind that is empty."""
    file.close()
    if not path.stat().st_size:
        path.unlink()


def _free_port() -> int:
    """Return an even UDP port that nobody has now; a player takes RTCP on the next one."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
            it.bind(("127.0.0.1", 0))
            port: int = it.getsockname()[1]
        if not port & 1:
            return port


class Film:
    """An MP4 file of the pictures that are whole, as they came. It begins with the first that can be shown alone."""

    def __init__(self, path: Path) -> None:
        self.pictures = 0
        self._path, self._file = path, _new(path, "x")
        self._out: Any = None
        self._stream: Any = None
        self._take: Any = None
        self._index = self._first = 0
        self._last = -1

    def take(self, packet: bytes) -> None:
        from patrolink.hub.live.depacketizer import create_depacketizer

        kind, stamp = packet[1] & 0x7F, int.from_bytes(packet[4:8], "big")
        if self._take is None:
            self._take = create_depacketizer(kind)
        self._index += (int.from_bytes(packet[2:4], "big") - self._index) & 0xFFFF
        data = self._take.push(packet[12:], stamp, bool(packet[1] & 0x80), self._index) if self._take else None
        if data is not None:
            self._write(kind, stamp, data)

    def _write(self, kind: int, stamp: int, data: bytes) -> None:
        import av

        from patrolink.hub.live.depacketizer import JPEG_PAYLOAD_TYPE, is_key_frame

        if self._out is None:
            self._begin(kind, data)
            self._first = stamp
        at = (stamp - self._first) & 0xFFFFFFFF
        if at <= self._last:
            return
        packet = av.Packet(data)
        packet.duration = at - self._last  # counts for the last one, which a player would leave out without
        self._last = at
        packet.stream, packet.time_base, packet.pts, packet.dts = self._stream, Fraction(1, 90_000), at, at
        packet.is_keyframe = kind == JPEG_PAYLOAD_TYPE or is_key_frame(data)
        self._out.mux(packet)
        self.pictures += 1

    def _begin(self, kind: int, data: bytes) -> None:
        import av

        self._out = av.open(self._file, "w", format="mp4")
        with av.open(io.BytesIO(data), format=_FORMATS[kind]) as first:
            self._stream = self._out.add_stream_from_template(first.streams.video[0])
        print(f"recording to {self._path}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._out is not None:
            self._out.close()
        _done(self._path, self._file)


class Watcher:
    """One live view, from its request to its end."""

    def __init__(self, device: str, player: Player | None, film: Film | None) -> None:
        self._device, self._player, self._film = device, player, film
        self._view: int | None = None
        self._packets, self._bytes = 0, 0
        self._why = ""
        self._failed: asyncio.Future[None] | None = None

    async def run(self, hub: str, seconds: int) -> None:
        """Watch until it is over."""
        from patrolink.hub.dispatch.client import connect

        async with connect(hub, self._sight) as client:
            self._failed = asyncio.get_running_loop().create_future()
            self._view = await client.request("live_start", device=self._device, seconds=seconds, form="rtp")
            print(f"asked {self._device} for its camera", file=sys.stderr, flush=True)
            over = asyncio.ensure_future(self._until_over(client))
            done, _ = await asyncio.wait((over, self._failed), return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            for it in done:
                it.result()

    async def _until_over(self, client: "ConsoleClient") -> None:
        while True:
            it = await client.next_message()
            if not isinstance(it, dict) or it["type"] != "live" or it["view"] != self._view:
                continue
            if it["state"] == "over":
                self._why = it["why"]
                return
            who = ", ".join(it["watchers"])
            print(f"{self._device}: {it['state']}, watched by {who}", file=sys.stderr, flush=True)

    def _sight(self, view: int, packet: bytes) -> None:
        self._packets += 1
        self._bytes += len(packet)
        try:
            for it in (self._player, self._film):
                if it is not None:
                    it.take(packet)
        except OSError as e:
            if self._failed is not None and not self._failed.done():
                self._failed.set_exception(UserError(f"cannot go on writing ({e.strerror}); free some space"))

    def finish(self, as_json: bool) -> int:
        """Tell what came; DeviceError or DeadlineError when nothing did."""
        from patrolink.hub.live.stream import NO_PACKETS

        if not self._packets and self._why == NO_PACKETS:
            raise DeadlineError(f"nothing came of {self._device}; is it on, and can it reach the hub's live_port?")
        if not self._packets and self._why:
            raise DeviceError(f"{self._device} shows nothing: {self._why}")
        pictures = self._film.pictures if self._film else None
        facts = {"device": self._device, "packets": self._packets, "bytes": self._bytes, "recorded": pictures}
        if as_json:
            print(json.dumps({**facts, "why": self._why}))
        else:
            recorded = f", {pictures} pictures recorded" if self._film else ""
            print(f"{self._device}: {self._bytes // 1000} kB{recorded}; {self._why or 'stopped'}")
        return 0
