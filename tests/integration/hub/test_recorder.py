"""The recorder: loss, order, codecs and retention of recordings."""

import asyncio
import json
import secrets
import time

import av
import pytest
from patrolink.core.clock import SystemClock
from patrolink.core.errors import UserError
from patrolink.hub.config import HubContext
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.retention_ledger import DAY_MS, RetentionLedger
from patrolink.hub.recordings import Recordings
from patrolink.hub.voice.bursts import RelayedBurst
from patrolink.hub.voice.floor_types import FloorEvent, FloorEventKind
from patrolink.hub.voice.group_registry import GroupRegistry
from patrolink.hub.voice.recorder import Recorder
from patrolink.hub.voice.recording_writer import OPUS, PCMA, opus_samples
from patrolink.hub.voice.writer_process import WriterProcess
from patrolink_protocol import mcptt

from tests.support import hub_parts

site_folder = hub_parts.site_folder


def rtp_packet(key: GroupKey, payload_type: int, sequence: int, timestamp: int, payload: bytes) -> bytes:
    header = (
        bytes((0x80, payload_type))
        + sequence.to_bytes(2, "big")
        + timestamp.to_bytes(4, "big")
        + (77).to_bytes(4, "big")
    )
    buf = bytearray(header + payload + bytes(10))
    key.srtp_context().protect(buf, 12 + len(payload), 0)
    return bytes(buf)


def record(folder, packets, key, recordings):
    """Record packets as one burst.

    Args:
        folder: Folder of the site file.
        packets: (payload type, sequence number, timestamp, payload, arrival in ns) of each packet.
        key: Key of the group.
        recordings: Folder of the recordings.

    Returns:
        The stored recordings and their rows.
    """
    group = GroupRegistry(
        HubContext(folder / "site.toml"), SystemClock(), secrets.token_bytes, (), lambda device, number: None
    ).groups[1]
    rows = []

    async def job():
        recorder = Recorder(WriterProcess(recordings), rows.append, Metrics())
        member = group.memberships["vest-1"].member
        recorder.begin(group, FloorEvent(FloorEventKind.BEGIN, 0, member, 77, indicator=mcptt.EMERGENCY))
        burst = RelayedBurst(group, member, None, 77)
        for payload_type, sequence, timestamp, payload, ns in packets:
            packet = rtp_packet(key, payload_type, sequence, timestamp, payload)
            recorder.voice_packet(burst, sequence, key, packet, ns)
        recorder.end(FloorEvent(FloorEventKind.END, 0, member, 77, "silent"))
        await recorder.close()

    asyncio.run(job())
    stored = stored_recordings(recordings)
    assert rows == stored.newest()
    return stored, rows


def stored_recordings(folder):
    """Return the recordings in a folder."""
    return Recordings(folder, RetentionLedger(folder.with_name("ledger.json"), 30), SystemClock(), Metrics())


def test_lost_packets_are_replaced_and_reordered_packets_are_sorted(site_folder, tmp_path):
    key = GroupKey(0, b"").successor(secrets.token_bytes)
    start = 1_795_000_000_000_000_000
    packets = [
        (PCMA, i, 4_294_967_000 + 160 * i & 0xFFFFFFFF, bytes([i]) * 160, start + i * 20_000_000) for i in range(10)
    ]
    del packets[4]
    packets[2], packets[3] = packets[3], packets[2]
    stored, [row] = record(site_folder, packets, key, tmp_path / "rec")
    assert (row["packets"], row["lost"], row["duration_ms"], row["emergency"]) == (9, 1, 200, True)
    assert row["jitter_ms"] == 0 and row["ended"] == "silent" and row["codec"] == "pcma"
    sound = stored.path(row["id"]).read_bytes()
    assert sound[-1600:] == b"".join((bytes([0xD5]) if i == 4 else bytes([i])) * 160 for i in range(10))
    for invalid in ("", "../site", row["id"] + "x", "20200101T000000.000Z-1-00000000"):
        with pytest.raises(UserError):
            stored.path(invalid)


def test_opus_is_recorded_without_transcoding(site_folder, tmp_path):
    key = GroupKey(0, b"").successor(secrets.token_bytes)
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format, encoder.layout = 48_000, "s16", "mono"
    payloads = []
    for i in range(50):
        frame = av.AudioFrame(format="s16", layout="mono", samples=960)
        frame.sample_rate, frame.pts = 48_000, 960 * i
        frame.planes[0].update(bytes(1920))
        payloads += [bytes(p) for p in encoder.encode(frame)]
    assert {opus_samples(p) for p in payloads} == {960}
    packets = [(OPUS, i, 960 * i, p, 1_795_000_000_000_000_000 + i * 20_000_000) for i, p in enumerate(payloads)]
    stored, [row] = record(site_folder, packets, key, tmp_path / "rec")
    assert row["codec"] == "opus" and row["duration_ms"] == 20 * len(payloads) and row["lost"] == 0
    with av.open(str(stored.path(row["id"]))) as sound:
        assert [bytes(p) for p in sound.demux(audio=0) if p.size] == payloads


def test_recordings_older_than_the_retention_are_deleted(tmp_path):
    recordings, today = tmp_path / "recordings", time.strftime("%Y-%m-%d", time.gmtime())

    async def job():
        stored = stored_recordings(recordings)
        assert len(stored.newest()) == 2
        await stored.purge(0)
        assert len(stored.newest()) == 2  # first seen
        (recordings / "2020-01-01" / "late.wav").touch()
        await stored.purge(29 * DAY_MS)
        await stored.purge(58 * DAY_MS)  # 29 days after the last change
        assert len(stored.newest()) == 2
        await stored.purge(60 * DAY_MS)
        return [row["start"][:10] for row in stored.newest()]

    for day in ("2020-01-01", today):
        (recordings / day).mkdir(parents=True)
        (recordings / day / "x.json").write_text(json.dumps({"id": "x", "start": day + "T00:00:00.000Z"}))
    (recordings / "2020-13-01").mkdir()
    assert asyncio.run(job()) == [today]
    assert sorted(path.name for path in recordings.iterdir()) == ["2020-13-01", today]
