"""Parts of the hub by themselves: site file, counters over power cuts, roster and keys, recorder, metrics, trace."""

import asyncio
import json
import shutil
import stat
import subprocess
import time
import types
from collections import Counter

import av
import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from patrolink.cli import main
from patrolink.core.errors import UserError
from patrolink.hub import app
from patrolink.hub.config import EXAMPLE, HubContext, load, token_hash
from patrolink.hub.infra import persistence
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.metrics import Histogram, Metrics
from patrolink.hub.voice.floor import FloorEvent, FloorEventKind
from patrolink.hub.voice.floor_trace import Trace
from patrolink.hub.voice.groups import GroupRegistry
from patrolink.hub.voice.recorder import Recorder
from patrolink.hub.voice.recording_writer import OPUS, PCMA, opus_samples
from patrolink_protocol import mcptt

from tests.support import hub_process

NAMES = ("vest-1", "vest-2", "police-1")


@pytest.fixture
def folder(tmp_path):
    keys = hub_process.keys_of(NAMES)
    (tmp_path / "keys.toml").write_text("[devices]\n" + "".join(f'"{n}" = "{k.hex()}"\n' for n, k in keys.items()))
    (tmp_path / "keys.toml").chmod(0o600)
    shutil.copy(EXAMPLE, tmp_path / "site.toml")
    return tmp_path


# --- site file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("floor_port", "flor_port", "hub.0.flor_port: unknown key; did you mean 'floor_port'?"),
        ("keys = ", "#", "keys: is missing"),
        ("talk_s = 30", 'talk_s = "long"', "group.0.talk_s: input should be a valid integer, but it is 'long'"),
        ('name = "Harbour circle"', 'name = ""', "group.0.name: has 0 bytes in UTF-8; write 1 to 40"),
        ("media_port = 5006", "media_port = 5004", "hub.0: of floor_port, media_port and live_port two"),
        ('"vest-2"', '"vest-1"', "a device of group 1: vest-1 is there 2 times; leave one"),
        ("id = 1", "id = 1\nshard = 3", "group 1 is on shard 3, which no [[hub]] has"),
        ("id = 1", "id = 2000000000", "group.0.id: input should be less than or equal to"),
        ('"broadcast"', '"shout"', "group.0.member.1.rights.2: input should be 'talk', 'emergency' or 'broadcast'"),
        ("[[hub]]", "[[hub]", "not TOML"),
    ],
)
def test_what_is_wrong_in_a_site_file_is_told(folder, capsys, old, new, told):
    path = folder / "site.toml"
    path.write_text(path.read_text().replace(old, new, 1))
    assert main(["hub", str(path), "--check"]) == 2
    assert told in capsys.readouterr().err


def test_a_device_without_a_key_and_a_missing_file_are_told(folder, capsys):
    path = folder / "site.toml"
    path.write_text(path.read_text().replace('"vest-2"', '"vest-9"'))
    with pytest.raises(UserError, match=r"device 'vest-9' has no key in keys.toml; add its key"):
        HubContext(path)
    assert main(["hub", str(folder / "none.toml")]) == 2
    assert "`patrolink hub --example` prints a site file" in capsys.readouterr().err


def test_several_hubs_want_a_shard(folder):
    path = folder / "site.toml"
    second = '\n[[hub]]\nshard = 4\nhost = "h"\nfloor_port = 6004\nmedia_port = 6006\n'
    path.write_text(path.read_text() + second)
    with pytest.raises(UserError, match="shards 0, 4; name one of them with --shard"):
        HubContext(path)
    assert HubContext(path, 4).hub.floor_port == 6004 and not HubContext(path, 4).is_home


def test_a_new_token_is_told_once_and_fits_the_site_file(folder, capsys):
    assert main(["hub", "--new-token", "duty"]) == 0
    out, err = capsys.readouterr()
    table = err[err.index("[[dispatcher]]") :]
    path = folder / "site.toml"
    path.write_text(path.read_text() + table)
    [dispatcher] = load(path).dispatcher
    assert dispatcher.token_sha256 == token_hash(out.strip()) and out.strip() not in err


# --- counters and roster --------------------------------------------------------------------------------------------


def test_a_counter_never_repeats_over_kills(tmp_path):
    seen = []
    for _ in range(5):
        counter = persistence.PersistentCounter(tmp_path / "n.json", 10)
        seen += [counter.take() for _ in range(13)]  # then it is killed
    assert len(set(seen)) == len(seen) == 65 and seen == sorted(seen)
    assert stat.S_IMODE((tmp_path / "n.json").stat().st_mode) == 0o600
    (tmp_path / "n.json").write_text("-1")
    with pytest.raises(UserError, match="is no number"):
        persistence.PersistentCounter(tmp_path / "n.json", 10)
    (tmp_path / "n.json").write_text("[")
    with pytest.raises(UserError, match="put it back from a backup"):
        persistence.PersistentCounter(tmp_path / "n.json", 10)


def roster_of(folder):
    sent = []
    it = GroupRegistry(
        HubContext(folder / "site.toml"),
        lambda device, data: sent.append((device.name, data)),
        lambda *_: None,
        hub_process.Client.now,
    )
    return it, sent


def test_seats_ssrcs_and_keys_outlive_a_restart(folder):
    first, _ = roster_of(folder)
    burst = first._new_burst()
    again, _ = roster_of(folder)
    terms = [it.terms(it.devices["vest-1"]) for it in (first, again)]
    secrets = [[t.pop("wrapped") for t in one] for one in terms]
    assert terms[0] == terms[1] and [t["kind"] for t in terms[0]] == [0, 1]
    kek = first.devices["vest-1"].key.derive(b"patrolink-ptt-wrap")[:16]
    assert [aes_key_unwrap(kek, w) for w in secrets[0]] == [aes_key_unwrap(kek, w) for w in secrets[1]]
    assert stat.S_IMODE((folder / "state" / "shard-0" / "groups.json").stat().st_mode) == 0o600
    assert burst < again._new_burst() < 1 << 31


def test_a_dynamic_group_comes_and_goes(folder):
    it, _ = roster_of(folder)
    told = []
    it.on_terms = lambda device, group: told.append((device.name, it.term(device, group)["rights"]))
    number = it.make_group("search", ["vest-1", "vest-2", "vest-1"])
    assert told == [("vest-1", 7), ("vest-2", 7)] and it.groups[number].kind == "dynamic"
    again, _ = roster_of(folder)
    assert list(again.groups[number].seats) == ["vest-1", "vest-2"]
    told.clear()
    it.end_group(number)
    assert told == [("vest-1", 0), ("vest-2", 0)]
    later, _ = roster_of(folder)
    assert number not in later.groups and later.gone["vest-1"] == [number]
    assert later.make_group("search", ["vest-1"]) != number
    for wrong in (
        lambda: it.end_group(1),
        lambda: it.make_group("x", ["nobody"]),
        lambda: it.make_group("", ["vest-1"]),
    ):
        with pytest.raises(UserError):
            wrong()


def test_before_burst_numbers_begin_anew_all_keys_are_new(folder):
    (folder / "state" / "shard-0").mkdir(parents=True)
    (folder / "state" / "shard-0" / "burst.json").write_text(str((1 << 27) - 3))
    it, _ = roster_of(folder)
    keys = [group.key.number for group in it.groups.values()]
    told = []
    it.on_terms = lambda device, group: told.append(group)
    numbers = [it._new_burst() for _ in range(5)]
    assert numbers[-2:] == [1, 2] and len(set(numbers)) == 5
    assert [group.key.number for group in it.groups.values()] == [n + 1 for n in keys]
    assert len(told) == len(it.seats)


def test_terms_are_told_again_to_who_does_not_show_itself(folder, monkeypatch):
    path = folder / "site.toml"
    ports = hub_process.free_ports(2)
    path.write_text(path.read_text().replace("5004", str(ports[0])).replace("5006", str(ports[1])))
    clock, told = [10_000], []
    monkeypatch.setattr(app, "monotonic_ms", lambda: clock[0])
    hub = app.Hub(HubContext(path))
    hub._broker = types.SimpleNamespace(send=lambda device, kind, values: told.append((clock[0], values["group"])))
    device = hub.roster.devices["vest-1"]
    try:
        for _ in range(2 * 3600):  # it sends a frame each second, and none on the floor socket
            hub._consider(device, False)
            clock[0] += 1000
        times = sorted({(ms - 10_000) // 60_000 for ms, _ in told})
        assert times == [0, 1, 3, 7, 15, 31, 63] and len(told) == 2 * len(times), "two groups each time"
        told.clear()
        hub.relay.found(device)
        assert len(told) == 2, "it may not have heard the last time"
        device.heard_ms = clock[0]
        clock[0] += 10**8
        hub._consider(device, False)
        assert len(told) == 2, "it shows itself: it knows"
        hub._consider(device, True)
        assert len(told) == 4
    finally:
        hub.relay.close()


def test_the_audit_log_is_only_added_to_and_what_it_cannot_hold_is_not_done(tmp_path):
    path, metrics = tmp_path / "audit.jsonl", Metrics()
    audit = AuditLog(path, metrics)
    audit.write("duty", "listen_in", device="vest-1", reason="no answer\nfor an hour")
    audit.write("duty", "press", group=1)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["what"] for row in rows] == ["listen_in", "press"] and rows[0]["reason"].endswith("hour")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(UserError, match="not done: the audit log cannot be written"):
        AuditLog(tmp_path, metrics).write("duty", "press")
    assert metrics.counts["storage_failed"] == 1


def test_no_device_fills_the_audit_log(tmp_path):
    path, metrics = tmp_path / "audit.jsonl", Metrics()
    log = AuditLog(path, metrics)
    for _ in range(3000):
        log.note("vest-1", "upload refused")
    log.note("vest-2", "answer")
    log.write("duty", "press", group=1)
    who = Counter(json.loads(line)["who"] for line in path.read_text().splitlines())
    # On the hour it begins anew.
    assert who["vest-1"] in (1001, 2002) and who["vest-2"] == who["duty"] == 1
    assert metrics.counts["audit_left_out"] in (998, 1000, 2000)
    AuditLog(tmp_path, metrics).note("vest-1", "answer")  # it cannot be written: counted
    assert metrics.counts["storage_failed"] == 1


# --- recorder -------------------------------------------------------------------------------------------------------


def rtp(key: GroupKey, kind: int, sequence: int, stamp: int, payload: bytes) -> bytes:
    head = bytes((0x80, kind)) + sequence.to_bytes(2, "big") + stamp.to_bytes(4, "big") + (77).to_bytes(4, "big")
    buf = bytearray(head + payload + bytes(10))
    key.rtp().protect(buf, 12 + len(payload), 0)
    return bytes(buf)


def record(folder, packets, key, tmp_path):
    """Have packets (payload type, sequence, stamp, payload, ns) recorded as a burst."""
    roster, _ = roster_of(folder)
    group = roster.groups[1]
    metrics = Metrics()

    async def job():
        recorder = Recorder(tmp_path / "rec", 30, metrics)
        member = group.seats["vest-1"].member
        recorder.begin(group, FloorEvent(FloorEventKind.BEGIN, 0, member, 77, indicator=mcptt.EMERGENCY))
        for kind, sequence, stamp, payload, ns in packets:
            recorder.take(77, sequence, key, rtp(key, kind, sequence, stamp, payload), ns)
        recorder.end(FloorEvent(FloorEventKind.END, 0, member, 77, "silent"))
        await recorder.close()
        return recorder

    recorder = asyncio.run(job())
    return recorder, recorder.newest()


def test_loss_disorder_and_jitter_of_a_recorded_burst(folder, tmp_path):
    key = GroupKey(0, b"").following()
    start = 1_795_000_000_000_000_000
    packets = [
        (PCMA, i, 4_294_967_000 + 160 * i & 0xFFFFFFFF, bytes([i]) * 160, start + i * 20_000_000) for i in range(10)
    ]
    del packets[4]
    packets[2], packets[3] = packets[3], packets[2]
    recorder, [row] = record(folder, packets, key, tmp_path)
    assert (row["packets"], row["lost"], row["duration_ms"], row["emergency"]) == (9, 1, 200, True)
    assert row["jitter_ms"] == 0 and row["ended"] == "silent" and row["codec"] == "pcma"
    sound = recorder.path(row["id"]).read_bytes()
    assert sound[-1600:] == b"".join((bytes([0xD5]) if i == 4 else bytes([i])) * 160 for i in range(10))
    for wrong in ("", "../site", row["id"] + "x", "20200101T000000.000Z-1-00000000"):
        with pytest.raises(UserError):
            recorder.path(wrong)


def test_opus_is_kept_as_it_came(folder, tmp_path):
    key = GroupKey(0, b"").following()
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
    recorder, [row] = record(folder, packets, key, tmp_path)
    assert row["codec"] == "opus" and row["duration_ms"] == 20 * len(payloads) and row["lost"] == 0
    with av.open(str(recorder.path(row["id"]))) as sound:
        assert [bytes(p) for p in sound.demux(audio=0) if p.size] == payloads


def test_days_older_than_the_retention_go(tmp_path):
    async def job():
        for day in ("2020-01-01", time.strftime("%Y-%m-%d", time.gmtime())):
            (tmp_path / day).mkdir()
            (tmp_path / day / "x.json").write_text(json.dumps({"id": "x", "start": day + "T00:00:00.000Z"}))
        recorder = Recorder(tmp_path, 30, Metrics())
        assert len(recorder.newest()) == 2
        await recorder.purge()
        await recorder.close()
        return [path.name for path in tmp_path.iterdir()], [row["start"][:4] for row in recorder.newest()]

    days, rows = asyncio.run(job())
    assert "2020-01-01" not in days and len(days) == 1 and "2020" not in rows


# --- metrics and trace ----------------------------------------------------------------------------------------------


def test_quantiles_are_at_most_an_eighth_too_high():
    it = Histogram()
    values = [7 + i * i // 50 for i in range(2000)]
    for value in values:
        it.add(value)
    for part in (0.5, 0.95, 0.99):
        true = values[int(part * len(values)) - 1]
        assert true <= it.quantile(part) <= true * 1.13 + 2
    metrics = Metrics()
    metrics.refused["tag"] += 2
    metrics.relay.add(300)
    assert 'patrolink_hub_refused_total{reason="tag"} 2' in metrics.prometheus()
    assert 'patrolink_hub_relay_seconds_bucket{le="0.0005"} 1' in metrics.prometheus()


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (apt-get install tshark)")
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_wireshark_reads_the_trace(tmp_path, host):
    trace = Trace(tmp_path / "x.pcap")
    writer = mcptt.Writer(bytearray(128))
    writer.begin(mcptt.IDLE, 1)
    writer.word(mcptt.SEQUENCE, 7)
    n = writer.end()
    trace.write((host, 5004), (host, 40_000), bytes(writer.buf[:n]))
    trace.close()
    command = ["tshark", "-r", str(tmp_path / "x.pcap"), "-d", "udp.port==5004,rtcp", "-o", "udp.check_checksum:TRUE"]
    good = (
        'rtcp.app.name == "MCPT" && rtcp.length_check == 1 && !_ws.expert && !_ws.malformed && udp.checksum.status == 1'
    )
    done = subprocess.run([*command, "-Y", good], capture_output=True, text=True, timeout=60)
    assert len(done.stdout.splitlines()) == 1, done.stdout + done.stderr
