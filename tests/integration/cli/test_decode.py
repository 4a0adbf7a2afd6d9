"""Decoding: rows in plain units; repeated frames are dropped, invalid frames are rejected and counted."""

import io
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import patrolink_messages as m
import pyarrow.parquet
import pytest
from patrolink.cli import main
from patrolink.core import batch_columns
from patrolink.core.batch_extension import ExtensionDecoder
from patrolink.core.capture import MAGIC, CaptureWriter, Record
from patrolink.core.decoder import POSITION_COLUMNS, Decoder, DecoderStats, rfc3339
from patrolink.core.keys import DeviceKey
from patrolink.report import formats, position_csv, position_maps, positions, tables
from patrolink_protocol import codec, frame
from targets import vectors

from tests.support import codec_extension
from tests.support.json_lines import records, summary
from tests.support.paths import ROOT
from tests.support.polling import TIMEOUT_S

KEY = bytes(range(32))
NOW = 1_700_000_000_123
HELLO = {"boot": 1, "schema_hash": 2, "heap_kb": 192, "date_floor": 0, "batch_fixes": 60, "minor": 0, "profiles": 1}
HELLO |= {"rollback_floor": 7, "platform": 1}
CONTENT = bytes(range(8))
TEXT_WRITERS = {
    "csv": position_csv.write,
    "geojson": position_maps.write_geojson,
    "gpx": position_maps.write_gpx,
}
TABLE_TYPES = ["timestamp[ms]", *["double"] * 6, "int16", "int16", "uint8", *["bool"] * 3, "string", "int64"]
TEXTS = {"board": b"unix", "firmware": b"1.0", "runtime": b"micropython"}


def hello_frame(counter: int, device: str = "dev-1", key: bytes = KEY) -> bytes:
    """Return a frame sealed with the key of a device."""
    buf = bytearray(1024)
    end = codec.encode_into(1, {**HELLO, **TEXTS, "content": CONTENT}, buf, frame.HEADER_BYTES)
    return bytes(buf[: frame.Channel(key, device.encode()).seal_into(buf, 1, counter, end)])


@pytest.fixture
def write_capture(tmp_path):
    """Return a function that writes records to a capture and returns its path."""

    def write(*records: Record) -> Path:
        path = tmp_path / "x.plcap"
        writer = CaptureWriter(path)
        for record in records:
            writer.write(record)
        writer.close()
        return path

    return write


def test_message_becomes_one_row():
    rows = Decoder({"dev-1": DeviceKey(KEY)}).rows(Record(NOW, "dev-1", hello_frame(7)))
    texts = {name: text.decode() for name, text in TEXTS.items()}
    head = {"record": "hello", "device": "dev-1", "counter": 7, "time": "2023-11-14T22:13:20.123Z"}
    assert rows == [{**head, **HELLO, **texts, "profiles": ["rice"], "content": CONTENT.hex()}]


def test_repeated_frames_are_dropped_within_replay_window():
    decoder = Decoder({"dev-1": DeviceKey(KEY)})
    for counter in [*range(3000), 70_000, 69_999, 70_000, 69_999]:
        decoder.rows(Record(NOW, "dev-1", hello_frame(counter)))
    assert decoder.stats.duplicates == 2 and decoder.stats.frames == 3004
    assert decoder.rows(Record(NOW, "dev-1", hello_frame(1))) == [] and decoder.reject_reason == "replay"


def test_rejected_frames_are_counted_by_reason():
    decoder = Decoder({"dev-1": DeviceKey(KEY)})
    authentic = hello_frame(1)
    cases = {
        "key": ("dev-2", authentic),
        "tag": ("dev-1", authentic[:-1] + bytes([authentic[-1] ^ 1])),
        "length": ("dev-1", b"short"),
        "version": ("dev-1", b"\xff" + authentic[1:]),
    }
    for reason, (device, data) in cases.items():
        assert decoder.rows(Record(NOW, device, data)) == [] and decoder.reject_reason == reason
    assert decoder.stats.rejected == dict.fromkeys(cases, 1) and not decoder.stats.clean
    assert decoder.rows(Record(NOW, "dev-1", authentic)) and decoder.reject_reason == ""


def test_frame_of_another_device_is_rejected():
    decoder = Decoder({"dev-1": DeviceKey(KEY), "dev-2": DeviceKey(KEY)})
    assert decoder.rows(Record(NOW, "dev-2", hello_frame(1, "dev-1"))) == [] and decoder.reject_reason == "tag"


def test_forged_frame_does_not_use_counter():
    decoder = Decoder({"dev-1": DeviceKey(KEY)})
    decoder.rows(Record(NOW, "dev-1", hello_frame(1, key=bytes(32))))
    assert decoder.rows(Record(NOW, "dev-1", hello_frame(1))) and decoder.stats.duplicates == 0


@pytest.mark.parametrize(
    ("unix_ms", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z"), (None, None), (2**64 - 1, None)],
)
def test_rfc3339_formats_times_and_unknown_times(unix_ms, text):
    assert rfc3339(unix_ms) == text


def test_receive_time_after_year_9999_is_unknown(write_capture, keys_file, capsys):
    assert main(["decode", str(write_capture(Record(2**64 - 1, "dev-1", hello_frame(1)))), "--keys", keys_file]) == 0
    assert json.loads(capsys.readouterr().out)["time"] is None


def test_output_must_not_be_the_capture(write_capture, keys_file, tmp_path, capsys):
    capture = write_capture(Record(NOW, "dev-1", hello_frame(1)))
    before = capture.read_bytes()
    os.link(capture, tmp_path / "same")
    for output in (capture, tmp_path / "same"):
        assert main(["decode", str(capture), "--keys", keys_file, "--output", str(output)]) == 2
        assert "the capture itself" in capsys.readouterr().err
    assert capture.read_bytes() == before


def test_capture_without_positions_gives_empty_files(write_capture, keys_file, capsys):
    capture = str(write_capture(Record(NOW, "dev-1", hello_frame(1))))
    for output_format in ("csv", "geojson", "gpx"):
        assert main(["decode", capture, "--keys", keys_file, "--format", output_format]) == 0
        out = capsys.readouterr().out
        if output_format == "csv":
            assert out == ",".join(POSITION_COLUMNS) + "\n"
        elif output_format == "geojson":
            assert json.loads(out) == {"type": "FeatureCollection", "features": []}
        else:
            assert "<trkpt" not in out


def test_every_format_writes_rows_of_every_legal_time(write_capture, tmp_path, capsys):
    """A genuine frame whose row is in the year 935 is refused; rows in 1970 and 2106 are written."""
    listed = json.loads((ROOT / "protocol" / "vectors" / "batches.json").read_text(encoding="utf-8"))["vectors"]
    frames = {vector["id"]: bytes.fromhex(vector["frame"]) for vector in listed}
    before_1970 = "220000000a4801954fc402000000000400000000076ba0041ce0ca044c009325797d7ab9e979"
    legal = [frames[name] for name in ("batch-year-1970", "batch-year-2106")]
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[devices]\n"vector-1" = "{KEY.hex()}"\n')
    keys.chmod(0o600)
    for data, code, rows in ((bytes.fromhex(before_1970), 1, 0), (legal[0], 0, 1), (legal[1], 0, 1)):
        capture = str(write_capture(Record(NOW, "vector-1", data)))
        for output_format, row in (("gpx", "<trkpt"), ("jsonl", '"position"'), ("csv", ",vector-1,")):
            assert main(["decode", capture, "--keys", str(keys), "--format", output_format]) == code
            out, err = capsys.readouterr()
            assert out.count(row) == rows and ("range" in err) == (code == 1), output_format


def test_json_summary_is_the_last_line(write_capture, keys_file, tmp_path, capsys):
    capture = str(
        write_capture(
            Record(NOW, "dev-1", hello_frame(1)),
            Record(NOW, "dev-1", hello_frame(1)),
            Record(NOW, "who", hello_frame(1, "who")),
        )
    )
    assert main(["decode", capture, "--keys", keys_file, "--json"]) == 1
    captured = capsys.readouterr()
    assert [row["record"] for row in records(captured.out)] == ["hello", "summary"] and captured.err == ""
    counts = summary(captured.out)
    assert counts["duplicates"] == 1 and counts["rejected"] == {"key": 1}
    assert main(["decode", capture, "--keys", keys_file, "--json", "--output", str(tmp_path / "o")]) == 1
    captured = capsys.readouterr()
    assert summary(captured.out) == counts and captured.err == ""
    assert main(["decode", capture, "--keys", keys_file, "--json", "--format", "csv"]) == 2
    assert "name a file for the csv with --output" in capsys.readouterr().err


def patrolink(*command: str, **options) -> subprocess.CompletedProcess:
    arguments = [sys.executable, "-m", "patrolink", *command]
    return subprocess.run(arguments, capture_output=True, timeout=TIMEOUT_S, **options)


def test_standard_input_is_decoded_and_full_disk_is_an_error(write_capture, keys_file):
    capture = write_capture(Record(NOW, "dev-1", hello_frame(1)))
    result = patrolink("decode", "-", "--keys", keys_file, input=capture.read_bytes())
    assert result.returncode == 0 and json.loads(result.stdout)["counter"] == 1
    result = patrolink("decode", str(capture), "--keys", keys_file, "--output", "/dev/full")
    assert result.returncode == 2 and result.stderr.startswith(b"error: /dev/full: No space left")
    command = [sys.executable, "-m", "patrolink", "decode", str(capture), "--keys", keys_file]
    with open("/dev/full", "wb") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_S)
    assert result.returncode == 2 and b"No space left" in result.stderr and b"Traceback" not in result.stderr


def test_closed_output_pipe_is_not_an_error(write_capture, keys_file):
    capture = write_capture(*(Record(NOW, "dev-1", hello_frame(i)) for i in range(2000)))
    command = [sys.executable, "-m", "patrolink", "decode", str(capture), "--keys", keys_file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize("kind", ["directory", "empty", "magic only", "garbage after"])
def test_input_that_is_not_a_capture_gives_no_rows(tmp_path, keys_file, capsys, kind):
    path = tmp_path / "x.plcap"
    if kind == "directory":
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "magic only": MAGIC, "garbage after": MAGIC + bytes(1 << 20)}[kind])
    code = main(["decode", str(path), "--keys", keys_file])
    assert code == {"magic only": 0, "garbage after": 1}.get(kind, 2)
    assert capsys.readouterr().out == ""


def test_value_from_environment_is_checked(write_capture, keys_file, monkeypatch, capsys):
    capture = str(write_capture(Record(NOW, "dev-1", hello_frame(1))))
    monkeypatch.setenv("PATROLINK_DECODE_FORMAT", "bogus")
    with pytest.raises(SystemExit) as e:
        main(["decode", capture, "--keys", keys_file])
    assert e.value.code == 2 and "PATROLINK_DECODE_FORMAT" in capsys.readouterr().err
    assert main(["decode", capture, "--keys", keys_file, "--format", "csv"]) == 0
    monkeypatch.setenv("PATROLINK_DECODE_FORMAT", "gpx")
    monkeypatch.setenv("PATROLINK_KEYS", keys_file)
    assert main(["decode", capture]) == 0 and "<gpx" in capsys.readouterr().out


def test_key_entered_as_device_id_is_not_shown(write_capture, tmp_path, capsys):
    swapped = tmp_path / "swapped.toml"
    swapped.write_text(f'[devices]\n"{KEY.hex()}" = "dev-1"\n')
    swapped.chmod(0o600)
    assert main(["decode", str(write_capture()), "--keys", str(swapped)]) == 2
    err = capsys.readouterr().err
    assert "entry 1" in err and KEY.hex() not in err


@pytest.fixture(scope="module")
def parts_decoders(tmp_path_factory):
    """Batch decoders: numpy, and the C codec if there is a compiler."""
    decoders = [batch_columns.NumpyDecoder()]
    if any(map(shutil.which, ("cc", "gcc", "clang"))):
        module = codec_extension.load(codec_extension.build(tmp_path_factory.mktemp("codec")))
        decoders.append(ExtensionDecoder(module))
    return decoders


def mixed_records(rnd: random.Random, keys: dict[str, DeviceKey]) -> list[Record]:
    """Return frames of many devices: positions and other messages, repeated, old, damaged, in later key epochs."""
    names = [*keys, "unknown"]
    records: list[Record] = []
    counters = dict.fromkeys(names, 0)
    bodies = [vectors.batch(vectors.walk(rnd.choice((1, 7, 20)), i), rnd.choice((5, 6, 7))) for i in range(40)]
    for body in bodies[:10]:
        rows = vectors.walk(9, len(body))
        for row in rows:
            row[3] = rnd.choice((1, 2, 3, 7, 31))
            row[4 + rnd.randrange(6)] = vectors.U
        bodies.append(vectors.batch(rows))
    for i in range(3000):
        device = rnd.choice(names)
        if records and rnd.random() < 0.05:
            records.append(rnd.choice(records))
            continue
        counters[device] += rnd.choice((1, 1, 1, 2, 70_000 if rnd.random() < 0.02 else 1))
        epoch = i // 1500 if device == "-1" else keys.get(device, DeviceKey(KEY)).epoch
        channel = frame.Channel(keys.get(device, DeviceKey(KEY)).secret, device.encode(), epoch=epoch)
        kind, body = rnd.choice([(m.POSITION_BATCH, rnd.choice(bodies))] * 8 + [(m.TIME_SYNC, bytes(23) + b"\1")])
        if rnd.random() < 0.03:
            body = body[:-1]
        buf = bytearray(1024)
        buf[frame.HEADER_BYTES : frame.HEADER_BYTES + len(body)] = body
        end = channel.seal_into(buf, kind, counters[device], frame.HEADER_BYTES + len(body))
        data = buf[:end]
        if rnd.random() < 0.03:
            data[rnd.randrange(end)] ^= 1 << rnd.randrange(8)
        if rnd.random() < 0.02:
            data = data[: rnd.randrange(end)]
        records.append(Record(NOW + i, device, bytes(data)))
    return records


@pytest.mark.parametrize("seed", range(3))
def test_blocks_of_many_devices_give_the_rows_and_counts_of_the_decoder(parts_decoders, seed, tmp_path, monkeypatch):
    rnd = random.Random(seed)
    keys = {name: DeviceKey(rnd.randbytes(32), rnd.choice((0, 1, 7))) for name in ("-1", "b", "vest_3")}
    keys["-1"] = keys["-1"]._replace(epoch=0)
    records = mixed_records(rnd, keys)
    decoder = Decoder(keys)
    rows = [row for record in records for row in decoder.rows(record) if row["record"] == "position"]
    expected = {}
    for name in TEXT_WRITERS:
        out = io.StringIO()
        formats.WRITERS[name](rows, out)
        expected[name] = out.getvalue()
    assert len(rows) > 1000 and len(decoder.stats.rejected) >= 4 and decoder.stats.duplicates
    monkeypatch.setattr(positions, "_CHUNK_RECORDS", 1300)
    monkeypatch.setattr(batch_columns.NumpyDecoder, "block_batches", 700)
    for parts_decoder in parts_decoders:
        for name, write in TEXT_WRITERS.items():
            out, stats = io.StringIO(), DecoderStats()
            write(positions.read(records, keys, stats, parts_decoder), out)
            assert out.getvalue() == expected[name], f"seed {seed}, {name}"
            assert stats == decoder.stats, f"seed {seed}, {name}"
        for name, write in tables.WRITERS.items():
            write(positions.read(records, keys, DecoderStats(), parts_decoder), tmp_path / name)
            assert table_rows(tmp_path / name, name) == [{key: row[key] for key in POSITION_COLUMNS} for row in rows], (
                f"seed {seed}"
            )


def table_rows(path: Path, kind: str) -> list[dict]:
    """Return the rows of a table as the decoder gives them."""
    if kind == "parquet":
        table = pyarrow.parquet.read_table(path)
        assert [str(kind) for kind in table.schema.types] == TABLE_TYPES
        rows = table.to_pylist()
    else:
        with np.load(path) as columns:
            arrays = {name: columns[name].tolist() for name in columns.files}
        for name in ("lat_deg", "lon_deg", "alt_m", "speed_mps", "course_deg", "hacc_m", "sats", "battery_pct"):
            arrays[name] = [None if value != value or value == -1 else value for value in arrays[name]]
        rows = [dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)]
    return [row | {"time": row["time"].isoformat(timespec="milliseconds") + "Z"} for row in rows]
