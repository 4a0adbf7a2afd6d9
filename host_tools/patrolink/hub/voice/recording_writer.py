"""Writer process of the recorder: `python -m patrolink.hub.voice.recording_writer FOLDER`.

It is a process because a thread would compete with the relay for the interpreter lock. It reads bursts on standard
input (length in 4 bytes, then a pickle of a RecordedBurst), writes each, and replies with a line of JSON: the row of
the recording, `null` if the burst holds no voice, or `{"error": ...}`. It exits at the end of its input.
"""

import hashlib
import json
import os
import pickle
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from patrolink_protocol import mcptt, srtp

from patrolink.core.decoder import rfc3339
from patrolink.hub.infra.crypto import GroupKey

PCMA, OPUS = 8, 111  # RTP payload types
RATES = {PCMA: 8000, OPUS: 48_000}
SUFFIXES = {PCMA: ".wav", OPUS: ".ogg"}
_CODECS = {PCMA: "pcma", OPUS: "opus"}
_ALAW_SILENCE = 0xD5
_MAX_BURST_S = 3700  # above the longest talk time that a site may configure
_NICE = 10  # lower priority than the relay

PACKET_HEADER = struct.Struct(">QIHH")  # before each packet: arrival in ns of Unix time, index, key number, bytes


class RecordedBurst(NamedTuple):
    """A burst that has ended.

    Attributes:
        indicator: Floor Indicator of the burst.
        ended: Why the burst ended.
        keys: Group keys, referred to by the packets' key numbers.
        packets: SRTP packets as received, each after a PACKET_HEADER.
    """

    group: int
    group_name: str
    talker: str
    ssrc: int
    indicator: int
    ended: str
    keys: list[GroupKey]
    packets: bytes


class _Packet(NamedTuple):
    arrival_ns: int
    packet_index: int
    key: GroupKey
    data: bytes


class _Voice(NamedTuple):
    """A decrypted packet. `offset` is in samples since the first packet."""

    arrival_ns: int
    payload_type: int
    offset: int
    payload: bytes


def write(folder: Path, burst: RecordedBurst) -> dict[str, Any] | None:
    """Write a burst and return its row; None if it holds no voice.

    Raises:
        OSError: Storage failed.
    """
    packets = list(_packets(burst))
    decrypted = _decrypt(packets)
    if not decrypted:
        return None
    payload_type = decrypted[0].payload_type
    voice = [packet for packet in decrypted if packet.payload_type == payload_type]
    start = rfc3339(voice[0].arrival_ns // 1_000_000)
    assert start is not None
    day = folder / start[:10]
    day.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"{start.replace('-', '').replace(':', '')}-{burst.group}-{burst.ssrc:08x}"
    sound = day / (name + SUFFIXES[payload_type])
    samples = _write_wav(sound, voice) if payload_type == PCMA else _write_ogg(sound, voice)
    indices = [packet.packet_index for packet in packets]
    row = {
        "id": name,
        "group": burst.group,
        "group_name": burst.group_name,
        "talker": burst.talker,
        "ssrc": burst.ssrc,
        "start": start,
        "duration_ms": samples * 1000 // RATES[payload_type],
        "packets": len(indices),
        "lost": max(indices) - min(indices) + 1 - len(indices),
        "jitter_ms": _jitter_ms(voice, RATES[payload_type]),
        "codec": _CODECS[payload_type],
        "emergency": bool(burst.indicator & mcptt.EMERGENCY),
        "broadcast": bool(burst.indicator & mcptt.BROADCAST),
        "ended": burst.ended,
        "sha256": hashlib.sha256(sound.read_bytes()).hexdigest(),
    }
    temporary = sound.with_suffix(".new")  # readers see a complete row or none
    temporary.write_text(json.dumps(row) + "\n", encoding="utf-8")
    temporary.replace(sound.with_suffix(".json"))
    return row


def _packets(burst: RecordedBurst) -> Iterator[_Packet]:
    at = 0
    while at < len(burst.packets):
        arrival_ns, index, key_number, n = PACKET_HEADER.unpack_from(burst.packets, at)
        at += PACKET_HEADER.size + n
        yield _Packet(arrival_ns, index, burst.keys[key_number], burst.packets[at - n : at])


def _decrypt(packets: list[_Packet]) -> list[_Voice]:
    """Return the packets with a known payload type, decrypted, in order of their index."""
    contexts: dict[GroupKey, srtp.SrtpTransform] = {}
    voice: list[_Voice] = []
    first_timestamp: int | None = None
    for arrival_ns, index, key, data in sorted(packets, key=lambda packet: packet.packet_index):
        context = contexts.get(key) or contexts.setdefault(key, key.srtp_context())
        buf = bytearray(data)
        n = context.decrypt(buf, len(buf), index)
        payload_type = buf[1] & 0x7F
        payload = bytes(buf[srtp.payload_offset(buf, n) : n])
        timestamp = int.from_bytes(buf[4:8], "big")
        first_timestamp = timestamp if first_timestamp is None else first_timestamp
        offset = (timestamp - first_timestamp) & 0xFFFFFFFF
        if payload_type in RATES and payload and offset < _MAX_BURST_S * RATES[payload_type]:
            voice.append(_Voice(arrival_ns, payload_type, offset, payload))
    return voice


def _jitter_ms(voice: list[_Voice], rate: int) -> float:
    """Return the interarrival jitter (RFC 3550 6.4.1)."""
    jitter = 0.0
    for previous, packet in zip(voice, voice[1:], strict=False):
        transit_ms = (packet.arrival_ns - previous.arrival_ns) / 1e6 - (packet.offset - previous.offset) * 1000 / rate
        jitter += (abs(transit_ms) - jitter) / 16
    return round(jitter, 2)


def _write_wav(path: Path, voice: list[_Voice]) -> int:
    """Write A-law (WAVE format 6) with silence where packets were lost. Returns the number of samples."""
    samples = bytearray([_ALAW_SILENCE]) * max(packet.offset + len(packet.payload) for packet in voice)
    for packet in voice:
        samples[packet.offset : packet.offset + len(packet.payload)] = packet.payload
    n = len(samples)
    header = b"WAVEfmt " + struct.pack("<IHHIIHHH", 18, 6, 1, 8000, 8000, 1, 8, 0)
    header += b"fact" + struct.pack("<II", 4, n) + b"data" + struct.pack("<I", n)
    padding = n & 1
    path.write_bytes(b"RIFF" + struct.pack("<I", len(header) + n + padding) + header + samples + bytes(padding))
    return n


def _write_ogg(path: Path, voice: list[_Voice]) -> int:
    """Write Opus packets without transcoding (RFC 7845). Returns the number of samples at 48 kHz."""
    # PyAV is heavy and only needed for Opus.
    from fractions import Fraction

    import av

    samples = 0
    with av.open(str(path), "w", format="ogg") as out:
        stream = out.add_stream("libopus", rate=RATES[OPUS])
        stream.layout = "mono"
        for voice_packet in voice:
            packet = av.Packet(voice_packet.payload)
            packet.stream = stream
            packet.time_base = Fraction(1, RATES[OPUS])
            packet.pts = packet.dts = voice_packet.offset
            packet.duration = opus_samples(voice_packet.payload)
            out.mux(packet)
            samples = max(samples, voice_packet.offset + packet.duration)
    return samples


def opus_samples(packet: bytes) -> int:
    """Return the duration of an Opus packet in samples at 48 kHz (RFC 6716 3.1)."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    frames = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
    return frame * frames


def main(folder: Path) -> None:
    """Write bursts until standard input ends."""
    os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches this process; the hub closes its input
    source = sys.stdin.buffer
    while len(header := source.read(4)) == 4:
        burst = RecordedBurst(*pickle.loads(source.read(int.from_bytes(header, "big"))))  # noqa: S301 - sent by the hub
        try:
            row = write(folder, burst)
        except OSError as e:
            row = {"error": f"{e.filename}: {e.strerror}"}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
