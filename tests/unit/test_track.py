"""Position batches: round trips, limits, malformed bodies."""

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol import decode, frame, track_decoder, track_encoder
from patrolink_protocol.errors import RejectError
from seeded_random import seeded

U = enums.UNKNOWN


def batch(rows, resolution=6, capacity=60):
    enc = track_encoder.TrackEncoder(capacity, resolution)
    for day, ms, row in rows:
        enc.add(day, ms, row)
    buf = bytearray(1024)
    return bytes(buf[: enc.encode_into(buf, 0, enc.count)])


def row(lat=311234567, lon=1211234567, state=3, alt=12340, speed=1440, course=9000, hacc=5000, sats=9, battery=80):
    return [lat, lon, state, alt, speed, course, hacc, sats, battery]


def test_one_row_is_small_and_round_trips():
    body = batch([(18000, 45296000, row())])
    assert len(body) + frame.HEADER_BYTES + m.TAG_BYTES <= 32
    resolution, columns = track_decoder.decode_columns(body)
    assert resolution == 6
    assert columns["time"] == [(18000 * 86400 + 45296) * 1000]
    assert columns["lat"] == [311234570] and columns["lon"] == [1211234570]
    assert columns["alt"] == [12500] and columns["speed"] == [1400] and columns["course"] == [9000]
    assert columns["hacc"] == [5000] and columns["sats"] == [9] and columns["battery"] == [80]


def test_unknown_values_round_trip():
    rows = [(18000, 1000 * i, row(alt=U, speed=U if i & 1 else 1000, course=U, battery=U)) for i in range(5)]
    _, columns = track_decoder.decode_columns(batch(rows))
    assert columns["alt"] == [U] * 5 and columns["battery"] == [U] * 5
    assert columns["speed"] == [1000, U, 1000, U, 1000]


def test_altitudes_below_sea_level_round_trip():
    rows = [(18000, 1000 * i, row(alt=-430500 + 500 * i)) for i in range(3)]
    assert track_decoder.decode_columns(batch(rows))[1]["alt"] == [-430500, -430000, -429500]


def test_every_time_step_across_midnight():
    for step, ms in ((1000, 0), (200, 100), (30, 10), (7, 999)):
        times_ms = [86399000 + ms + step * i for i in range(9)]
        rows = [(18000 + t // 86400000, t % 86400000, row()) for t in times_ms]
        times = track_decoder.decode_columns(batch(rows))[1]["time"]
        assert times == [18000 * 86400000 + 86399000 + ms + step * i for i in range(9)]


def test_decreasing_times_round_trip():
    rows = [(18000, 5000, row()), (18000, 3000, row()), (18000, 4000, row())]
    assert track_decoder.decode_columns(batch(rows))[1]["time"] == [18000 * 86400000 + t for t in (5000, 3000, 4000)]


def test_extreme_positions_in_one_batch_round_trip():
    corners = [(-900000000, -1800000000), (900000000, 1800000000), (0, 0), (900000000, -1800000000)]
    for resolution in (5, 6, 7):
        rows = [(18000, 1000 * i, row(lat=a, lon=o)) for i, (a, o) in enumerate(corners * 3)]
        _, columns = track_decoder.decode_columns(batch(rows, resolution))
        assert columns["lat"] == [a for a, _ in corners * 3]
        assert columns["lon"] == [o for _, o in corners * 3]


def test_random_rows_round_trip_within_half_a_unit():
    for seed in range(1, 40):
        below = seeded(seed)
        resolution = 5 + below(3)
        n = 1 + below(60)
        irregular = below(2)
        lat, lon = below(1800000000) - 900000000, below(3600000000) - 1800000000
        rows = []
        for i in range(n):
            step = 300000000 if irregular and below(9) == 0 else 3000
            lat = max(-900000000, min(900000000, lat + below(2 * step) - step))
            lon = max(-1800000000, min(1800000000, lon + below(2 * step) - step))
            r = row(lat, lon, 1 + below(3), below(21000000) - 1000000, below(1000000), below(36000), below(1000000))
            rows.append((18000, 1000 * i + below(1000) * irregular, r))
        body = batch(rows, resolution)
        decoded_resolution, columns = track_decoder.decode_columns(body)
        assert decoded_resolution == resolution, seed
        unit = 10 ** (7 - resolution)
        for i, (_, ms, r) in enumerate(rows):
            assert columns["time"][i] == 18000 * 86400000 + ms, seed
            for j, name, half in (
                (0, "lat", unit),
                (1, "lon", unit),
                (3, "alt", (1000, 500, 100)[resolution - 5]),
                (4, "speed", 100),
                (6, "hacc", 1000),
            ):
                assert 2 * abs(columns[name][i] - r[j]) <= half, (seed, i, name)
            turn = abs(columns["course"][i] - r[5])
            assert min(turn, 36000 - turn) <= 100, seed
            assert columns["state"][i] == r[2], seed


def test_drop_removes_the_first_rows():
    rows = [
        (18000 + (i > 4), 86395000 + 1000 * i - 86400000 * (i > 4), row(lat=i * 1000, speed=i * 100)) for i in range(9)
    ]
    enc = track_encoder.TrackEncoder(9)
    for day, ms, r in rows:
        enc.add(day, ms, r)
    buf = bytearray(1024)
    decoded = []
    for n in (1, 3, 4, 1):
        end = enc.encode_into(buf, 0, n)
        columns = track_decoder.decode_columns(bytes(buf[:end]))[1]
        decoded += list(zip(columns["time"], columns["lat"], columns["speed"]))
        enc.drop(n)
    assert enc.count == 0
    assert decoded == [(day * 86400000 + ms, r[0], r[4]) for day, ms, r in rows]
    for n in (0, 1):
        try:
            enc.encode_into(buf, 0, n)
        except track_encoder.RangeError:
            continue
        raise AssertionError(n)


def test_full_batch_and_long_gap_are_not_accepted():
    enc = track_encoder.TrackEncoder(2)
    enc.add(18000, 0, row())
    assert enc.accepts(18000, 1000) and not enc.accepts(18007, 0) and not enc.accepts(1, 0)
    enc.add(18000, 1000, row())
    assert not enc.accepts(18000, 2000)
    for bad in ((18000, 2000, row()), (-1, 0, row()), (50000, 0, row())):
        try:
            enc.add(*bad)
        except track_encoder.RangeError:
            continue
        raise AssertionError("accepted")


def test_values_out_of_range_are_refused_or_unknown():
    enc = track_encoder.TrackEncoder(2)
    for bad in (row(lat=900000001), row(lon=-1800000001), row(state=32)):
        try:
            enc.add(18000, 0, bad)
        except track_encoder.RangeError:
            continue
        raise AssertionError("accepted")
    assert enc.count == 0
    _, columns = track_decoder.decode_columns(batch([(18000, 0, row(alt=99000000, speed=-1, course=36000, sats=100))]))
    assert [columns[c][0] for c in ("alt", "speed", "course", "sats")] == [U] * 4


def test_malformed_bodies_are_refused():
    good = batch([(18000, 1000 * i, row()) for i in range(9)])
    for bad in [good[:n] for n in range(len(good))] + [
        good + b"\0",
        b"\0" * 40,
        b"\xff" * 40,
        b"\x00\x00\x00\x00\x01" + b"\0" * 30,
    ]:
        try:
            track_decoder.decode_columns(bad)
        except RejectError:
            continue
        raise AssertionError("accepted")


def test_mode_none_has_no_position():
    body = batch(
        [
            (18000, 0, row(state=1)),
            (18000, 1000, row(state=2)),
            (18000, 2000, row(state=3 | track_encoder.DATE_SUSPECT)),
        ]
    )
    fixes = decode.decode(2, body)["fixes"]
    assert [f["mode"] for f in fixes] == [1, 2, 3]
    assert fixes[0]["lat_e7"] is None and fixes[1]["lat_e7"] is not None
    assert fixes[1]["alt_mm"] is None and fixes[2]["alt_mm"] == 12500
    assert fixes[2]["flags"] == track_encoder.DATE_SUSPECT >> 2


def test_fit_into_writes_the_rows_that_fit():
    below = seeded(5)
    enc = track_encoder.TrackEncoder(8)
    for i in range(8):
        enc.add(18000, 1000 * i, row(lat=below(900000000), lon=below(1800000000)))
    assert enc.fit_into(memoryview(bytearray(60)), 0)[1] == 8
    assert enc.fit_into(memoryview(bytearray(50)), 0)[1] == 4
    assert enc.fit_into(memoryview(bytearray(30)), 0)[1] == 2
    try:
        enc.fit_into(memoryview(bytearray(9)), 0)
    except IndexError:
        return
    raise AssertionError("fits")
