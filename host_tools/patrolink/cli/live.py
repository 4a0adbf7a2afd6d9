"""Watch the camera of a device as a dispatcher: in a player on this machine with --sdp, or into a file with --out.

The hub starts the camera unless the device is watched already. The device switches its indicator on; hub and device log
who watches. The token is read from PATROLINK_HUB_TOKEN. --sdp writes a file that ffplay or VLC opens, for RTP on
127.0.0.1 as the device sends it: JPEG (RFC 2435) or H.264 (RFC 6184); a player shows a picture within 10 s. Ctrl-C or
--seconds ends it. Exit code 3 if the device refuses, 4 if nothing is received.
"""

import argparse
import asyncio
import contextlib
import io
import socket
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from patrolink.cli._arguments import positive_count
from patrolink.core import notes, signals
from patrolink.core.errors import DeadlineError, DeviceError, UserError
from patrolink.core.json_lines import print_summary
from patrolink.core.signals import StopSignal
from patrolink.core.text import plural, printable

if TYPE_CHECKING:
    from patrolink.hub.dispatch.client import ConsoleClient
    from patrolink.hub.live.depacketizer import Depacketizer

EXAMPLES = (
    "patrolink live vest-07 --out view.mkv --seconds 30",
    "patrolink live vest-07 | ffplay -",
)
_RTP_HEADER_BYTES = 12
_VIDEO_CLOCK_HZ = 90_000
_FFMPEG_FORMATS = {26: "mjpeg", 96: "h264"}  # by RTP payload type
_SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s={device}
c=IN IP4 127.0.0.1
t=0 0
m=video {port} RTP/AVP {payload_type}
"""
_SDP_H264 = "a=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("device", metavar="DEVICE", help="name of the device")
    parser.add_argument("--hub", default="http://127.0.0.1:8080", metavar="URL", help="address of the hub's console")
    parser.add_argument(
        "--seconds", type=positive_count, default=60, metavar="N", help="duration, at most 300 (default: 60)"
    )
    parser.add_argument("--sdp", metavar="FILE", help="file to write for a player; RTP is sent to 127.0.0.1")
    parser.add_argument("--out", metavar="FILE", help="new MP4 file to record into")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    if not args.sdp and not args.out:
        raise UserError("no output: name --sdp FILE for a player, --out FILE.mp4 to record, or both")
    with contextlib.ExitStack() as stack:
        player = recorder = None
        if args.sdp:
            player = RtpForwarder(args.device, Path(args.sdp))
            stack.callback(player.close)
        if args.out:
            recorder = Mp4Recorder(Path(args.out))
            stack.callback(recorder.close)
        viewer = LiveViewer(args.device, player, recorder)
        with contextlib.suppress(StopSignal):
            signals.run(viewer.run(args.hub, args.seconds))
    return viewer.finish(args.json)


class PacketSink(Protocol):
    """Where RTP packets go."""

    def push(self, packet: bytes) -> None:
        """Handle the next packet."""


class RtpForwarder:
    """Sends RTP packets to a player on this machine and writes the SDP file for it with the first packet.

    Args:
        device: Name of the device, the title in the player.
        sdp: The SDP file.

    Raises:
        UserError: The file cannot be written.
    """

    def __init__(self, device: str, sdp: Path) -> None:
        self._device, self._sdp, self._file = device, sdp, _open_output(sdp, "wb")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._player: tuple[str, int] | None = None

    def push(self, packet: bytes) -> None:
        """Send a packet to the player."""
        if self._player is None:
            self._player = "127.0.0.1", _free_rtp_port()
            self._write_sdp(packet[1] & 0x7F, self._player[1])
        with contextlib.suppress(OSError):  # the player is not running
            self._socket.sendto(packet, self._player)

    def _write_sdp(self, payload_type: int, port: int) -> None:
        text = _SDP.format(device=self._device, port=port, payload_type=payload_type)
        if payload_type == 96:
            text += _SDP_H264
        self._file.write(text.encode())
        self._file.flush()
        notes.note(f"play it with: ffplay -protocol_whitelist file,udp,rtp {self._sdp}")

    def close(self) -> None:
        """Close socket and file."""
        self._socket.close()
        _close_output(self._sdp, self._file)


def _open_output(path: Path, mode: str) -> IO[bytes]:
    """Open a file before the device is contacted, so that an error costs nothing."""
    try:
        file: IO[bytes] = path.open(mode)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name another file") from None
    return file


def _close_output(path: Path, file: IO[bytes]) -> None:
    """Close a file and delete it if it is empty."""
    file.close()
    if not path.stat().st_size:
        path.unlink()


def _free_rtp_port() -> int:
    """Return a free UDP port that is even; a player receives RTCP on the next one."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port: int = sock.getsockname()[1]
        if not port & 1:
            return port


class Mp4Recorder:
    """Records the complete pictures into an MP4 file without transcoding, from the first key frame on.

    Args:
        path: The file; it must not exist.

    Attributes:
        pictures: Number of pictures recorded.

    Raises:
        UserError: The file exists or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.pictures = 0
        self._path, self._file = path, _open_output(path, "xb")
        self._container: Any = None
        self._stream: Any = None
        self._depacketizer: Depacketizer | None = None
        self._index = self._first_timestamp = 0
        self._last_time = -1

    def push(self, packet: bytes) -> None:
        """Add an RTP packet. Packets must be in order; the sequence numbers show losses."""
        from patrolink.hub.live.depacketizer import create_depacketizer

        payload_type, timestamp = packet[1] & 0x7F, int.from_bytes(packet[4:8], "big")
        if self._depacketizer is None:
            self._depacketizer = create_depacketizer(payload_type)
            if self._depacketizer is None:
                return
        self._index += (int.from_bytes(packet[2:4], "big") - self._index) & 0xFFFF
        payload, marker = packet[_RTP_HEADER_BYTES:], bool(packet[1] & 0x80)
        picture = self._depacketizer.push(payload, timestamp, marker, self._index)
        if picture is not None:
            self._write(payload_type, timestamp, picture)

    def _write(self, payload_type: int, timestamp: int, picture: bytes) -> None:
        import av

        from patrolink.hub.live.depacketizer import JPEG_PAYLOAD_TYPE, is_key_frame

        if self._container is None:
            self._begin(payload_type, picture)
            self._first_timestamp = timestamp
        time = (timestamp - self._first_timestamp) & 0xFFFFFFFF
        if time <= self._last_time:
            return
        packet = av.Packet(picture)
        packet.duration = time - self._last_time  # without a duration, players skip the last picture
        self._last_time = time
        packet.stream, packet.time_base = self._stream, Fraction(1, _VIDEO_CLOCK_HZ)
        packet.pts = packet.dts = time
        packet.is_keyframe = payload_type == JPEG_PAYLOAD_TYPE or is_key_frame(picture)
        self._container.mux(packet)
        self.pictures += 1

    def _begin(self, payload_type: int, picture: bytes) -> None:
        import av

        self._container = av.open(self._file, "w", format="mp4")
        with av.open(io.BytesIO(picture), format=_FFMPEG_FORMATS[payload_type]) as template:
            self._stream = self._container.add_stream_from_template(template.streams.video[0])
        notes.note(f"recording to {self._path}")

    def close(self) -> None:
        """Finish the file."""
        if self._container is not None:
            self._container.close()
        _close_output(self._path, self._file)


class LiveViewer:
    """One live view, from its request to its end.

    Args:
        device: Name of the device.
        player: Where packets are sent, or None.
        recorder: Where packets are recorded, or None.
    """

    def __init__(self, device: str, player: RtpForwarder | None, recorder: Mp4Recorder | None) -> None:
        self._device, self._recorder = device, recorder
        self._sinks: list[PacketSink] = [sink for sink in (player, recorder) if sink is not None]
        self._view: int | None = None
        self._packets, self._bytes = 0, 0
        self._end_reason = ""
        self._write_error: OSError | None = None
        self._failed = asyncio.Event()

    async def run(self, hub: str, seconds: int) -> None:
        """Watch until the view ends.

        Raises:
            UserError: The hub rejects the request, or an output cannot be written.
        """
        from patrolink.hub.dispatch.client import connect, wait_first

        async with connect(hub, self._on_frame) as client:
            self._view = await client.request("live_start", device=self._device, seconds=seconds, form="rtp")
            notes.note(f"live view of {self._device} requested")
            await wait_first(self._wait_end(client), self._failed.wait())
        if self._write_error is not None:
            raise UserError(f"the output cannot be written: {self._write_error.strerror}; free some space")

    async def _wait_end(self, client: "ConsoleClient") -> None:
        while True:
            message = await client.next_message()
            if not isinstance(message, dict) or message["type"] != "live" or message["view"] != self._view:
                continue
            if message["state"] == "over":
                self._end_reason = message["why"]
                return
            watchers = ", ".join(message["watchers"])
            notes.note(f"{self._device}: {message['state']}, watched by {watchers}")

    def _on_frame(self, view: int, packet: bytes) -> None:
        self._packets += 1
        self._bytes += len(packet)
        try:
            for sink in self._sinks:
                sink.push(packet)
        except OSError as e:
            self._write_error = e
            self._failed.set()

    def finish(self, as_json: bool) -> int:
        """Print a summary and return the exit code.

        Raises:
            DeadlineError: The device sent nothing.
            DeviceError: The device refused the view.
        """
        from patrolink.hub.live.stream import NO_PACKETS

        if not self._packets and self._end_reason == NO_PACKETS:
            raise DeadlineError(
                f"{self._device}: no packet received; check that it is on and reaches the hub's live_port"
            )
        if not self._packets and self._end_reason:
            raise DeviceError(f"{self._device}: no live view: {self._end_reason}")
        pictures = self._recorder.pictures if self._recorder else None
        summary = {"device": self._device, "packets": self._packets, "bytes": self._bytes, "pictures": pictures}
        if as_json:
            print_summary({**summary, "text": self._end_reason})
        else:
            recorded = "" if pictures is None else f", {plural(pictures, 'picture')} recorded"
            print(printable(f"{self._device}: {self._bytes // 1000} kB{recorded}; {self._end_reason or 'stopped'}"))
        return 0
