"""Kinds of faults of receivers, each with an input and the fixes that it must give, on both runtimes.

The inputs follow public bug reports of receivers and parsers; the kinds are those of `docs/guide/positions.md`.
"""

import json
import subprocess
from functools import reduce
from operator import xor
from typing import Any

import pytest
from patrolink.core import resources
from patrolink.core.errors import UserError

PLACE = "4730.1234,N,00815.5678,E"
LAT, LON = 47.5020567, 8.2594633
OLD = "2025-06-12T10:15:0"


def line(body: str) -> str:
    return f"${body}*{reduce(xor, body.encode()):02X}\r\n"


def rmc(
    time: str, status: str = "A", mode: str = "A", place: str = PLACE, date: str = "120625", talker: str = "GN"
) -> str:
    return line(f"{talker}RMC,{time},{status},{place},2.500,250.00,{date},,,{mode}")


def gga(time: str, quality: int = 1, sats: str = "08", place: str = PLACE, talker: str = "GN") -> str:
    return line(f"{talker}GGA,{time},{place},{quality},{sats},1.20,410.5,M,48.0,M,,")


def gsa(mode: int) -> str:
    return line(f"GNGSA,A,{mode},02,05,12,25,,,,,,,,,2.10,1.20,1.70,1")


def zda(time: str, date: str = "12,06,2025") -> str:
    return line(f"GNZDA,{time},{date},00,00")


def gns(time: str, modes: str, status: str = "") -> str:
    return line(f"GNGNS,{time},{PLACE},{modes},08,0.90,410.5,48.0,,{status}")


T = [f"10150{second}.00" for second in range(10)]
EMPTY = ",,,"
# Name -> sentences, and what each fix must have; `None` for the place of an epoch without a fix.
CASES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "last fix before RMC V": (
        rmc(T[0]) + gga(T[0]) + gsa(3) + rmc(T[1], "V", "N", EMPTY) + gsa(1),
        [{"lat_deg": LAT, "mode": 3}, {"lat_deg": None, "mode": 1, "time": OLD + "1.000Z"}],
    ),
    "last fix before GGA 0": (
        gga(T[0]) + rmc(T[0]) + gsa(3) + gga(T[1], 0, "00", EMPTY) + rmc(T[1], "V", "N", EMPTY) + gsa(1),
        [{"lat_deg": LAT, "mode": 3}, {"lat_deg": None, "mode": 1}],
    ),
    "last fix before a sentence without a time": (
        rmc(T[0]) + gga(T[0]) + line("GNRMC,,V,,,,,,,,,,N") + line("GNGGA,,,,,,0,00,,,M,,M,,"),
        [{"lat_deg": LAT}, {"lat_deg": None, "time": None}],
    ),
    "GGA 0 with the old place": (
        gga(T[0], 0, "05") + rmc(T[0], "V", "N"),
        [{"lat_deg": None, "mode": 1, "alt_m": None}],
    ),
    "GLL V with the old place": (
        zda(T[0]) + line(f"GNGLL,{PLACE},{T[0]},V,N"),
        [{"lat_deg": None, "time": OLD + "0.000Z"}],
    ),
    "time without a fix": (
        rmc(T[0]) + "".join(rmc(t, "V", "N", EMPTY) for t in T[1:4]),
        [{"time": f"{OLD}{second}.000Z", "mode": 2 if second == 0 else 1} for second in range(4)],
    ),
    "time without a fix and without a date over midnight": (
        rmc("235959.00") + rmc("000000.00", "V", "N", EMPTY, "") + gga("000001.00", 0, "00", EMPTY),
        [{"time": f"2025-06-1{day}T{time}.000Z"} for day, time in ((2, "23:59:59"), (3, "00:00:00"), (3, "00:00:01"))],
    ),
    "ZDA two seconds ahead": (
        "".join(rmc(T[i]) + gga(T[i]) + zda(T[i + 2]) for i in range(3)),
        [{"time": f"{OLD}{second}.000Z"} for second in range(3)],
    ),
    "ZDA only": (zda(T[0]) + zda(T[1]), [{"time": OLD + "0.000Z", "mode": 1}, {"time": OLD + "1.000Z"}]),
    "midnight of a year with GGA alone": (
        rmc("235959.00", date="311225") + gga("000000.00"),
        [{"time": "2025-12-31T23:59:59.000Z"}, {"time": "2026-01-01T00:00:00.000Z", "lat_deg": LAT}],
    ),
    "leap second": (
        "".join(rmc(t, date=d) for t, d in (("235959.50", "301225"), ("235960.00", "301225"), ("000000.00", "311225"))),
        [{"time": f"2025-12-3{t}Z"} for t in ("0T23:59:59.500", "0T23:59:59.999", "1T00:00:00.000")],
    ),
    "dates of 1980 and 2080, then true ones": (
        rmc(T[0], date="060180") + gga(T[1]) + zda(T[1], "05,01,2080") + rmc(T[2]) + rmc(T[3]),
        [{"date_suspect": suspect, "lat_deg": LAT} for suspect in (True, True, False, False)],
    ),
    "a date 1024 weeks back among true ones": (
        rmc(T[0]) + rmc(T[1], date="271005") + rmc(T[2]),
        [{"date_suspect": suspect} for suspect in (False, True, False)],
    ),
    "a wrong date within the window among true ones": (
        rmc(T[0]) + rmc(T[1]) + rmc(T[2], date="120630") + rmc(T[3]),
        [{"date_suspect": suspect} for suspect in (False, False, True, False)],
    ),
    "GNS with one constellation": (zda(T[0]) + gns(T[0], "NNAN"), [{"lat_deg": LAT, "mode": 3}]),
    "GNS with navigational status V": (zda(T[0]) + gns(T[0], "DAAN", "V"), [{"lat_deg": LAT, "differential": True}]),
    "GNS without a fix": (zda(T[0]) + gns(T[0], "NNNN"), [{"lat_deg": None, "mode": 1}]),
    "2D with an altitude": (gga(T[0], 1, "03") + gsa(2) + rmc(T[0]), [{"mode": 2, "lat_deg": LAT}]),
    "no satellites counted": (rmc(T[0]) + gga(T[0], 1, "00"), [{"lat_deg": LAT, "estimated": False}]),
    "simulator": (rmc(T[0], mode="S") + gga(T[0], 8), [{"estimated": True, "doubts": ["simulated"], "hacc_m": None}]),
    "manual": (rmc(T[0], mode="M") + gga(T[0], 7), [{"estimated": True, "doubts": ["manual"]}]),
    "dead reckoning": (rmc(T[0], mode="E") + gga(T[0], 6, "00"), [{"doubts": ["dead_reckoning"], "lat_deg": LAT}]),
    "sentences that contradict each other": (
        rmc(T[0], "V", "N") + gga(T[0]),
        [{"doubts": ["contradictory"], "estimated": True, "lat_deg": LAT}],
    ),
    "null island": (
        gga(T[0], 0, "00", "0000.0,N,00000.0,E") + gsa(1) + rmc(T[0], place="0000.0,N,00000.0,E"),
        [{"lat_deg": None, "mode": 1}],
    ),
    "two talkers": (
        rmc(T[0]) + gga(T[0], talker="GP") + gga(T[0], 0, "00", EMPTY, "GL"),
        [{"lat_deg": LAT, "sats": 8, "mode": 3}],
    ),
    "no decimal point": (rmc(T[0], place="4730,N,00815,E"), [{"lat_deg": 47.5, "lon_deg": 8.25}]),
    "degrees in place of minutes": (rmc(T[0], place="47.3312,N,008.2594,E"), [{"lat_deg": None}]),
    "no leading zeros": (rmc(T[0], place="4730.1234,N,815.5678,E"), [{"lon_deg": LON}]),
    "speed in km/h": (gga(T[0]) + line("GNVTG,,T,,M,,N,5.400,K,A") + zda(T[0]), [{"speed_mps": 1.5}]),
    "GST": (
        rmc(T[0], mode="R") + gga(T[0], 4) + line(f"GNGST,{T[0]},0.02,0.016,0.012,88.0,0.012,0.015,0.030"),
        [{"hacc_m": 0.038, "differential": True}],
    ),
    "the receiver hangs": ((rmc(T[0]) + gga(T[0]) + gsa(3)) * 5, [{"lat_deg": LAT}]),
    "a jump of 200 km": (
        rmc(T[0]) + rmc(T[1], place="4930.1234,N,00815.5678,E") + rmc(T[2]),
        [{"doubts": []}, {"doubts": ["implausible"], "lat_deg": 49.5020567}, {"doubts": []}],
    ),
    "two receivers on one line": (
        "".join(rmc(t) + rmc(t[:-2] + "50", place="4830.0000,N,00915.0000,E") for t in T[:6]),
        [{"doubts": ["implausible"] if i % 2 else [], "lat_deg": 48.5 if i % 2 else LAT} for i in range(12)],
    ),
}


@pytest.mark.parametrize("runtime", ["cpython", "micropython"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name, runtime):
    try:
        interpreter = resources.interpreter(runtime)
    except UserError as e:
        pytest.skip(str(e))
    data, expected = CASES[name]
    command = [*interpreter, str(resources.root() / "device" / "decode_nmea.py"), "-"]
    done = subprocess.run(command, input=data.encode(), capture_output=True, check=True)
    fixes = [json.loads(text) for text in done.stdout.splitlines()][:-1]
    assert len(fixes) == len(expected), fixes
    for fix, values in zip(fixes, expected, strict=True):
        assert {key: fix[key] for key in values} == values
