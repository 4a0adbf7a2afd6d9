"""The recorder's other half, a process of its own: `python -m patrolink.hub.voice.recording_writer FOLDER`.

In a thread it would take the interpreter's lock from the relay at every packet that is sent. It reads bursts on
standard input (length as 4 bytes, then a pickle of a Burst), writes each, and answers with a line of JSON: what was
recorded, `null` when no voice was in it, or `{"error": ...}`. It ends with its input.
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

PCMA, OPUS = 8, 111
RATES = {PCMA: 8000, OPUS: 48_000}
SUFFIXES = {PCMA: ".wav", OPUS: ".ogg"}
_CODECS = {PCMA: "pcma", OPUS: "opus"}
_SILENCE = 0xD5  # of A-law
_LONGEST_S = 3700  # of a burst: the longest talk time that a site may set
_NICE = 10  # the relay is first

HEAD = struct.Struct(">QIHH")  # before each packet: arrival in ns of unix time, index, which key, bytes


class Burst(NamedTuple):
    """A burst that is over. `packets` are as they came, each behind its HEAD."""

    group: int
    group_name: str
    talker: str
    ssrc: int
    indicator: int
    ended: str
    keys: list[GroupKey]
    packets: bytes


def write(folder: Path, burst: Burst) -> dict[str, Any] | None:
    """Write a burst and return what its JSON says; None when no voice was in it."""
    packets = list(_packets(burst))
    opened = _opened(packets)
    if not opened:
        return None
    kind = opened[0][1]
    voice = [packet for packet in opened if packet[1] == kind]
    start_ms = voice[0][0] // 1_000_000
    start = rfc3339(start_ms)
    assert start is not None
    day = folder / start[:10]
    day.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"{start.replace('-', '').replace(':', '')}-{burst.group}-{burst.ssrc:08x}"
    sound = day / (name + SUFFIXES[kind])
    samples = _wav(sound, voice) if kind == PCMA else _ogg(sound, voice)
    indices = [index for _, index, _, _ in packets]
    row = {
        "id": name,
        "group": burst.group,
        "group_name": burst.group_name,
        "talker": burst.talker,
        "ssrc": burst.ssrc,
        "start": start,
        "duration_ms": samples * 1000 // RATES[kind],
        "packets": len(indices),
        "lost": max(indices) - min(indices) + 1 - len(indices),
        "jitter_ms": _jitter_ms(voice, RATES[kind]),
        "codec": _CODECS[kind],
        "emergency": bool(burst.indicator & mcptt.EMERGENCY),
        "broadcast": bool(burst.indicator & mcptt.BROADCAST),
        "ended": burst.ended,
        "sha256": hashlib.sha256(sound.read_bytes()).hexdigest(),
    }
    sound.with_suffix(".json").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return row


Opened = tuple[int, int, int, bytes]  # arrival in ns, payload type, samples since the first packet, payload


Packet = tuple[int, int, GroupKey, bytes]  # arrival in ns, index, key, as it came


def _packets(burst: Burst) -> Iterator[Packet]:
    at = 0
    while at < len(burst.packets):
        ns, index, place, n = HEAD.unpack_from(burst.packets, at)
        at += HEAD.size + n
        yield ns, index, burst.keys[place], burst.packets[at - n : at]


def _opened(packets: list[Packet]) -> list[Opened]:
    """Return the packets that hold voice of a kind that we know, in order."""
    contexts: dict[GroupKey, srtp.SrtpTransform] = {}
    found: list[Opened] = []
    first: int | None = None
    for ns, index, key, packet in sorted(packets, key=lambda p: p[1]):
        context = contexts.get(key) or contexts.setdefault(key, key.rtp())
        buf = bytearray(packet)
        n = context.decrypt(buf, len(buf), index)
        kind = buf[1] & 0x7F
        payload = bytes(buf[srtp.payload_offset(buf, n) : n])
        stamp = int.from_bytes(buf[4:8], "big")
        first = stamp if first is None else first
        offset = (stamp - first) & 0xFFFFFFFF
        if kind in RATES and payload and offset < _LONGEST_S * RATES[kind]:
            found.append((ns, kind, offset, payload))
    return found


def _jitter_ms(voice: list[Opened], rate: int) -> float:
    """Return the interarrival jitter (RFC 3550 6.4.1)."""
    jitter = 0.0
    for before, after in zip(voice, voice[1:], strict=False):
        passed = (after[0] - before[0]) / 1e6 - (after[2] - before[2]) * 1000 / rate
        jitter += (abs(passed) - jitter) / 16
    return round(jitter, 2)


def _wav(path: Path, voice: list[Opened]) -> int:
    """Write A-law (WAVE format 6) with silence where packets were lost; return how many samples."""
    samples = bytearray([_SILENCE]) * max(offset + len(payload) for _, _, offset, payload in voice)
    for _, _, offset, payload in voice:
        samples[offset : offset + len(payload)] = payload
    n = len(samples)
    head = b"WAVEfmt " + struct.pack("<IHHIIHHH", 18, 6, 1, 8000, 8000, 1, 8, 0)
    head += b"fact" + struct.pack("<II", 4, n) + b"data" + struct.pack("<I", n)
    pad = n & 1
    path.write_bytes(b"RIFF" + struct.pack("<I", len(head) + n + pad) + head + samples + bytes(pad))
    return n


def _ogg(path: Path, voice: list[Opened]) -> int:
    """Write Opus packets as they came (RFC 7845); return how many samples."""
    from fractions import Fraction

    import av

    samples = 0
    with av.open(str(path), "w", format="ogg") as out:
        stream = out.add_stream("libopus", rate=RATES[OPUS])
        stream.layout = "mono"
        for _, _, offset, payload in voice:
            packet = av.Packet(payload)
            packet.stream = stream
            packet.time_base = Fraction(1, RATES[OPUS])
            packet.pts = packet.dts = offset
            packet.duration = opus_samples(payload)
            out.mux(packet)
            samples = max(samples, offset + packet.duration)
    return samples


def opus_samples(packet: bytes) -> int:
    """Return the length of an Opus packet in samples at 48 kHz (RFC 6716 3.1)."""
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
    """Write bursts until there are no more."""
    os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the hub, which ends us
    source = sys.stdin.buffer
    while len(head := source.read(4)) == 4:
        burst = Burst(*pickle.loads(source.read(int.from_bytes(head, "big"))))  # noqa: S301 - from the hub itself
        try:
            row = write(folder, burst)
        except OSError as e:
            row = {"error": f"{e.filename}: {e.strerror}"}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
