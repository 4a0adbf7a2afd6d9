"""NMEA receiver: sentences, epochs, fixes, dates, checksums and invalid input."""

import patrolink_enums as enums
from agent.gps import fix as gps
from agent.gps.fix import civil_from_days, days_from_civil
from agent.gps.sentences import GpsReceiver
from receiver_model import FixRecorder, line


def rmc(clock="120000.00", date="010124", lat="3112.3456789,N", lon="12112.3456789,E", talker="GN"):
    return line("%sRMC,%s,A,%s,%s,2.800,93.50,%s,,,A" % (talker, clock, lat, lon, date))


def gga(clock="120000.00", quality=1, sats="09", alt="12.34", lat="3112.3456789,N", lon="12112.3456789,E"):
    return line("GNGGA,%s,%s,%s,%s,%s,0.90,%s,M,10.0,M,," % (clock, lat, lon, quality, sats, alt))


def test_calendar_conversions_are_inverse():
    assert (
        days_from_civil(1970, 1, 1) == 0
        and days_from_civil(2000, 2, 29) == 11016
        and days_from_civil(2024, 1, 1) == 19723
    )
    for day in (0, 58, 59, 11015, 11016, 11017, 19723, 49709):
        assert days_from_civil(*civil_from_days(day)) == day


def test_epoch_is_decoded_to_scaled_integers():
    fix = FixRecorder(rmc() + gga() + line("GNGSA,A,3,01,02,03,04,05,,,,,,,,1.5,0.90,1.2,1")).fixes[0]
    assert fix["day"] == 19723 and fix["ms"] == 43200000
    assert fix["mode"] == 3 and fix["flags"] == gps.HAS_POSITION
    # 12.3456789 minutes / 60 = 0.205761315 degrees
    assert fix["lat_e7"] == 312057613 and fix["lon_e7"] == 1212057613
    assert fix["alt_mm"] == 12340 and fix["course_cd"] == 9350
    assert fix["speed_mms"] == 1440  # 2.8 knots = 1.44044 m/s
    assert fix["hdop_e2"] == 90 and fix["hacc_mm"] == 13500 and fix["sats"] == 9
    assert fix["systems"] == gps.GPS


def test_south_and_west_are_negative_and_halves_round_away_from_zero():
    assert FixRecorder(rmc(lon="18000.0000000,W")).fixes[0]["lon_e7"] == -1800000000
    # 30e-7 minutes are half of 1e-7 degrees
    for text, e7 in (("0000.0000029", 0), ("0000.0000030", 1), ("0000.0000089", 1), ("0000.0000090", 2)):
        assert FixRecorder(rmc(lat=text + ",N")).fixes[0]["lat_e7"] == e7
        assert FixRecorder(rmc(lat=text + ",S")).fixes[0]["lat_e7"] == -e7


def test_sentences_of_every_talker_id_are_decoded():
    for talker in "GP GN GL GA GB BD GQ QZ GI".split():
        assert FixRecorder(rmc(talker=talker)).fixes[0]["mode"] >= 2, talker
    recorder = FixRecorder(rmc() + gga() + line("PQGSA,A,3,12,,,,,,,,,,,,1.2,0.9,0.9,4"))
    assert recorder.fixes[0]["systems"] == gps.BEIDOU
    assert FixRecorder(line("PGRMC,A,1,2,3,4,5,6,7,8,9")).receiver.ignored == 1


def test_gns_sentences_with_and_without_a_fix_are_decoded():
    good = line("GNGNS,120002.00,3112.3456,N,12112.3456,E,AA,10,0.9,12.3,10.0,,,V")
    fixes = FixRecorder(rmc() + line("GNGNS,120001.00,,,,,NN,00,,,,,,V") + good).fixes
    assert [f["mode"] for f in fixes] == [2, 1, 3] and fixes[2]["alt_mm"] == 12300 and fixes[2]["sats"] == 10


def test_epoch_without_a_fix_is_reported():
    recorder = FixRecorder(line("GPRMC,,V,,,,,,,,,,N") + line("GPGGA,,,,,,0,,,,M,,M,,") + line("GPRMC,,V,,,,,,,,,,N"))
    assert [f["mode"] for f in recorder.fixes] == [1, 1]
    assert recorder.fixes[0]["day"] == enums.UNKNOWN and not recorder.fixes[0]["flags"] & gps.HAS_POSITION


def test_epoch_ends_with_the_next_one_or_after_a_pause():
    recorder = FixRecorder()
    receiver = recorder.receiver
    one, two = rmc("120000.00") + gga("120000.00"), rmc("120001.00")
    receiver.feed(one, len(one), 1000)
    receiver.poll(1499)
    assert recorder.fixes == []
    receiver.poll(1500)  # the kinds of an epoch are not known yet
    assert len(recorder.fixes) == 1 and recorder.fixes[0]["age_ms"] == 500
    receiver.feed(two, len(two), 2000)
    receiver.poll(2499)
    assert len(recorder.fixes) == 1  # GGA is missing: it may be late
    receiver.poll(2500)
    assert len(recorder.fixes) == 2 and recorder.fixes[1]["ms"] == 43201000
    for second in (2, 3, 4):
        both = rmc("12000%d.00" % second) + gga("12000%d.00" % second)
        receiver.feed(both, len(both), 1000 * second + 1000)
        receiver.feed(both, 5, 1000 * second + 1010)
        receiver.poll(1000 * second + 1089)
        assert len(recorder.fixes) == second
        receiver.poll(1000 * second + 1090)
        assert len(recorder.fixes) == second + 1 and recorder.fixes[-1]["age_ms"] == 90


def test_epoch_is_reported_once_if_its_last_sentence_is_late():
    recorder = FixRecorder()
    late = line("GNGSA,A,3,01,02,03,04,05,,,,,,,,1.5,0.90,1.2,1")
    untimed = line("GPRMC,,V,,,,,,,,,,N")
    now = 0
    for block in (rmc("120000.00"), gga("120000.00"), late, rmc("120001.00"), gga("120001.00"), untimed, untimed):
        recorder.receiver.feed(block, len(block), now)
        recorder.receiver.poll(now + 500)
        now += 1000
    assert [f["ms"] for f in recorder.fixes] == [43200000, 43201000, enums.UNKNOWN, enums.UNKNOWN]


def test_leap_second_and_fractional_seconds_are_decoded():
    fix = FixRecorder(rmc("235960.250", "311216")).fixes[0]
    assert (fix["day"], fix["ms"]) == (days_from_civil(2016, 12, 31), 86399999)  # unix time has no leap second
    assert FixRecorder(rmc("000000.1", "010117")).fixes[0]["ms"] == 100


def test_dates_after_a_week_rollover_are_flagged():
    assert not FixRecorder(rmc(date="010124")).fixes[0]["flags"] & gps.DATE_SUSPECT
    old = FixRecorder(rmc(date="180504"), days_from_civil(2024, 1, 1)).fixes[0]
    assert old["flags"] & gps.DATE_SUSPECT and old["day"] == days_from_civil(2004, 5, 18)
    recorder = FixRecorder(rmc("120000.00", "010124") + rmc("120001.00", "180504") + rmc("120002.00", "010124"))
    assert [f["flags"] & gps.DATE_SUSPECT for f in recorder.fixes] == [0, gps.DATE_SUSPECT, 0]


def test_differential_and_estimated_fixes_are_flagged():
    assert FixRecorder(rmc() + gga(quality=2)).fixes[0]["flags"] & gps.DIFFERENTIAL
    assert FixRecorder(rmc() + gga(quality=2)).fixes[0]["hacc_mm"] == 3375
    assert FixRecorder(rmc() + gga(quality=6)).fixes[0]["flags"] & gps.ESTIMATED


def test_invalid_input_is_counted():
    good = rmc()
    ubx = b"\xb5\x62\x01\x07\x04\x00\x10\x24\x0a\x2a\x44\xb8"
    recorder = FixRecorder(
        ubx + good + b"garbage\r\n" + good[:20] + good + good.replace(b"2.800", b"2.801") + b"$" + b"x" * 500 + good
    )
    receiver = recorder.receiver
    assert receiver.sentences == 3 and receiver.bad_checksum == 1 and receiver.overlong == 1
    assert receiver.skipped_bytes >= len(ubx) + 7 + 20
    assert len(recorder.fixes) == 1


def test_chunk_size_does_not_change_the_fixes():
    data = b"".join([rmc("1200%02d.00" % i) + gga("1200%02d.00" % i) for i in range(20)])
    whole = FixRecorder(data).fixes
    for size in (1, 2, 3, 7, 64, 257):
        recorder = FixRecorder()
        for i in range(0, len(data), size):
            part = data[i : i + size]
            recorder.receiver.feed(part, len(part), 0)
        recorder.receiver.flush()
        assert recorder.fixes == whole, size


def test_sentence_is_parsed_after_a_megabyte_of_noise():
    state = 1
    block = bytearray(4096)
    recorder = FixRecorder()
    for _ in range(256):
        for i in range(len(block)):
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            block[i] = (state >> 16) & 255
        recorder.receiver.feed(block, len(block), 0)
    good = b"\r\n" + rmc()
    recorder.receiver.feed(good, len(good), 0)
    recorder.receiver.flush()
    assert recorder.fixes[-1]["mode"] == 2
    assert recorder.receiver.skipped_bytes > 900000


def test_sentences_allocate_nothing():
    import gc

    if not hasattr(gc, "mem_alloc"):
        return
    receiver = GpsReceiver(lambda fix: None)
    data = bytearray(b"".join([rmc("1200%02d.00" % i) + gga("1200%02d.00" % i) for i in range(20)]))
    receiver.feed(data, len(data), 0)
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    receiver.feed(data, len(data), 0)
    after = gc.mem_alloc()
    gc.enable()
    assert after == before, after - before


def test_sentence_without_a_complete_checksum_is_rejected():
    good = rmc()
    cut = good.rstrip()[:-1] + b"\r\n"  # the line buffer still holds the last digit of the previous sentence
    for truncated in (cut, cut[:-3] + b"\r\n", good.split(b"*")[0] + b"\r\n", good[:40] + b"\r\n"):
        receiver = FixRecorder(good + truncated).receiver
        assert (receiver.sentences, receiver.bad_checksum) == (1, 1), truncated
    for digits in (b"*G0", b"*0G", b"*  ", b"*~~"):
        assert FixRecorder(good.split(b"*")[0] + digits + b"\r\n").receiver.bad_checksum == 1, digits
    upper = rmc(talker="GP")
    assert upper[-4:] != upper[-4:].lower()
    assert FixRecorder(upper[:-4] + upper[-4:].lower()).receiver.sentences == 1
    assert FixRecorder(b"$\r\n$$" + good).receiver.skipped_bytes == 3


def test_checksum_follows_the_last_star_and_fields_end_at_the_first():
    body = rmc().split(b",,,A*")[0][1:].decode() + ",,"
    recorder = FixRecorder(line(body + "*") + line(body + "*D,D,D"))
    assert recorder.receiver.sentences == 2 and recorder.receiver.bad_checksum == 0
    assert recorder.fixes == FixRecorder(rmc()).fixes


def test_position_out_of_range_is_ignored():
    for lat, lon in (
        ("9000.0001,N", "12112.0,E"),
        ("9000.0001,S", "12112.0,E"),
        ("3112.0,N", "18000.0001,E"),
        ("3112.0,N", "18000.0001,W"),
    ):
        assert not FixRecorder(rmc(lat=lat, lon=lon)).fixes[0]["flags"] & gps.HAS_POSITION, (lat, lon)
    assert FixRecorder(rmc(lat="9000.0,N", lon="18000.0,E")).fixes[0]["flags"] & gps.HAS_POSITION
