"""Horizontal error of a position, 95 %, from what the receiver sends about it.

GST (standard deviations of latitude and longitude) or GBS (expected errors of both) come first: twice their root sum of
squares (2 DRMS) holds 95 to 98 % of the positions. Without them it is HDOP times a factor by quality, which stands for
twice the user equivalent range error.
"""

import patrolink_enums as enums
from patrolink_protocol.native import const

from .fix import CONTRADICTORY, DIFFERENTIAL, ESTIMATED, MANUAL, SIMULATED

_SIGMA_MAX_MM = const(250000000)
# Error for each unit of HDOP, in 50 mm: 15 m, 3.75 m, 30 m, 1 m and 0.1 m.
_PLAIN = const(300)
_DIFFERENTIAL = const(75)
_ESTIMATED = const(600)
_RTK_FLOAT = const(20)
_RTK = const(2)


def two_drms_mm(a_mm, b_mm):
    """Return 2 * sqrt(a^2 + b^2), within 0.2 mm or 0.02 %; UNKNOWN if a value is. Needs no integer above 30 bits."""
    if not (0 <= a_mm <= _SIGMA_MAX_MM and 0 <= b_mm <= _SIGMA_MAX_MM):
        return enums.UNKNOWN
    shift = 0
    while a_mm >> shift > 16383 or b_mm >> shift > 16383:
        shift += 1
    a_mm >>= shift
    b_mm >>= shift
    square = a_mm * a_mm + b_mm * b_mm
    if square < 1 << 27:
        square <<= 2  # the root then has the factor 2
    else:
        shift += 1
    root = 32767
    while True:
        better = (root + square // root) >> 1
        if better >= root:
            break
        root = better
        if not root:
            break
    return root << shift


def from_hdop_mm(hdop_e2, flags, rtk):
    """Return HDOP times the factor of the quality; UNKNOWN without HDOP, or for a position that was not measured.

    Args:
        hdop_e2: HDOP times 100, or UNKNOWN.
        flags: Flags of the fix.
        rtk: 2 for an RTK fix with whole ambiguities, 1 for RTK float, else 0.
    """
    if hdop_e2 == enums.UNKNOWN or flags & (MANUAL | SIMULATED):
        return enums.UNKNOWN
    if flags & (ESTIMATED | CONTRADICTORY):
        factor = _ESTIMATED
    elif rtk:
        factor = _RTK if rtk == 2 else _RTK_FLOAT
    else:
        factor = _DIFFERENTIAL if flags & DIFFERENTIAL else _PLAIN
    return hdop_e2 * factor >> 1
