"""The ledger: every cut of its last lines, every change of a byte, two operators, a full disk."""

import contextlib
import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import strategies as st
from patrolink.cli import main
from patrolink.core import durable_files
from patrolink.core.errors import UserError
from patrolink.core.signals import StopSignal, raise_on_stop
from patrolink.flash import ledger
from patrolink.flash.ledger import FAILED, Event, Ledger

from tests.support import json_lines
from tests.support.polling import wait_until
from tests.support.properties import untimed

NOW_MS = 1_770_000_000_000
EVENTS = [
    Event("vest-1", "flash", batch="monday", serial="S-1", unique_id="24aa", version="1.2.0", sha256="ab" * 32),
    Event("vest-1", "provision", batch="monday", serial="S-1", epoch=3, consent="2026-01"),
    Event("vest-2", "flash", FAILED, batch="monday", usb_path="1-2.3", reason='cable: "=1+1" 断线'),
    Event("vest-2", "flash", batch="tuesday"),
]


def unix_ms() -> int:
    return NOW_MS


@pytest.fixture
def path(tmp_path):
    """A ledger of the events, appended one by one."""
    with Ledger(tmp_path / "ledger.jsonl", unix_ms) as book:
        for event in EVENTS:
            book.append([event])
    return tmp_path / "ledger.jsonl"


def head(path):
    return path.with_name("ledger.jsonl.head")


def test_events_are_read_back_with_number_and_time(path):
    content = ledger.read(path)
    assert content.events == EVENTS and not content.torn and not content.damage
    assert [(entry.number, entry.time) for entry in content.entries][::3] == [
        (1, "2026-02-02T02:40:00.000Z"), (4, "2026-02-02T02:40:00.000Z"),
    ]  # fmt: skip
    assert path.stat().st_mode & 0o777 == head(path).stat().st_mode & 0o777 == 0o600


def crash_states(path):
    """Yield what a kill during the last append may leave: the first bytes of its line, and the head before it."""
    data, newest = path.read_bytes(), head(path).read_bytes()
    start = data.rindex(b"\n", 0, -1) + 1
    chain = json.loads(data[:start].splitlines()[-1])["chain"]
    before = json.dumps({"events": len(EVENTS) - 1, "chain": chain}).encode()
    for size in range(start, len(data) + 1):
        yield data[:size], before, len(EVENTS) if size >= len(data) - 1 else len(EVENTS) - 1
    yield data, newest, len(EVENTS)


def test_a_kill_at_any_byte_loses_no_finished_event_and_is_continued(path):
    for data, before, events in list(crash_states(path)):
        path.write_bytes(data)
        head(path).write_bytes(before)
        content = ledger.read(path)
        assert content.events == EVENTS[:events] and not content.damage, len(data)
        assert bool(content.torn) == (not data.endswith(b"}") and not data.endswith(b"\n")), len(data)
        with Ledger(path, unix_ms) as book:
            book.append([EVENTS[0]])
        after = ledger.read(path)
        assert after.events == [*EVENTS[:events], EVENTS[0]] and not after.damage, len(data)
        assert after.torn == [] or "not counted" in after.torn[0]


def test_missing_last_lines_are_found_at_every_cut(path):
    data = path.read_bytes()
    for size in range(len(data) - 1):
        path.write_bytes(data[:size])
        damage = ledger.read(path).damage
        assert damage and "missing at the end" in damage[0], size
        with pytest.raises(UserError, match="missing at the end.*restore them from a backup"):
            Ledger(path, unix_ms)


def test_every_altered_byte_is_found(path):
    data = path.read_bytes()
    original = ledger.read(path).entries
    for i in range(len(data)):
        path.write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        content = ledger.read(path)
        assert content.damage or content.entries == original, (i, data[i - 20 : i + 20])


@pytest.mark.parametrize("removed", range(len(EVENTS)))
def test_a_removed_line_is_found(path, removed):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:removed] + lines[removed + 1 :]))
    damage = ledger.read(path).damage
    assert len(damage) == 1 and ("removed" in damage[0] or "missing" in damage[0])


def test_exchanged_and_repeated_lines_are_found(path):
    lines = path.read_bytes().splitlines(keepends=True)
    for order in ([1, 0, 2, 3], [0, 1, 1, 2, 3], [0, 1, 2, 3, 3]):
        path.write_bytes(b"".join(lines[i] for i in order))
        assert ledger.read(path).damage, order


def test_a_missing_or_unreadable_head_is_found(path):
    head(path).write_bytes(b"{")
    assert "cannot be read" in ledger.read(path).damage[0]
    head(path).unlink()
    assert ".head file is missing" in ledger.read(path).damage[0]


@untimed(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_exception(data):
    content = ledger._Reader().read(data)
    assert content.entries == [] or content.damage


def test_lines_of_wrong_types_are_no_events(path):
    for row in ({"n": "1"}, {"device": 1}, {"epoch": "x"}, {"chain": None}, {"time": 3}, {"more": 1}, {"n": True}):
        line = json.dumps({"n": 5, "time": "t", "device": "d", "step": "flash", "chain": "c", **row})
        assert not ledger._Reader()._add(1, line.encode()), row


def test_second_operator_is_refused_until_the_first_has_ended(path):
    with Ledger(path, unix_ms), pytest.raises(UserError, match="another command has this ledger open"):
        Ledger(path, unix_ms)
    Ledger(path, unix_ms).close()


def test_killed_process_releases_the_lock_and_keeps_what_it_appended(tmp_path):
    script = (
        "import itertools, sys; from pathlib import Path; from patrolink.flash.ledger import Event, Ledger\n"
        "book = Ledger(Path(sys.argv[1]), lambda: 0)\n"
        "for i in itertools.count(1): book.append([Event(f'vest-{i}', 'flash')]); print(i, flush=True)\n"
    )
    path = tmp_path / "ledger.jsonl"
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: path.exists() and len(path.read_bytes().splitlines()) > 5)
    process.send_signal(signal.SIGKILL)
    last = int(process.communicate()[0].splitlines()[-1])
    content = ledger.read(path)
    assert not content.damage and last <= len(content.entries) <= last + 1
    with Ledger(path, unix_ms) as book:
        book.append(EVENTS)
    assert ledger.read(path).events[-len(EVENTS) :] == EVENTS


@pytest.mark.parametrize("written", [0, 1, 100])
def test_full_disk_is_an_error_and_counts_no_half_line(path, monkeypatch, written):
    data = path.read_bytes()
    write = os.write

    def fail_after_a_part(handle, part):
        if len(part) > written:
            return write(handle, part[:written]) if written and len(part) > 200 else fail()
        return write(handle, part)

    def fail():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Ledger(path, unix_ms) as book:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fail_after_a_part)
            with pytest.raises(UserError, match="No space left on device; nothing was entered"):
                book.append([EVENTS[0]])
        assert path.read_bytes() == data
        book.append([EVENTS[0]])
    assert ledger.read(path).events == [*EVENTS, EVENTS[0]]


def test_head_that_cannot_be_written_is_corrected_by_the_next_append(path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Ledger(path, unix_ms) as book:
        with monkeypatch.context() as patch:
            patch.setattr(durable_files, "replace", fail)
            book.append([EVENTS[0]])
        assert not ledger.read(path).damage and json.loads(head(path).read_bytes())["events"] == len(EVENTS)
        book.append([EVENTS[1]])
    assert json.loads(head(path).read_bytes())["events"] == len(EVENTS) + 2


def test_stop_signal_within_an_append_takes_effect_after_it(path, monkeypatch):
    fsync = os.fsync

    def interrupt(handle):
        fsync(handle)
        signal.raise_signal(signal.SIGINT)

    with raise_on_stop(), Ledger(path, unix_ms) as book:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", interrupt)
            with pytest.raises(StopSignal):
                book.append([EVENTS[0]])
        book.append([EVENTS[1]])
    content = ledger.read(path)
    assert content.events == [*EVENTS, *EVENTS[:2]] and not content.damage


def test_folder_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(UserError, match="No such file or directory; nothing was entered"):
        Ledger(tmp_path / "none" / "ledger.jsonl", unix_ms)


def test_event_that_is_too_long_is_refused(path):
    with Ledger(path, unix_ms) as book, pytest.raises(UserError, match="longer than"):
        book.append([Event("vest-1", "flash", reason="x" * 20_000)])
    assert ledger.read(path).events == EVENTS


def test_append_writes_its_lines_only(path, monkeypatch):
    with Ledger(path, unix_ms) as book:
        data = path.read_bytes()
        monkeypatch.setattr(ledger, "read", None)
        book.append(EVENTS)
    assert path.read_bytes().startswith(data)


# --- queries ----------------------------------------------------------------------------------------------------------


def test_progress_of_a_batch_has_the_last_event_of_each_step():
    monday = ledger.progress(EVENTS, "monday")
    assert [*monday] == ["vest-1", "vest-2"]
    assert ledger.done_steps(monday["vest-1"]) == ["flash", "provision"] and ledger.done_steps(monday["vest-2"]) == []
    assert ledger.done_steps(ledger.progress(EVENTS)["vest-2"]) == ["flash"]
    assert [*ledger.progress([Event("", "flash", unique_id="24aa")])] == ["24aa"]


FLASHED = [
    Event("", "flash", FAILED, usb_path="1-1", reason="no answer"),
    Event("", "flash", serial="USB-1", unique_id="24aa", usb_path="1-1"),
    Event("", "flash", FAILED, usb_path="1-2", reason="no answer"),
    Event("vest-1", "provision", serial="S-1", unique_id="24aa"),
    Event("", "verify", serial="USB-1", unique_id="24aa"),
    Event("", "flash", unique_id="24bb"),
]


def test_events_without_a_device_id_belong_to_the_device_with_the_unique_id():
    devices = ledger.progress(FLASHED)
    assert {name: ledger.done_steps(steps) for name, steps in devices.items()} == {
        "vest-1": ["flash", "verify", "provision"], "24bb": ["flash"],
    }  # fmt: skip
    assert ledger.unidentified(FLASHED) == [FLASHED[0], FLASHED[2]]


def test_verb_lists_flashed_devices_once_and_unidentified_ones_apart(tmp_path, capsys):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, unix_ms) as book:
        book.append(FLASHED)
    assert main(["ledger", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "vest-1: flash, verify, provision",
        "24bb: flash",
        "unidentified device on port 1-1: flash failed (no answer)",
        "unidentified device on port 1-2: flash failed (no answer)",
        "6 events, 2 devices; intact",
    ]
    assert main(["ledger", str(path), "--json"]) == 0
    first, second, third, _, summary = json_lines.records(capsys.readouterr().out)
    assert (first["device"], first["serial"], first["unique_id"]) == ("vest-1", "S-1", "24aa")
    assert (second["device"], second["unique_id"], summary["devices"]) == ("", "24bb", 2)
    assert (third["port"], third["steps_failed"]) == ("1-1", {"flash": "no answer"})


def test_csv_is_safe_for_a_spreadsheet(path):
    with Ledger(path, unix_ms) as book:
        book.append([Event("vest-3", "flash", FAILED, reason="=cmd|' /C calc'!A0\x9b\u2028")])
    data = ledger.export_csv(ledger.read(path).entries)
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert data.startswith(b"\xef\xbb\xbf") and len(rows) == 5
    assert rows[2]["reason"] == 'cable: "=1+1" 断线' and rows[1]["epoch"] == "3" and rows[0]["epoch"] == ""
    assert rows[4]["reason"] == "'=cmd|' /C calc'!A0\\x9b\\u2028"


def test_verb_lists_devices_and_reports_damage(path, tmp_path, capsys):
    assert main(["ledger", str(path), "--batch", "monday"]) == 0
    assert capsys.readouterr().out == (
        'vest-1: flash, provision\nvest-2: flash failed (cable: "=1+1" 断线)\n4 events, 2 devices; intact\n'
    )
    assert main(["ledger", str(path), "--csv", str(tmp_path / "l.csv"), "--json"]) == 0
    rows = json_lines.records(capsys.readouterr().out)
    assert rows[1]["steps_done"] == ["flash"] and rows[2]["csv"] == str(tmp_path / "l.csv")
    assert (tmp_path / "l.csv").read_bytes() == ledger.export_csv(ledger.read(path).entries)
    path.write_bytes(path.read_bytes().replace(b"vest-1", b"vest-9"))
    assert main(["ledger", str(path)]) == 1
    captured = capsys.readouterr()
    assert "event 1 does not fit the chain" in captured.err and captured.out.endswith("damaged\n")


def test_verb_names_a_wrong_path(tmp_path, capsys):
    assert main(["ledger", str(tmp_path / "none")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    (tmp_path / "l").touch()
    assert main(["ledger", str(tmp_path / "l"), "--csv", str(tmp_path / "no" / "l.csv")]) == 2
    assert "name a file that can be written with --csv" in capsys.readouterr().err


def test_torn_line_is_a_warning(path, capsys):
    with contextlib.closing(path.open("ab")) as f:
        f.write(b'{"n": 5')
    assert main(["ledger", str(path)]) == 0
    assert "7 bytes that a crash has cut short; not counted" in capsys.readouterr().err
