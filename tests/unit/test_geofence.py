"""Geofences: the distance against Vincenty's formula on the ellipsoid, and crossings of an edge."""

from math import atan, atan2, cos, pi, sin, sqrt, tan

import patrolink_enums as enums
from agent.gps.fix import HAS_POSITION, Fix
from agent.tracking import geofence
from agent.tracking.distance import squared_distance_mm2
from allocation import allocated
from seeded_random import seeded

SEED = 6
HOME = {"id": 1, "lat": 31.2304, "lon": 121.4737, "radius_m": 50, "record": True}


def vincenty(lat1, lon1, lat2, lon2):
    """Return the geodesic on WGS 84 in metres (T. Vincenty, Survey Review 23/176, inverse)."""
    a, f = 6378137.0, 1 / 298.257223563
    b = a * (1 - f)
    rad = pi / 180
    u1, u2, total = atan((1 - f) * tan(lat1 * rad)), atan((1 - f) * tan(lat2 * rad)), (lon2 - lon1) * rad
    lam = total
    for _ in range(100):
        x = cos(u2) * sin(lam)
        y = cos(u1) * sin(u2) - sin(u1) * cos(u2) * cos(lam)
        sin_s = sqrt(x * x + y * y)
        if sin_s == 0:
            return 0.0
        cos_s = sin(u1) * sin(u2) + cos(u1) * cos(u2) * cos(lam)
        s = atan2(sin_s, cos_s)
        sin_a = cos(u1) * cos(u2) * sin(lam) / sin_s
        cos2_a = 1 - sin_a * sin_a
        m = cos_s - 2 * sin(u1) * sin(u2) / cos2_a if cos2_a else 0.0
        c = f / 16 * cos2_a * (4 + f * (4 - 3 * cos2_a))
        before = lam
        lam = total + (1 - c) * f * sin_a * (s + c * sin_s * (m + c * cos_s * (2 * m * m - 1)))
        if abs(lam - before) < 1e-13:
            break
    uu = cos2_a * (a * a - b * b) / (b * b)
    big_a = 1 + uu / 16384 * (4096 + uu * (uu * (320 - 175 * uu) - 768))
    big_b = uu / 1024 * (256 + uu * (uu * (74 - 47 * uu) - 128))
    d = m + big_b / 4 * (cos_s * (2 * m * m - 1) - big_b / 6 * m * (4 * sin_s * sin_s - 3) * (4 * m * m - 3))
    return b * big_a * (s - big_b * sin_s * d)


def fix_at(lat_e7, lon_e7, hacc_mm=5000):
    fix = Fix()
    fix.judged_lat_e7, fix.judged_lon_e7, fix.hacc_mm, fix.flags = lat_e7, lon_e7, hacc_mm, HAS_POSITION
    fix.mode = 3
    return fix


def north_of_home(distance_m, hacc_mm=5000):
    return fix_at(
        312304000 + int(distance_m * 1e7 / 110877), 1214737000, hacc_mm
    )  # length of a degree at 31.23 degrees is 110877 m


def test_vincenty_matches_a_published_example():
    # Flinders Peak to Buninyon, from the manual of Australia's geodetic datum.
    distance_m = vincenty(
        -(37 + 57 / 60 + 3.72030 / 3600), 144 + 25 / 60 + 29.52440 / 3600, -37.652821138889, 143.926495527778
    )
    assert abs(distance_m - 54972.271) < 0.01, distance_m


def test_the_distance_is_within_half_a_percent_of_the_geodesic():
    randbelow = seeded(SEED)
    worst = 0
    for i in range(3000):
        lat = randbelow(1 << 16) * 1700000000 // 65535 - 850000000 if i > 200 else (850000000, -850000000, 0)[i % 3]
        lon = randbelow(1 << 16) * 54931 - 1800000000 + randbelow(50000)
        reach = (20, 100, 1000, 5000)[i % 4] * 90  # metres in units of about 1e-7 degrees
        to_lat = lat + randbelow(2 * reach) - reach
        to_lon = lon + int((randbelow(2 * reach) - reach) / max(cos(lat * pi / 1.8e9), 0.08))
        expected = vincenty(lat / 1e7, lon / 1e7, to_lat / 1e7, to_lon / 1e7)
        if to_lon > 1800000000:
            to_lon -= 3600000000
        if to_lon < -1800000000:
            to_lon += 3600000000
        if expected < 10:
            continue
        result = sqrt(squared_distance_mm2(lat, lon, to_lat, to_lon)) / 1000
        error = abs(result - expected) / expected
        assert error < 0.005, "seed %d, %d: %d %d %d %d gives %f instead of %f" % (
            SEED,
            i,
            lat,
            lon,
            to_lat,
            to_lon,
            result,
            expected,
        )
        worst = max(worst, error)
    assert worst > 0.0001  # proves that the reference differs from the tested formula


def test_a_walk_in_and_out_raises_two_crossings():
    fences = geofence.Geofences([HOME])
    crossings = []
    for distance_m in list(range(120, -1, -1)) + list(range(121)):
        for crossing in fences.on_fix(north_of_home(distance_m)):
            crossings.append((distance_m, crossing))
    (entered_m, entered), (left_m, left) = crossings
    assert (entered.fence_id, entered.entered, entered.record) == (1, True, True)
    assert (left.fence_id, left.entered, left.record) == (1, False, True)
    # hysteresis of 5 m, plus one metre until the second fix
    assert 43 <= entered_m <= 44 and 56 <= left_m <= 58, crossings


def test_noise_at_the_edge_causes_few_crossings():
    randbelow = seeded(SEED)
    for hacc in (4000, 10000, 20000):
        fences = geofence.Geofences([HOME])
        changes = 0
        for _ in range(5000):
            # The estimate is two standard deviations; the sum of twelve uniform numbers is nearly normal.
            noise = (sum([randbelow(1000) for _ in range(12)]) - 5994) / 1000 * hacc / 2000
            changes += len(fences.on_fix(north_of_home(50 + noise, hacc)))
        assert changes <= 12, "seed %d, estimate %d: %d changes" % (SEED, hacc, changes)


def cross(fences, fix):
    """Return the crossings of the second of two equal fixes; the first one must not complete a crossing."""
    assert fences.on_fix(fix) == ()
    return fences.on_fix(fix)


def test_crossings_with_an_error_estimate_larger_than_the_fence():
    fences = geofence.Geofences([HOME])
    assert cross(fences, north_of_home(30, 90000)) == ()
    assert cross(fences, north_of_home(20, 90000)) == [(1, True, True)]
    assert cross(fences, north_of_home(130, 90000)) == ()
    assert cross(fences, north_of_home(145, 90000)) == [(1, False, True)]


def test_one_outlier_changes_nothing():
    fences = geofence.Geofences([HOME])
    for distance_m in (0, 60, 0, 5000, 0, 200):
        assert fences.on_fix(north_of_home(distance_m)) == ()
    assert cross(fences, north_of_home(0)) == [(1, True, True)]
    for distance_m in (200, 0, 200, 0):
        assert fences.on_fix(north_of_home(distance_m)) == ()


def test_a_fix_without_position_or_estimate_changes_nothing():
    fences = geofence.Geofences([HOME])
    without_position = north_of_home(0)
    without_position.flags = 0
    assert cross(fences, without_position) == ()
    assert cross(fences, north_of_home(40, enums.UNKNOWN)) == ()
    assert cross(fences, north_of_home(34, enums.UNKNOWN)) == [(1, True, True)]
    assert cross(fences, without_position) == ()


def test_crossings_of_several_fences_at_the_date_line():
    one = {"id": 7, "lat": 0, "lon": 180, "radius_m": 1000}
    two = {"id": 8, "lat": 0.001, "lon": -179.999, "radius_m": 1000, "record": True}
    fences = geofence.Geofences([one, two])
    assert cross(fences, fix_at(0, -1799990000)) == [(7, True, False), (8, True, True)]
    assert cross(fences, fix_at(0, 1799950000)) == ()
    assert cross(fences, fix_at(0, 0)) == [(7, False, False), (8, False, True)]


def test_a_fix_far_from_all_fences_allocates_nothing():
    fences = geofence.Geofences([dict(HOME, id=i + 1) for i in range(geofence.FENCES_MAX)])
    assert allocated(fences.on_fix, fix_at(300000000, 1000000000)) == 0


def test_the_error_of_an_invalid_fence_names_entry_and_reason():
    for config, message in (
        ({}, "a list of up to 32"),
        ([dict(HOME, id=i + 1) for i in range(33)], "a list of up to 32"),
        ([HOME, HOME], "entry 2: id 1 is used by an earlier entry"),
        ([[]], "entry 1: must be an object"),
        ([dict(HOME, radios_m=5)], "unknown key 'radios_m'"),
        ([dict(HOME, id=0)], "id must be a number from 1"),
        ([dict(HOME, id=1.5)], "id must be a number from 1"),
        ([dict(HOME, id=True)], "id must be a number from 1"),
        ([dict(HOME, lat=85.1)], "lat must be a number from -85 to 85"),
        ([dict(HOME, lon="121")], "lon must be a number from -180 to 180"),
        ([dict(HOME, lat=float("nan"))], "lat must be"),
        ([dict(HOME, radius_m=9)], "radius_m must be a number from 10 to 5000"),
        ([dict(HOME, record="no")], "record must be true or false"),
        ([{"id": 3}], "radius_m must be a number"),
    ):
        try:
            geofence.parse_fences(config)
        except ValueError as e:
            assert message in str(e), str(e)
            continue
        raise AssertionError("accepted: %r" % (config,))
    assert geofence.parse_fences([]) == []
    fence = geofence.parse_fences([dict(HOME, lat=-0.5, lon=-179.9999999)])[0]
    assert (fence.lat_e7, fence.lon_e7, fence.radius_mm) == (-5000000, -1799999999, 50000)
