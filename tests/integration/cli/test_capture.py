"""Captures: written records are read back. Damaged records are skipped and counted."""

import io
import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patrolink.core.capture import FRAME_MAX_BYTES, MAGIC, CaptureReader, CaptureWriter, Record
from patrolink.core.errors import UserError

RECORDS = [Record(1_700_000_000_000 + i, f"dev-{i % 3}", bytes([i]) * (i % 60 + 1)) for i in range(100)]


@pytest.fixture
def capture(tmp_path):
    path = tmp_path / "x.plcap"
    writer = CaptureWriter(path)
    for record in RECORDS:
        writer.write(record)
    writer.close()
    return path.read_bytes()


def read(data: bytes) -> tuple[list[Record], CaptureReader]:
    reader = CaptureReader(io.BytesIO(data), "x")
    return list(reader), reader


def test_written_records_are_read_back(capture):
    records, reader = read(capture)
    assert records == RECORDS and reader.damaged == reader.truncated == 0


def test_truncated_capture_keeps_complete_records(capture):
    for cut in range(len(MAGIC), len(capture), 7):
        records, reader = read(capture[:cut])
        assert records == RECORDS[: len(records)]
        complete = len(MAGIC) + sum(17 + len(r.device) + len(r.frame) for r in records)
        assert (reader.damaged + reader.truncated > 0) == (cut > complete)


def test_flipped_byte_loses_at_most_one_record_and_is_counted(capture):
    for at in range(len(MAGIC), len(capture), 5):
        damaged = bytearray(capture)
        damaged[at] ^= 0x41
        records, reader = read(bytes(damaged))
        assert len(records) >= len(RECORDS) - 1 and all(r in RECORDS for r in records)
        assert reader.damaged + reader.truncated == 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=5000))
def test_arbitrary_bytes_are_read_without_error(data):
    records, _ = read(MAGIC + data)
    assert len(records) <= len(data) // 17


def test_file_that_is_not_a_capture_is_an_error():
    for data in (b"", b"PLCAP", b"\x7fELF" + bytes(100)):
        with pytest.raises(UserError, match="not a Patrolink capture"):
            read(data)


@pytest.mark.parametrize("size", [FRAME_MAX_BYTES, FRAME_MAX_BYTES + 1, 70_000])
def test_frame_of_any_size_is_written(tmp_path, size):
    writer = CaptureWriter(tmp_path / "x.plcap")
    writer.write(Record(1, "d" * 32, b"x" * size))
    writer.write(Record(2, "dev-1", b"y"))
    writer.close()
    records, reader = read((tmp_path / "x.plcap").read_bytes())
    assert [len(r.frame) for r in records] == [FRAME_MAX_BYTES, 1] and reader.damaged == 0


@pytest.mark.parametrize("device", [b"", b"\x1b]0;x\x07", b"a/b", b"d" * 33, b"\xff", b"dev\n"])
def test_record_with_invalid_device_id_counts_as_damaged(device):
    payload = struct.pack(">QB", 1, len(device)) + device + b"frame"
    record = b"\xa5\x5a" + struct.pack(">H", len(payload)) + payload + struct.pack(">I", zlib.crc32(payload))
    records, reader = read(MAGIC + record)
    assert records == [] and reader.damaged == 1


def test_record_is_on_disk_when_write_returns(tmp_path):
    writer = CaptureWriter(tmp_path / "x.plcap")
    writer.write(RECORDS[0])
    assert read((tmp_path / "x.plcap").read_bytes())[0] == RECORDS[:1]
    writer.close()


def test_full_disk_is_an_error(tmp_path):
    writer = CaptureWriter(tmp_path / "x.plcap")
    writer.close()
    with open("/dev/full", "wb", buffering=0) as writer._file, pytest.raises(UserError, match="No space left"):
        writer.write(RECORDS[0])
