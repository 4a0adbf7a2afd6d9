"""Fuzz tests of all decoders: any bytes are decoded correctly or raise RejectError.

Hypothesis prints how to reproduce a failure.
"""

import patrolink_enums as enums
import patrolink_messages as m
from agent.gps.sentences import GpsReceiver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patrolink.core.capture import Record
from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from patrolink.transport.serial_line import FrameUnpacker, pack_frame
from patrolink_protocol import decode, frame, track_decoder, track_encoder
from patrolink_protocol.errors import RejectError

KEY = bytes(range(32))
CHANNEL = frame.Channel(KEY, b"dev-1")
MANY = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])

rows = st.lists(
    st.tuples(
        st.integers(0, 86_400_000 - 1),
        st.integers(-900_000_000, 900_000_000),
        st.integers(-1_800_000_000, 1_800_000_000),
        st.integers(1, 3),
        st.one_of(st.just(enums.UNKNOWN), st.integers(-1_000_000, 20_000_000)),
        st.one_of(st.just(enums.UNKNOWN), st.integers(0, 1_000_000)),
        st.one_of(st.just(enums.UNKNOWN), st.integers(0, 35_999)),
        st.one_of(st.just(enums.UNKNOWN), st.integers(0, 1_000_000)),
        st.one_of(st.just(enums.UNKNOWN), st.integers(0, 99)),
        st.one_of(st.just(enums.UNKNOWN), st.integers(0, 100)),
    ),
    min_size=1,
    max_size=24,
)


def seal(kind: int, body: bytes, counter: int = 1) -> bytes:
    buf = bytearray(2048)
    buf[frame.HEADER_BYTES : frame.HEADER_BYTES + len(body)] = body
    return bytes(buf[: CHANNEL.seal_into(buf, kind, counter, frame.HEADER_BYTES + len(body))])


@MANY
@given(rows, st.integers(5, 7))
def test_any_rows_round_trip(rows_in, resolution):
    encoder = track_encoder.TrackEncoder(24, resolution)
    for ms, *row in rows_in:
        encoder.add(18000, ms, row)
    buf = bytearray(4096)
    _, columns = track_decoder.decode_columns(bytes(buf[: encoder.encode_into(buf, 0, encoder.count)]))
    unit = 10 ** (7 - resolution)
    halves = {
        "lat": unit,
        "lon": unit,
        "alt": (1000, 500, 100)[resolution - 5],
        "speed": 100,
        "hacc": 1000,
        "sats": 1,
        "battery": 1,
    }
    for i, (ms, *row) in enumerate(rows_in):
        assert columns["time"][i] == 18000 * 86_400_000 + ms
        for name, value in zip([c[0] for c in track_encoder.column_specs(6)[1:]], row, strict=True):
            decoded = columns[name][i]
            if value == enums.UNKNOWN and name != "lon":  # UNKNOWN is also a legal longitude
                assert decoded == enums.UNKNOWN
            elif name in halves:
                assert 2 * abs(decoded - value) <= halves[name]


@MANY
@given(st.binary(max_size=1100), st.integers(0, 31))
def test_any_body_is_decoded_or_refused(body, kind):
    try:
        decode.decode(kind, body)
    except RejectError as e:
        assert e.name in m.REASONS.split()


@MANY
@given(st.binary(max_size=1100))
def test_any_unauthentic_frame_is_rejected_and_counted(data):
    decoder = Decoder({"dev-1": DeviceKey(KEY)})
    assert decoder.rows(Record(0, "dev-1", data)) == []
    assert sum(decoder.stats.rejected.values()) == 1


@MANY
@given(st.binary(max_size=200))
def test_any_authentic_frame_is_decoded_or_counted(body):
    decoder = Decoder({"dev-1": DeviceKey(KEY)})
    decoder.rows(Record(0, "dev-1", seal(m.POSITION_BATCH, body)))
    assert decoder.stats.frames == 1


@MANY
@given(st.binary(max_size=3000), st.lists(st.integers(1, 200), max_size=30))
def test_any_receiver_output_gives_the_same_fixes_for_any_chunk_size(data, sizes):
    results = []
    for pieces in (sizes, [len(data)]):
        fixes = []
        receiver = GpsReceiver(lambda fix, fixes=fixes: fixes.append((fix.mode, fix.day, fix.ms, fix.lat_e7)))
        at = 0
        for size in [*pieces, len(data)]:
            part = data[at : at + size]
            receiver.feed(part, len(part), 0)
            at += size
        receiver.flush()
        results.append((fixes, receiver.sentences, receiver.skipped_bytes))
    assert results[0] == results[1]


@MANY
@given(st.text("$*,.0123456789ABCDEFGNRMCGAVSLPT-\r\n", max_size=400))
def test_any_text_of_nmea_characters_raises_nothing(text):
    data = text.encode()
    receiver = GpsReceiver(lambda fix: None)
    receiver.feed(data, len(data), 0)
    receiver.flush()


@MANY
@given(
    st.sampled_from(["RMC", "GGA", "GNS", "GLL", "VTG", "GSA", "GSV", "ZDA"]),
    st.lists(st.text("0123456789.ANSEWVD-,", max_size=14), max_size=30),
)
def test_any_sentence_with_a_correct_checksum_is_counted(kind, fields):
    body = ("GN" + kind + "," + ",".join(fields))[:120]
    check = 0
    for byte in body.encode():
        check ^= byte
    data = f"${body}*{check:02X}\r\n".encode() * 2
    receiver = GpsReceiver(lambda fix: None)
    receiver.feed(data, len(data), 0)
    receiver.flush()
    assert receiver.sentences == 2


@MANY
@given(st.lists(st.binary(min_size=1, max_size=m.MAX_FRAME), max_size=5), st.binary(max_size=50), st.integers(1, 99))
def test_serial_frames_survive_noise_and_chunks(frames, noise, size):
    stream = noise + b"\0" + b"".join(pack_frame(f) for f in frames)
    unpacker = FrameUnpacker()
    unpacked = [f for i in range(0, len(stream), size) for f in unpacker.feed(stream[i : i + size])]
    assert unpacked[len(unpacked) - len(frames) :] == frames


def test_every_truncated_or_flipped_batch_is_rejected():
    encoder = track_encoder.TrackEncoder(60)
    for i in range(60):
        encoder.add(18000, 1000 * i, [310000000 + 90 * i, 1210000000 - 50 * i, 3, 5000 + i, 1400, 900, 5000, 9, 80])
    buf = bytearray(1024)
    n = CHANNEL.seal_into(buf, m.POSITION_BATCH, 5, encoder.encode_into(buf, frame.HEADER_BYTES, encoder.count))
    good = bytes(buf[:n])
    decoder = Decoder({"dev-1": DeviceKey(KEY)})
    assert len(decoder.rows(Record(0, "dev-1", good))) == 60
    for cut in range(n):
        assert decoder.rows(Record(0, "dev-1", good[:cut])) == []
    for bit in range(n * 8):
        bad = bytearray(good)
        bad[bit >> 3] ^= 1 << (bit & 7)
        assert decoder.rows(Record(0, "dev-1", bytes(bad))) == []
    assert decoder.stats.fixes == 60


def test_flipped_bodies_with_a_correct_tag_are_decoded_or_refused():
    """Damaged bodies with a correct tag are refused or decoded, to at most 255 rows."""
    encoder = track_encoder.TrackEncoder(10)
    for i in range(10):
        encoder.add(18000, 1000 * i, [310000000, 1210000000, 3, 5000, 1400, 900, 5000, 9, 80])
    buf = bytearray(1024)
    body = bytes(buf[: encoder.encode_into(buf, 0, encoder.count)])
    for bit in range(len(body) * 8):
        bad = bytearray(body)
        bad[bit >> 3] ^= 1 << (bit & 7)
        try:
            assert len(decode.decode(m.POSITION_BATCH, bytes(bad))["fixes"]) <= m.MAX_BATCH
        except RejectError:
            continue
