"""Epochs of a receiver: no position belongs to another time, whatever is lost, doubled, reordered or cut."""

import patrolink_enums as enums
from agent.gps import fix as gps
from receiver_model import BASE_E7, DAY, DAY_MS, LON_E7, STEP_E7, FixRecorder, Stream, line
from seeded_random import seeded

SEED = 20261201
STREAMS = 60
EPOCHS = 40


def feed(recorder, pieces):
    """Feed (bytes, monotonic ms) as they arrive, and poll between them."""
    for data, now_ms in pieces:
        recorder.receiver.feed(data, len(data), now_ms)
        recorder.receiver.poll(now_ms)
    recorder.receiver.flush()
    return recorder.fixes


def expect_truth(stream, fixes, context):
    """Check that each position is that of its time, and that no epoch without a fix has one."""
    by_ms = dict([(epoch.unix_ms, epoch) for epoch in stream.epochs])
    before = 0
    for fix in fixes:
        if fix["day"] == enums.UNKNOWN:
            if fix["flags"] & gps.HAS_POSITION:  # before the first date: the place alone tells the epoch
                epoch = stream.epochs[(fix["lat_e7"] - BASE_E7) // STEP_E7]
                assert epoch.has_fix, context
            continue
        unix_ms = fix["day"] * DAY_MS + fix["ms"]
        assert unix_ms > before, "%s: %d after %d" % (context, unix_ms, before)
        before = unix_ms
        epoch = by_ms.get(unix_ms)
        assert epoch is not None, "%s: a time that no sentence had: %d" % (context, unix_ms)
        assert not fix["flags"] & gps.DATE_SUSPECT, context
        if fix["flags"] & gps.HAS_POSITION:
            assert epoch.has_fix and fix["mode"] > 1, "%s: a position without a fix" % context
            assert (fix["lat_e7"], fix["lon_e7"]) == (epoch.lat_e7, LON_E7), "%s: a position of another epoch" % context


def test_every_epoch_is_reported_once_in_whatever_order_its_sentences_come():
    for seed in range(SEED, SEED + STREAMS):
        stream = Stream(seeded(seed), EPOCHS)
        context = "seed %d, %s" % (seed, stream.text())
        pieces = [(b"".join(stream.sentences(e)), i * stream.interval_ms) for i, e in enumerate(stream.epochs)]
        fixes = feed(FixRecorder(), pieces)
        assert len(fixes) == EPOCHS, context
        expect_truth(stream, fixes, context)
        assert [bool(f["flags"] & gps.HAS_POSITION) for f in fixes] == [e.has_fix for e in stream.epochs], context
        assert [f["day"] * DAY_MS + f["ms"] for f in fixes] == [e.unix_ms for e in stream.epochs], context


def disturbed(stream, below):
    """Yield the sentences of each epoch with some lost, doubled, swapped, cut or damaged."""
    for i, epoch in enumerate(stream.epochs):
        sentences = stream.sentences(epoch)
        for _ in range(below(3)):
            at = below(len(sentences))
            fault = below(6)
            if fault == 0 and len(sentences) > 1:
                del sentences[at]
            elif fault == 1:
                sentences.insert(at, sentences[at])
            elif fault == 2 and at:
                sentences[at - 1], sentences[at] = sentences[at], sentences[at - 1]
            elif fault == 3:
                sentences[at] = sentences[at][: 1 + below(len(sentences[at]))]
            elif fault == 4:
                damaged = bytearray(sentences[at])
                damaged[below(len(damaged))] ^= 1 << below(8)
                sentences[at] = bytes(damaged)
            else:
                sentences.insert(at, bytes([below(256) for _ in range(1 + below(40))]))
        yield b"".join(sentences), i * stream.interval_ms


def test_disturbed_lines_give_no_position_of_another_time_and_none_without_a_fix():
    reported = 0
    for seed in range(SEED, SEED + STREAMS):
        below = seeded(seed)
        stream = Stream(below, EPOCHS)
        recorder = FixRecorder()
        fixes = feed(recorder, disturbed(stream, below))
        expect_truth(stream, fixes, "seed %d, %s" % (seed, stream.text()))
        reported += len(fixes)
    assert reported > STREAMS * EPOCHS * 9 // 10, reported


def test_a_change_of_order_in_mid_stream_loses_no_fix():
    for seed in range(SEED, SEED + STREAMS):
        below = seeded(seed)
        stream = Stream(below, EPOCHS)
        recorder = FixRecorder()
        for i, epoch in enumerate(stream.epochs):
            if i == EPOCHS // 2:
                stream.kinds = stream.kinds[:1] + list(reversed(stream.kinds[1:]))
            data = b"".join(stream.sentences(epoch))
            recorder.receiver.feed(data, len(data), i * stream.interval_ms)
        recorder.receiver.flush()
        context = "seed %d, %s" % (seed, stream.text())
        expect_truth(stream, recorder.fixes, context)
        assert len(recorder.fixes) == EPOCHS, context


def test_a_slow_line_with_pauses_between_sentences_loses_nothing_of_an_epoch():
    for seed in range(SEED, SEED + STREAMS):
        stream = Stream(seeded(seed), EPOCHS)
        if stream.interval_ms < 1000:
            continue
        recorder = FixRecorder()
        whole = feed(FixRecorder(), [(b"".join(stream.sentences(e)), i) for i, e in enumerate(stream.epochs)])
        for i, epoch in enumerate(stream.epochs):
            now_ms = i * stream.interval_ms
            for sentence in stream.sentences(epoch):
                for at in range(0, len(sentence), 16):
                    piece = sentence[at : at + 16]
                    recorder.receiver.feed(piece, len(piece), now_ms)
                    recorder.receiver.poll(now_ms)
                now_ms += 120
                recorder.receiver.poll(now_ms - 1)
        recorder.receiver.flush()
        for fix in whole + recorder.fixes:
            del fix["age_ms"], fix["systems"]  # the talker is random
        assert recorder.fixes == whole, "seed %d, %s" % (seed, stream.text())


def rmc(clock, status="A", mode="A", place="4730.1234,N,00815.5678,E", date="120625"):
    return line("GNRMC,%s,%s,%s,2.500,250.00,%s,,,%s" % (clock, status, place, date, mode))


def gga(clock, quality=1, sats="08", place="4730.1234,N,00815.5678,E", talker="GN", hdop="1.20"):
    return line("%sGGA,%s,%s,%d,%s,%s,410.5,M,48.0,M,," % (talker, clock, place, quality, sats, hdop))


def gsa(mode, talker="GN"):
    return line("%sGSA,A,%d,02,05,12,25,,,,,,,,,2.10,1.20,1.70" % (talker, mode))


def only(data):
    (fix,) = FixRecorder(data).fixes
    return fix


def test_validity_is_decided_by_all_sentences_of_an_epoch_in_any_order():
    t = "101500.00"
    none = "0000.0000,N,00000.0000,E"
    for sentences, flags in (
        ((rmc(t), gga(t), gsa(3)), 1),
        ((rmc(t, "V", "N"), gga(t, 0, "05"), gsa(3)), 0),  # limits exceeded: GSA alone says 3
        ((rmc(t, place=none), gga(t, 0, "00", none), gsa(1)), 0),
        ((rmc(t), gga(t, 1, "00")), 1),  # the receiver does not count satellites
        ((gga(t, 1, ""),), 1),
        ((rmc(t), gga(t, talker="GP"), gga(t, 0, "00", ",,,", "GL")), 1),
        ((rmc(t, "V", "N"), gga(t)), 1 | gps.CONTRADICTORY),
        ((rmc(t, "V", "S"), gga(t, 8)), 0),
        ((rmc(t, mode="S"), gga(t, 8)), 1 | gps.SIMULATED),
        ((rmc(t, mode="M"), gga(t, 7)), 1 | gps.MANUAL),
        ((rmc(t, mode="E"), gga(t, 6, "00")), 1 | gps.ESTIMATED),
        ((rmc(t, mode="R"), gga(t, 4)), 1 | gps.DIFFERENTIAL),
        ((rmc(t, mode="N"),), 0),
    ):
        for order in (sentences, list(reversed(sentences))):
            fix = only(b"".join(order))
            assert fix["flags"] & ~gps.DATE_SUSPECT == flags, order
            assert (fix["mode"] > 1) == (flags > 0), order


def test_mode_is_that_of_gsa_else_of_altitude_and_satellites():
    t = "101500.00"
    assert only(rmc(t) + gga(t) + gsa(2))["mode"] == 2
    assert only(rmc(t) + gga(t, sats="03") + gsa(3))["mode"] == 3
    assert only(rmc(t) + gga(t, sats="03"))["mode"] == 2
    assert only(rmc(t) + gga(t, sats="00"))["mode"] == 3
    assert only(rmc(t))["mode"] == 2
    fixes = FixRecorder(rmc("101500.00") + gsa(3) + rmc("101501.00") + rmc("101506.00")).fixes
    assert [fix["mode"] for fix in fixes] == [3, 3, 2]


def test_time_goes_on_without_a_fix_and_over_midnight():
    data = rmc("235959.00") + rmc("000000.00", "V", "N", ",,,", "") + rmc("000001.00", "V", "N", ",,,", "")
    fixes = FixRecorder(data + gga("000002.00", 0, "00", ",,,")).fixes
    day = fixes[0]["day"]
    assert [(f["day"] - day, f["ms"]) for f in fixes] == [(0, 86399000), (1, 0), (1, 1000), (1, 2000)]


def test_the_day_follows_the_time_that_passes_without_a_receiver():
    recorder = FixRecorder()
    night = rmc("230000.00")
    recorder.receiver.feed(night, len(night), 0)
    for hours, clock, days in ((2, "010000.00", 1), (26, "010001.00", 2), (39, "140000.00", 2)):
        data = gga(clock)
        recorder.receiver.feed(data, len(data), hours * 3600000)
        recorder.receiver.flush()
        assert recorder.fixes[-1]["day"] - recorder.fixes[0]["day"] == days, clock


def test_zda_of_another_second_makes_no_epoch():
    data = b""
    for second in range(5):
        tod = "10150%d.00" % second
        data += rmc(tod) + gga(tod) + line("GNZDA,10150%d.00,12,06,2025,00,00" % (second + 2))
    fixes = FixRecorder(data).fixes
    assert [f["ms"] % 60000 for f in fixes] == [0, 1000, 2000, 3000, 4000]


def test_a_receiver_that_repeats_itself_is_reported_once():
    recorder = FixRecorder()
    data = rmc("101500.00") + gga("101500.00")
    for now_ms in range(0, 10000, 200):
        recorder.receiver.feed(data, len(data), now_ms)
        recorder.receiver.poll(now_ms)
    assert len(recorder.fixes) == 1


def test_coordinates():
    for lat, lon, e7 in (
        ("4730,N", "00815,E", (475000000, 82500000)),
        ("4730.1234,N", "815.5678,E", (475020567, 82594633)),
        ("4660.0000,N", "00815.0,E", (470000000, 82500000)),
        ("9000.0000,S", "18000.0000,W", (-900000000, -1800000000)),
        ("47.3312,N", "00815.5678,E", None),
        ("4730.1234,N", "8.2594,E", None),
        ('4730.1"34,N', "00815.5678,E", None),
        ("4730.1234,N", "00815.5678,N", None),
        ("4760.0001,N", "00815.5678,E", None),
        ("4730.1234,", "00815.5678,E", None),
        ("04730.1234,N", "00815.5678,E", None),
        ("9000.0001,N", "00815.5678,E", None),
        ("4730.1234,N", "18000.0001,E", None),
    ):
        fix = only(rmc("101500.00", place=lat + "," + lon))
        place = (fix["lat_e7"], fix["lon_e7"]) if fix["flags"] & gps.HAS_POSITION else None
        assert place == e7, (lat, lon, place)


def test_times_of_day_that_cannot_be_are_none():
    for clock in ("240000.00", "106000.00", "101561.00", "1015", "101500<00", "101500.0x"):
        assert FixRecorder(rmc(clock)).fixes == [], clock


def test_speed_of_vtg_with_kmh_only_and_without_a_course():
    t = "101500.00"
    assert only(gga(t) + line("GNVTG,,T,,M,,N,5.400,K,A"))["speed_mms"] == 1500
    fix = only(gga(t) + line("GNVTG,,T,,M,0.040,N,0.074,K,D"))
    assert (fix["speed_mms"], fix["course_cd"]) == (21, enums.UNKNOWN)


def test_accuracy_is_that_of_gst_then_gbs_then_hdop_by_quality():
    t = "101500.00"
    gst = line("GNGST,101500.00,0.02,0.016,0.012,88.0,0.012,0.015,0.030")
    gbs = line("GNGBS,101500.00,3.0,4.0,5.0,,,,")
    late = line("GNGST,101459.00,0.02,0.016,0.012,88.0,0.012,0.015,0.030")
    for data, hacc_mm in (
        (gga(t) + gst, 38),
        (gst + gga(t), 38),
        (gbs + gga(t) + gst + gbs, 38),
        (gga(t) + gbs, 10000),
        (gga(t) + late, 18000),
        (gga(t), 18000),
        (gga(t, 2), 4500),
        (gga(t, 5), 1200),
        (gga(t, 4, hdop="0.50"), 50),
        (gga(t, 6), 36000),
        (gga(t, 8), enums.UNKNOWN),
        (gga(t, hdop="99.99"), enums.UNKNOWN),
    ):
        hacc = only(data)["hacc_mm"]
        assert hacc == hacc_mm or (hacc_mm == 10000 and 9990 <= hacc <= 10000), (data, hacc)


def test_the_model_crosses_the_end_of_a_year():
    stream = Stream(seeded(SEED), EPOCHS)
    assert stream.epochs[0].unix_ms // DAY_MS == DAY and stream.epochs[-1].unix_ms // DAY_MS == DAY + 1
