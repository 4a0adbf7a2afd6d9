"""Circles on the ground: which of them the wearer goes into and out of. Integers only.

The distance is by the ellipsoid's radii at the latitude between (equirectangular): within 0.5 % of the geodesic for
fences of up to 5 km, up to 85 degrees of latitude. A fix may be wrong by its `hacc_mm`: a fence is entered when the
wearer is in it by that much, by half its radius at most, and left when they are out of it by that much, with two fixes
one after the other. So noise at its edge does not flap.
"""

import patrolink_enums as enums
from agent.gps.fix import HAS_POSITION

MOST = 32
_LAT_MAX, _RADIUS_MIN, _RADIUS_MAX = 85, 10, 5000
_ID_MAX = 0xFFFFFFFE  # event.ref
_LEAST_MM = 5000  # a receiver that stands still wanders by this much, whatever it thinks of itself
_NOT_TOLD_MM = 15000
_TURN = 3600000000
# Cosines of 0, 5, ... 90 degrees, times 2^14. Straight lines between them are low by 0.1 % at most.
_COS = (16384, 16322, 16135, 15826, 15396, 14849, 14189, 13421, 12551, 11585)
_COS += (10531, 9397, 8192, 6924, 5604, 4240, 2845, 1428, 0)


class _Fence:
    def __init__(self, number, lat_e7, lon_e7, radius_mm, record):
        self.id = number
        self.lat_e7 = lat_e7
        self.lon_e7 = lon_e7
        self.radius_mm = radius_mm
        self.record = record
        self.inside = False
        self._once = False  # the fix before said the other
        # No distance north of which a fence can be entered: 1e-7 degrees are 11.05 mm or more.
        self.reach_e7 = radius_mm // 11

    def entered(self, fix, margin):
        """Return True for a fence that is entered now, False for one that is left, None else. margin in mm."""
        north = fix.lat_e7 - self.lat_e7
        if not self.inside and not -self.reach_e7 <= north <= self.reach_e7:
            self._once = False
            return None  # nearly always: nothing is allocated
        limit = self.radius_mm + margin if self.inside else self.radius_mm - min(margin, self.radius_mm >> 1)
        out = squared_mm(self.lat_e7, self.lon_e7, fix.lat_e7, fix.lon_e7) > limit * limit
        once, self._once = self._once, out == self.inside
        if not (once and self._once):
            return None
        self._once = False
        self.inside = not out
        return self.inside


def squared_mm(lat_e7, lon_e7, to_lat_e7, to_lon_e7):
    """Return the square of the distance of two points, mm^2."""
    north = to_lat_e7 - lat_e7
    east = to_lon_e7 - lon_e7
    if east > _TURN >> 1:
        east -= _TURN
    elif east < -(_TURN >> 1):
        east += _TURN
    at = abs(lat_e7 + (north >> 1))
    i = min(at // 50000000, 17)
    cos = _COS[i] - (_COS[i] - _COS[i + 1]) * (at - i * 50000000 >> 10) // 48828  # 5 degrees >> 10
    square = cos * cos >> 14
    # Micrometres of 1e-7 degrees on WGS 84, by the series of its radii: 11169 - 112 cos^2, cos (11169 - 37 cos^2).
    north = north * (11169 - (112 * square >> 14)) // 1000
    east = east * (cos * (11169 - (37 * square >> 14)) >> 4) // 1024000
    return north * north + east * east


class Geofences:
    """The fences of a configuration. A wearer who is in one from the beginning enters it with the first fixes."""

    def __init__(self, given):
        self._fences = check(given)

    def on_fix(self, fix):
        """Return a list of (id, entered, record) of what the fix changes; () when nothing does."""
        if not fix.flags & HAS_POSITION:
            return ()
        margin = max(_NOT_TOLD_MM if fix.hacc_mm == enums.UNKNOWN else fix.hacc_mm, _LEAST_MM)
        changed = None
        for fence in self._fences:
            entered = fence.entered(fix, margin)
            if entered is not None:
                changed = changed or []
                changed.append((fence.id, entered, fence.record))
        return changed or ()


def check(given):
    """Return the fences of a configuration's `geofences`; ValueError says which is wrong and how it should be."""
    if not isinstance(given, list) or len(given) > MOST:
        raise ValueError("geofences: a list of up to %d is needed" % MOST)
    fences = []
    for i, one in enumerate(given):
        try:
            fence = _checked(one)
            if fence.id in [other.id for other in fences]:
                raise ValueError("id %d is there already" % fence.id)
        except ValueError as e:
            raise ValueError("geofences, entry %d: %s" % (i + 1, e))
        fences.append(fence)
    return fences


def _checked(one):
    if not isinstance(one, dict):
        raise ValueError('{"id", "lat", "lon", "radius_m", "record"} is needed')
    for name in one:
        if name not in ("id", "lat", "lon", "radius_m", "record"):
            raise ValueError("%r is not known" % name)
    record = one.get("record", False)
    if record not in (True, False):
        raise ValueError("record has to be true or false")
    number = _in(one, "id", 1, _ID_MAX, int)
    radius = _in(one, "radius_m", _RADIUS_MIN, _RADIUS_MAX, (int, float))
    lat = _in(one, "lat", -_LAT_MAX, _LAT_MAX, (int, float))
    lon = _in(one, "lon", -180, 180, (int, float))
    return _Fence(number, _e7(lat), _e7(lon), int(radius * 1000), bool(record))


def _in(one, name, least, most, kind):
    value = one.get(name)
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        raise ValueError("%s has to be a number from %d to %d" % (name, least, most))
    return value


def _e7(degrees):
    """Return 1e-7 degrees. Whole degrees by themselves: on a board with short floats the product would lose a metre."""
    whole = int(degrees)
    return whole * 10000000 + int(round((degrees - whole) * 10000000))
