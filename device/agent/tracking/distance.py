"""Distances on the WGS 84 ellipsoid at the mean latitude (equirectangular), in integers.

Within 0.5 % of the geodesic for up to 5 km and latitudes of up to 85 degrees.
"""

from patrolink_protocol.native import const

_FULL_TURN_E7 = 3600000000
_NEAR_E7 = const(60000)  # 670 m: products below need no more than 30 bits
# Cosines of 0, 5, ... 90 degrees, times 2^14. Linear interpolation is low by 0.1 % at most.
_COS = (16384, 16322, 16135, 15826, 15396, 14849, 14189, 13421, 12551, 11585)
_COS += (10531, 9397, 8192, 6924, 5604, 4240, 2845, 1428, 0)


def _cosine(lat_e7):
    """Return the cosine of a latitude times 2^14."""
    lat_e7 = abs(lat_e7)
    i = min(lat_e7 // 50000000, 17)
    return _COS[i] - (_COS[i] - _COS[i + 1]) * (lat_e7 - i * 50000000 >> 10) // 48828  # 5 degrees >> 10


def _east_e7(lon_e7, to_lon_e7):
    east = to_lon_e7 - lon_e7
    if east > _FULL_TURN_E7 >> 1:
        return east - _FULL_TURN_E7
    return east + _FULL_TURN_E7 if east < -(_FULL_TURN_E7 >> 1) else east


def squared_distance_mm2(lat_e7, lon_e7, to_lat_e7, to_lon_e7):
    """Return the square of the distance between two points in mm^2."""
    north = to_lat_e7 - lat_e7
    east = _east_e7(lon_e7, to_lon_e7)
    cos = _cosine(lat_e7 + (north >> 1))
    square = cos * cos >> 14
    # Micrometres per 1e-7 degrees on WGS 84, from the series of its radii: 11169 - 112 cos^2, cos (11169 - 37 cos^2).
    north = north * (11169 - (112 * square >> 14)) // 1000
    east = east * (cos * (11169 - (37 * square >> 14)) >> 4) // 1024000
    return north * north + east * east


def is_within(lat_e7, lon_e7, to_lat_e7, to_lon_e7, limit_mm):
    """Return whether two points are at most `limit_mm` apart; for up to 670 m without integers above 30 bits.

    The distance of near points is the octagonal one: 4 % below to 7 % above the geodesic.
    """
    north = to_lat_e7 - lat_e7
    east = to_lon_e7 - lon_e7
    if -_NEAR_E7 < north < _NEAR_E7 and -_NEAR_E7 < east < _NEAR_E7:
        north = abs(north) * 1113 // 100
        east = (abs(east) * _cosine(lat_e7) >> 14) * 1113 // 100
        far = max(north, east)
        near = min(north, east)
        return far - (far >> 5) + (near * 13 >> 5) <= limit_mm
    return squared_distance_mm2(lat_e7, lon_e7, to_lat_e7, to_lon_e7) <= limit_mm * limit_mm
