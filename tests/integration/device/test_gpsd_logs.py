"""The receiver decodes the logs of gpsd's regression suite to the same fixes as gpsd (the .chk files).

gpsd prints several reports of an epoch, ours is one: it is compared with the first and with the last. Position within
1e-6 degrees, altitude within 0.1 m. Differences that are intended have a kind, a reason and a number for each log.
"""

import json
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import patrolink_enums as enums
import pytest
from agent.gps import fix as gps
from agent.gps.calendar import RELEASE_DAY
from agent.gps.sentences import GpsReceiver

LOGS = Path(__file__).resolve().parent.parent.parent / "golden" / "nmea"
WKRO_MS = 1024 * 7 * 86400 * 1000

# Kinds of differences, and why they are right.
REASONS = {
    "first": "gpsd reports the epoch while it is incomplete; ours equals its last report",
    "last fix": "gpsd's last report of the epoch has lost the fix that an earlier one has; ours has it",
    "2D": "GSA says 2D (NMEA 0183, GSA field 2: the receiver's own statement); gpsd says 3D since there is an altitude",
    "time without a fix": "RMC V, GGA 0: NMEA 0183 calls the position invalid, not the time; gpsd reports no time",
    "first date": "gpsd reports the epoch of the first date without a time: its end-of-cycle sentence came before",
    "last epoch": "the log ends before the sentence after which gpsd would report the epoch",
    "no end of cycle": "gpsd drops the epoch: the GLL that ends its cycles is missing",
}
# Log -> kind -> number.
TOLERATED: dict[str, dict[str, int]] = {
    "beidou-bd.log": {"time without a fix": 5, "first date": 1},
    "blumax-gps009.log": {"time without a fix": 4, "first date": 1},
    "garmin-geko201.log": {"time without a fix": 18},
    "gp-320fw-2019-04-06-overflow.log": {"no end of cycle": 1},
    "mtk-3329.log": {"2D": 4},
    "neo-m8n.log": {"last epoch": 1},
    "quectel-eg25-g.log": {"time without a fix": 7},
    "rgm3800.log": {"2D": 1, "time without a fix": 2, "first date": 1},
    "sl869.log": {"2D": 2, "time without a fix": 7},
    "tn200.log": {"time without a fix": 19},
}
# Epochs with a fix, in Unix ms, that gpsd reports without a time or not at all.
NOT_IN_GPSD = {
    1424850115799: "first date",
    1216391299299: "first date",
    1219314323342: "first date",
    1554595046020: "no end of cycle",
    1426699188000: "last epoch",
}


def fixes_of(data: bytes) -> list[dict[str, Any]]:
    fixes = []

    def add(fix):
        has_position = fix.flags & gps.HAS_POSITION
        fixes.append(
            {
                "time": None if fix.day == enums.UNKNOWN else fix.day * 86_400_000 + fix.ms,
                "mode": fix.mode,
                "lat": fix.lat_e7 / 1e7 if has_position else None,
                "lon": fix.lon_e7 / 1e7 if has_position else None,
                "alt": fix.alt_mm / 1000 if has_position and fix.alt_mm != enums.UNKNOWN else None,
                "suspect": bool(fix.flags & gps.DATE_SUSPECT),
            }
        )

    receiver = GpsReceiver(add)
    receiver.feed(data, len(data), 0)
    receiver.flush()
    return fixes


def reports_of(chk: Path) -> dict[int, list[dict[str, Any]]]:
    """Return gpsd's TPV reports for each time in Unix ms."""
    reports: dict[int, list[dict[str, Any]]] = {}
    for line in chk.read_text(encoding="latin-1").splitlines():
        if line.startswith('{"class":"TPV"'):
            tpv = json.loads(line)
            if "time" in tpv:
                time = datetime.fromisoformat(tpv["time"].replace("Z", "+00:00"))
                reports.setdefault(round(time.timestamp() * 1000), []).append(tpv)
    return reports


def differs(fix: dict[str, Any], tpv: dict[str, Any]) -> set[str]:
    """Return the names of the values that differ."""
    names = {"mode"} if fix["mode"] != max(tpv["mode"], 1) else set()
    for name, tolerance in (("lat", 1e-6), ("lon", 1e-6), ("alt", 0.1)):
        a, b = fix[name], tpv.get(name)
        if (a is None) != (b is None) or (a is not None and b is not None and abs(a - b) > tolerance):
            names.add(name)
    return names


def kind_of(fix: dict[str, Any], tpvs: list[dict[str, Any]], says_2d: bool) -> str | None:
    """Return the kind of difference of an epoch that both report, or None."""
    first, last = differs(fix, tpvs[0]), differs(fix, tpvs[-1])
    if not last:
        return "first" if first else None
    if tpvs[-1]["mode"] < 2 and any(not differs(fix, tpv) for tpv in tpvs):
        return "last fix"
    if last == {"mode"} and (fix["mode"], tpvs[-1]["mode"], says_2d) == (2, 3, True):
        return "2D"
    return f"{tpvs[-1]['time']}: {sorted(last)} of {fix}, gpsd {tpvs[-1]}"


def differences(fixes: list[dict[str, Any]], reports: dict[int, list[dict[str, Any]]], data: bytes) -> Counter[str]:
    """Count the differences between our fixes and gpsd's reports by kind."""
    by_time = {f["time"]: f for f in fixes if f["time"] is not None}
    kinds: Counter[str] = Counter()
    doubled = sum(f["time"] is not None for f in fixes) - len(by_time)
    if doubled:
        kinds["reported more than once"] = doubled
    says_2d = re.search(rb"GSA,[AM],2,", data) is not None
    for unix_ms, tpvs in reports.items():
        fix = by_time.get(unix_ms)
        kind = f"{tpvs[0]['time']}: no fix" if fix is None else kind_of(fix, tpvs, says_2d)
        if kind is not None:
            kinds[kind] += 1
    for unix_ms in sorted(by_time.keys() - reports.keys()):
        has_fix = by_time[unix_ms]["mode"] > 1
        kinds[NOT_IN_GPSD.get(unix_ms, f"{unix_ms}: not in gpsd") if has_fix else "time without a fix"] += 1
    return kinds


@pytest.mark.parametrize("log", sorted(LOGS.glob("*.log")), ids=lambda p: p.stem)
def test_log_agrees_with_gpsd(log):
    data, reports = log.read_bytes(), reports_of(log.with_name(log.name + ".chk"))
    if log.name == "neo-m8n.log":
        # The log has no Date header, so gpsd uses the system clock and moves 2015 to 2034. We report what came.
        reports = {t - WKRO_MS: tpvs for t, tpvs in reports.items()}
    if b"$G" not in data and b"$PQ" not in data:  # SiRF binary; the NMEA that gpsd prints for it is compared instead
        assert fixes_of(data) == [], "fixes from data without NMEA"
        lines = log.with_name(log.name + ".chk").read_bytes().splitlines()
        data = b"".join(line + b"\r\n" for line in lines if line.startswith(b"$G"))
        if not re.search(rb"RMC,[\d.]+,A,", data):  # gpsd prints none without a fix
            return
    fixes = fixes_of(data)
    kinds = differences(fixes, reports, data)
    kinds.pop("first", None)
    assert kinds == TOLERATED.get(log.name, {})
    floor_ms, ceiling_ms = RELEASE_DAY * 86_400_000, (RELEASE_DAY + 7306) * 86_400_000
    assert all(f["suspect"] != (floor_ms <= f["time"] < ceiling_ms) for f in fixes if f["time"] is not None)


def test_comparison_detects_each_kind_of_difference():
    log = LOGS / "mt3339.log"
    data, reports = log.read_bytes(), reports_of(log.with_name(log.name + ".chk"))
    fixes = fixes_of(data)
    assert differences(fixes, reports, data).keys() <= {"first"}
    for name, step in (("lat", 2e-6), ("lon", -2e-6), ("alt", 0.2), ("mode", -1)):
        wrong = [{**f, name: f[name] + step} if f["lat"] is not None else f for f in fixes]
        assert differences(wrong, reports, data).keys() - REASONS.keys(), name
    assert differences(fixes[:-1], reports, data).keys() - REASONS.keys()
    assert differences(fixes + fixes[-1:], reports, data).keys() - REASONS.keys()
    later = {**fixes[-1], "time": fixes[-1]["time"] + 1000}
    assert differences([*fixes, later], reports, data).keys() - REASONS.keys()


def test_each_tolerated_difference_has_a_reason():
    assert {kind for kinds in TOLERATED.values() for kind in kinds} <= REASONS.keys()
    assert set(NOT_IN_GPSD.values()) <= REASONS.keys()
    assert set(TOLERATED) <= {log.name for log in LOGS.glob("*.log")}
