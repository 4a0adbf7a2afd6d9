"""The receiver decodes the logs of gpsd's regression suite to the same fixes as gpsd (the .chk files).

For each time, mode, position and altitude are compared with gpsd's last report: position within 1e-6 degrees, altitude
within 0.1 m.
"""

import json
import re
from datetime import datetime
from pathlib import Path

import patrolink_enums as enums
import pytest
from agent.gps import fix as gps
from agent.gps.sentences import GpsReceiver

LOGS = Path(__file__).resolve().parent.parent.parent / "golden" / "nmea"

_FIRST_DATE = "gpsd reports the epoch of the first date without a time: its end-of-cycle sentence came before"

# Differences that are intended, and their reasons.
TOLERATED = {
    "beidou-bd.log": _FIRST_DATE,
    "blumax-gps009.log": _FIRST_DATE,
    "rgm3800.log": _FIRST_DATE,
    "gp-320fw-2019-04-06-overflow.log": "gpsd does not report 23:57:26.02: the GLL that ends its cycles is missing",
    "neo-m8n.log": "gpsd moves 2015 to 2034 (+1024 weeks): the log has no Date header, so gpsd uses the system clock. "
    "We report the receiver's date; the comparison subtracts the 1024 weeks. The log ends before the GLL after which "
    "gpsd would report 17:19:48",
    "bu303-climbing.log": "SiRF binary without NMEA; the NMEA that gpsd prints for it is compared instead",
    "bu303-moving.log": "SiRF binary without NMEA; the NMEA that gpsd prints for it is compared instead",
    "bu303-nofix.log": "SiRF binary without NMEA, and gpsd prints none without a fix",
}
# Epochs, in Unix ms, that gpsd reports without a time or not at all. Each has a valid RMC: our receiver reports it.
NOT_IN_GPSD = {
    "beidou-bd.log": [1424850115799],
    "blumax-gps009.log": [1216391299299],
    "rgm3800.log": [1219314323342],
    "gp-320fw-2019-04-06-overflow.log": [1554595046020],
    "neo-m8n.log": [1426699188000],
}
WKRO_MS = 1024 * 7 * 86400 * 1000


def fixes_of(data: bytes) -> list[dict]:
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
            }
        )

    receiver = GpsReceiver(add)
    receiver.feed(data, len(data), 0)
    receiver.flush()
    return fixes


def reports_of(chk: Path) -> dict[int, dict]:
    """Return gpsd's last TPV report for each time in Unix ms."""
    reports = {}
    for line in chk.read_text(encoding="latin-1").splitlines():
        if line.startswith('{"class":"TPV"'):
            tpv = json.loads(line)
            if "time" in tpv:
                time = datetime.fromisoformat(tpv["time"].replace("Z", "+00:00"))
                reports[round(time.timestamp() * 1000)] = tpv
    return reports


def differences(
    fixes: list[dict], reports: dict[int, dict], not_in_gpsd: tuple[int, ...] | list[int] = ()
) -> list[str]:
    """Return descriptions of the differences between our fixes and gpsd's reports."""
    timed = [f for f in fixes if f["time"] is not None]
    by_time = {f["time"]: f for f in timed}
    texts = []
    if len(timed) != len(by_time):
        texts.append(f"{len(timed) - len(by_time)} epochs reported more than once")
    for unix_ms, tpv in reports.items():
        fix = by_time.get(unix_ms)
        if fix is None:
            texts.append(f"{tpv['time']}: no fix")
            continue
        if fix["mode"] != max(tpv["mode"], 1):
            texts.append(f"{tpv['time']}: mode {fix['mode']}, gpsd {tpv['mode']}")
        for name, tolerance in (("lat", 1e-6), ("lon", 1e-6), ("alt", 0.1)):
            a, b = fix[name], tpv.get(name)
            if (a is None) != (b is None) or (a is not None and abs(a - b) > tolerance):
                texts.append(f"{tpv['time']}: {name} {a}, gpsd {b}")
    extra = sorted(set(by_time) - set(reports))
    if extra != list(not_in_gpsd):
        texts.append(f"epochs that gpsd does not have, in Unix ms: {extra}; expected {list(not_in_gpsd)}")
    return texts


@pytest.mark.parametrize("log", sorted(LOGS.glob("*.log")), ids=lambda p: p.stem)
def test_log_agrees_with_gpsd(log):
    data, reports = log.read_bytes(), reports_of(log.with_name(log.name + ".chk"))
    fixes = fixes_of(data)
    if log.name == "neo-m8n.log":
        reports = {t - WKRO_MS: tpv for t, tpv in reports.items()}
    if b"$G" not in data and b"$PQ" not in data:
        assert fixes == [], "fixes from data without NMEA"
        lines = log.with_name(log.name + ".chk").read_bytes().splitlines()
        nmea = b"".join(line + b"\r\n" for line in lines if line.startswith(b"$G"))
        if not re.search(rb"RMC,[\d.]+,A,", nmea):
            return
        fixes = fixes_of(nmea)
    assert differences(fixes, reports, NOT_IN_GPSD.get(log.name, ())) == [], TOLERATED.get(log.name, "")


def test_comparison_detects_each_kind_of_difference():
    log = LOGS / "mt3339.log"
    fixes, reports = fixes_of(log.read_bytes()), reports_of(log.with_name(log.name + ".chk"))
    assert differences(fixes, reports) == []
    for name, step in (("lat", 2e-6), ("lon", -2e-6), ("alt", 0.2), ("mode", -1)):
        wrong = [{**f, name: f[name] + step} if f["lat"] is not None else f for f in fixes]
        assert differences(wrong, reports) != [], name
    assert differences(fixes[:-1], reports) != []
    assert differences(fixes + fixes[-1:], reports) != []
    assert differences([*fixes, {**fixes[-1], "time": fixes[-1]["time"] + 1000}], reports) != []


def test_each_tolerated_difference_has_a_reason():
    assert set(NOT_IN_GPSD) <= set(TOLERATED)
    assert set(TOLERATED) <= {log.name for log in LOGS.glob("*.log")}
