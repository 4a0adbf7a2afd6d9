"""Geofences: circles on the ground, and when the wearer enters and leaves them. Integers only.

A fix may be wrong by its `hacc_mm`. A fence is entered when two consecutive fixes are inside by that margin (at most
half of the radius), and left when two are outside by it, so that noise at the edge does not cause a series of events.
Fences use the judged position (agent.tracking.plausibility); an implausible one changes nothing.
"""

from collections import namedtuple

import patrolink_enums as enums
from agent.gps.fix import HAS_POSITION, IMPLAUSIBLE

from .distance import squared_distance_mm2

FENCES_MAX = 32
_LAT_MAX, _RADIUS_MIN_M, _RADIUS_MAX_M = 85, 10, 5000
_ID_MAX = 0xFFFFFFFE  # event.ref
_MARGIN_MIN_MM = 5000  # the position of a receiver at rest wanders by this much, whatever it estimates
_MARGIN_UNKNOWN_MM = 15000  # of a fix without an estimate

# A fence that was entered (or left), and whether it makes a clip.
Crossing = namedtuple("Crossing", ("fence_id", "entered", "record"))


class _Fence:
    def __init__(self, fence_id, lat_e7, lon_e7, radius_mm, record):
        self.id = fence_id
        self.lat_e7 = lat_e7
        self.lon_e7 = lon_e7
        self.radius_mm = radius_mm
        self.record = record
        self.inside = False
        self._crossed_once = False  # the previous fix was on the other side
        # Farther north or south than this the wearer is outside: 1e-7 degrees of latitude are 11.05 mm or more.
        self.reach_e7 = radius_mm // 11

    def crossing(self, fix, margin_mm):
        """Return True when the fence is entered with this fix, False when it is left, else None."""
        north_e7 = fix.judged_lat_e7 - self.lat_e7
        if not self.inside and not -self.reach_e7 <= north_e7 <= self.reach_e7:
            self._crossed_once = False
            return None  # the usual case, which allocates nothing
        if self.inside:
            limit_mm = self.radius_mm + margin_mm
        else:
            limit_mm = self.radius_mm - min(margin_mm, self.radius_mm >> 1)
        outside = (
            squared_distance_mm2(self.lat_e7, self.lon_e7, fix.judged_lat_e7, fix.judged_lon_e7) > limit_mm * limit_mm
        )
        crossed_before, self._crossed_once = self._crossed_once, outside == self.inside
        if not (crossed_before and self._crossed_once):
            return None
        self._crossed_once = False
        self.inside = not outside
        return self.inside


class Geofences:
    """The fences of a configuration. A wearer who starts inside one enters it with the first fixes.

    Args:
        config: "geofences" of the configuration, see `parse_fences`.
    """

    def __init__(self, config):
        self._fences = parse_fences(config)

    def on_fix(self, fix):
        """Return the list of Crossings that a fix completes, () when there is none."""
        if fix.flags & (HAS_POSITION | IMPLAUSIBLE) != HAS_POSITION:
            return ()
        margin_mm = max(_MARGIN_UNKNOWN_MM if fix.hacc_mm == enums.UNKNOWN else fix.hacc_mm, _MARGIN_MIN_MM)
        crossings = None
        for fence in self._fences:
            entered = fence.crossing(fix, margin_mm)
            if entered is not None:
                crossings = crossings or []
                crossings.append(Crossing(fence.id, entered, fence.record))
        return crossings or ()


class GeofenceEvents:
    """Reports crossings to the hub as events.

    Args:
        geofences: Geofences.
        reporter: agent.tracking.reporter.Reporter.
        record: Function (clip_manifest.trigger, event id) that records a clip, or None.
    """

    def __init__(self, geofences, reporter, record):
        self._geofences = geofences
        self._reporter = reporter
        self._record = record

    def on_fix(self, fix, now_ms):
        """Raise an event for each fence that a fix enters or leaves."""
        for crossing in self._geofences.on_fix(fix):
            kind = enums.EVENT_KIND_GEOFENCE_ENTER if crossing.entered else enums.EVENT_KIND_GEOFENCE_LEAVE
            event_id = self._reporter.raise_event(kind, enums.EVENT_CAUSE_RULE, 0, now_ms, crossing.fence_id)
            if crossing.record and self._record is not None and event_id is not None:
                self._record(enums.CLIP_MANIFEST_TRIGGER_GEOFENCE, event_id)


def parse_fences(config):
    """Return the fences of a configuration.

    Args:
        config: List of {"id", "lat", "lon", "radius_m", "record"}: degrees, metres, and whether crossings make clips.

    Raises:
        ValueError: An entry cannot be used; the text names it and says what is needed.
    """
    if not isinstance(config, list) or len(config) > FENCES_MAX:
        raise ValueError("must be a list of up to %d fences" % FENCES_MAX)
    fences = []
    for i, entry in enumerate(config):
        try:
            fence = _parse_fence(entry)
            if fence.id in [other.id for other in fences]:
                raise ValueError("id %d is used by an earlier entry" % fence.id)
        except ValueError as e:
            raise ValueError("entry %d: %s" % (i + 1, e))
        fences.append(fence)
    return fences


def _parse_fence(entry):
    if not isinstance(entry, dict):
        raise ValueError('must be an object with "id", "lat", "lon", "radius_m" and optionally "record"')
    for name in entry:
        if name not in ("id", "lat", "lon", "radius_m", "record"):
            raise ValueError("unknown key %r" % name)
    record = entry.get("record", False)
    if record not in (True, False):
        raise ValueError("record must be true or false")
    fence_id = _number(entry, "id", 1, _ID_MAX, int)
    radius_m = _number(entry, "radius_m", _RADIUS_MIN_M, _RADIUS_MAX_M, (int, float))
    lat = _number(entry, "lat", -_LAT_MAX, _LAT_MAX, (int, float))
    lon = _number(entry, "lon", -180, 180, (int, float))
    return _Fence(fence_id, _degrees_e7(lat), _degrees_e7(lon), int(radius_m * 1000), bool(record))


def _number(entry, name, minimum, maximum, kind):
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, kind) or not minimum <= value <= maximum:
        raise ValueError("%s must be a number from %d to %d" % (name, minimum, maximum))
    return value


def _degrees_e7(degrees):
    """Return 1e-7 degrees. Whole degrees are split off, because with single precision the product is off by metres."""
    whole = int(degrees)
    return whole * 10000000 + int(round((degrees - whole) * 10000000))
