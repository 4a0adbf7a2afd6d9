"""Parts of a hub without its process: site file, persistent counters, audit log, metrics, floor trace."""

import asyncio
import json
import shutil
import stat
import subprocess
import threading
from collections import Counter

import pytest
from patrolink.cli import main
from patrolink.core.clock import SystemClock
from patrolink.core.errors import UserError
from patrolink.hub.config import HubContext, load, token_hash
from patrolink.hub.infra import persistence
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.metrics import Histogram, Metrics
from patrolink.hub.infra.threads import run_to_end
from patrolink.hub.voice.floor_trace import FloorTrace
from patrolink_protocol import mcptt

from tests.support import hub_parts
from tests.support.hub_parts import FakeClock
from tests.support.polling import TIMEOUT_S

site_folder = hub_parts.site_folder


# --- site file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("floor_port", "flor_port", "hub.0.flor_port: unknown key; did you mean 'floor_port'?"),
        ("keys = ", "#", "keys: is missing"),
        ("talk_s = 30", 'talk_s = "long"', "group.0.talk_s: input should be a valid integer, but it is 'long'"),
        ('name = "Harbour circle"', 'name = ""', "group.0.name: has 0 bytes in UTF-8; write 1 to 40"),
        ("media_port = 5006", "media_port = 5004", "hub.0: floor_port, media_port and live_port must differ"),
        ('"vest-2"', '"vest-1"', "a device of group 1: vest-1 occurs 2 times; remove the duplicates"),
        ("id = 1", "id = 1\nshard = 3", "group 1 is on shard 3, which no [[hub]] has"),
        ("id = 1", "id = 2000000000", "group.0.id: input should be less than or equal to"),
        ('"broadcast"', '"shout"', "group.0.member.1.rights.2: input should be 'talk', 'emergency' or 'broadcast'"),
        ("[[hub]]", "[[hub]", "not TOML"),
    ],
)
def test_invalid_site_file_is_reported_with_the_key_and_the_cause(site_folder, capsys, old, new, error):
    path = site_folder / "site.toml"
    path.write_text(path.read_text().replace(old, new, 1))
    assert main(["hub", str(path), "--check"]) == 2
    assert error in capsys.readouterr().err


def test_device_without_a_key_and_missing_site_file_are_reported(site_folder, capsys):
    path = site_folder / "site.toml"
    path.write_text(path.read_text().replace('"vest-2"', '"vest-9"'))
    with pytest.raises(UserError, match=r"device 'vest-9' has no key in keys.toml; add its key"):
        HubContext(path)
    assert main(["hub", str(site_folder / "none.toml")]) == 2
    assert "`patrolink hub --example` prints a site file" in capsys.readouterr().err


def test_shard_is_required_for_a_site_with_several_hubs(site_folder):
    path = site_folder / "site.toml"
    second = '\n[[hub]]\nshard = 4\nhost = "h"\nfloor_port = 6004\nmedia_port = 6006\n'
    path.write_text(path.read_text() + second)
    with pytest.raises(UserError, match="several hubs; select one of the shards 0, 4 with --shard"):
        HubContext(path)
    assert HubContext(path, 4).hub.floor_port == 6004 and not HubContext(path, 4).is_home


def test_new_token_is_printed_once_with_its_site_file_table(site_folder, capsys):
    assert main(["hub", "--new-token", "duty"]) == 0
    out, err = capsys.readouterr()
    table = err[err.index("[[dispatcher]]") :]
    path = site_folder / "site.toml"
    path.write_text(path.read_text() + table)
    [dispatcher] = load(path).dispatcher
    assert dispatcher.token_sha256 == token_hash(out.strip()) and out.strip() not in err


# --- persistent counters ---------------------------------------------------------------------------------------------


def test_counter_never_repeats_across_kills(tmp_path):
    numbers = []
    for _ in range(5):
        counter = persistence.PersistentCounter(tmp_path / "n.json", 10)
        numbers += [counter.allocate() for _ in range(13)]  # the process is killed after each round
    assert len(set(numbers)) == len(numbers) == 65 and numbers == sorted(numbers)
    assert stat.S_IMODE((tmp_path / "n.json").stat().st_mode) == 0o600
    (tmp_path / "n.json").write_text("-1")
    with pytest.raises(UserError, match="not a whole number"):
        persistence.PersistentCounter(tmp_path / "n.json", 10)
    (tmp_path / "n.json").write_text("[")
    with pytest.raises(UserError, match="restore it from a backup"):
        persistence.PersistentCounter(tmp_path / "n.json", 10)


def test_number_is_not_allocated_before_it_is_reserved_on_storage(tmp_path):
    folder = tmp_path / "state"
    counter = persistence.PersistentCounter(folder / "n.json", 10)
    for _ in range(2):
        with pytest.raises(OSError):
            counter.allocate()
    folder.mkdir()
    assert counter.allocate() == 0
    assert persistence.PersistentCounter(folder / "n.json", 10).allocate() == 10


# --- audit log -------------------------------------------------------------------------------------------------------


def test_audit_log_is_append_only_and_an_action_that_cannot_be_recorded_is_refused(tmp_path):
    path, metrics = tmp_path / "audit.jsonl", Metrics()
    audit = AuditLog(path, SystemClock(), metrics)
    audit.write("duty", "listen_in", device="vest-1", reason="no answer\nfor an hour")
    audit.write("duty", "press", group=1)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["what"] for row in rows] == ["listen_in", "press"] and rows[0]["reason"].endswith("hour")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(UserError, match="not done: the audit log cannot be written"):
        AuditLog(tmp_path, SystemClock(), metrics).write("duty", "press")
    assert metrics.counts["storage_failed"] == 1


def test_lines_of_a_device_in_the_audit_log_are_limited_per_hour(tmp_path):
    path, metrics, clock = tmp_path / "audit.jsonl", Metrics(), FakeClock(1_795_000_000_000)
    log = AuditLog(path, clock, metrics)
    for _ in range(3000):
        log.note("vest-1", "upload refused")
    log.note("vest-2", "answer")
    log.write("duty", "press", group=1)
    lines = Counter(json.loads(line)["who"] for line in path.read_text().splitlines())
    assert lines["vest-1"] == 1001 and lines["vest-2"] == lines["duty"] == 1
    assert metrics.counts["audit_left_out"] == 2000
    clock.now_ms += 3_600_000
    log.note("vest-1", "upload refused")
    assert len(path.read_text().splitlines()) == 1004
    AuditLog(tmp_path, clock, metrics).note("vest-1", "answer")  # a failed write is only counted
    assert metrics.counts["storage_failed"] == 1


# --- metrics and trace -----------------------------------------------------------------------------------------------


def test_quantiles_are_at_most_an_eighth_too_high():
    histogram = Histogram()
    values = [7 + i * i // 50 for i in range(2000)]
    for value in values:
        histogram.add(value)
    for part in (0.5, 0.95, 0.99):
        exact = values[int(part * len(values)) - 1]
        assert exact <= histogram.quantile(part) <= exact * 1.13 + 2
    metrics = Metrics()
    metrics.refused["tag"] += 2
    metrics.relay.add(300)
    assert 'patrolink_hub_refused_total{reason="tag"} 2' in metrics.snapshot().prometheus()
    assert 'patrolink_hub_relay_seconds_bucket{le="0.0005"} 1' in metrics.snapshot().prometheus()


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (apt-get install tshark)")
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_wireshark_reads_the_trace(tmp_path, host):
    trace = FloorTrace(tmp_path / "x.pcap", SystemClock())
    writer = mcptt.Writer(bytearray(128))
    writer.begin(mcptt.IDLE, 1)
    writer.word(mcptt.SEQUENCE, 7)
    n = writer.end()
    trace.write((host, 5004), (host, 40_000), bytes(writer.buf[:n]))
    trace.close()
    command = ["tshark", "-r", str(tmp_path / "x.pcap"), "-d", "udp.port==5004,rtcp", "-o", "udp.check_checksum:TRUE"]
    valid_message = (
        'rtcp.app.name == "MCPT" && rtcp.length_check == 1 && !_ws.expert && !_ws.malformed && udp.checksum.status == 1'
    )
    result = subprocess.run([*command, "-Y", valid_message], capture_output=True, text=True, timeout=60)
    assert len(result.stdout.splitlines()) == 1, result.stdout + result.stderr


def test_cancelled_job_waits_for_its_thread():
    """Otherwise a hub that stops while its state is saved writes the same file twice at once."""
    started, release, steps = threading.Event(), threading.Event(), []

    def save() -> None:
        started.set()
        release.wait(TIMEOUT_S)
        steps.append("saved")

    async def stop() -> None:
        task = asyncio.ensure_future(run_to_end(save))
        await asyncio.to_thread(started.wait, TIMEOUT_S)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, release.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        steps.append("stopped")

    asyncio.run(stop())
    assert steps == ["saved", "stopped"]
