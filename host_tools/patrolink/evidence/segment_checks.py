"""What a clip's segments hold, against what its manifest says of them: with the evidence key only."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from patrolink_protocol import clip

from patrolink.core.errors import UserError
from patrolink.core.tracks import motion
from patrolink.evidence import segment
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.findings import GAP, NOTE, TAMPERED, Finding
from patrolink.evidence.manifest import Manifest, file_of

_CLOCK_MS = 2000  # a clock that is set by more is told
_FASTEST_MPS = 100.0
_EARLIEST_MS = 1_577_836_800_000  # 2020: no device is older


def look(folder: Path, manifest: Manifest, evidence: EvidenceKey, closed: set[str]) -> tuple[bool, list[Finding]]:
    """Return (whether a segment was opened, what was found). `closed`: files that are not there, or not as recorded."""
    out: list[Finding] = []
    opened = False
    shut: dict[str, list[str]] = {}
    last: segment.Fix | None = None
    for said in manifest.listed:
        name = file_of(said)
        if name in closed:
            continue
        try:
            found = segment.read(folder / name, evidence, said["sha256"])
        except segment.Altered:
            out.append(Finding(TAMPERED, "hash", name, "its bytes changed while they were verified"))
            continue
        except UserError as e:
            shut.setdefault(str(e).removeprefix(f"{folder / name}: "), []).append(name)
            continue
        opened = True
        out += [Finding(GAP, "header", name, words) for words in _header(found, name, manifest, "seg" in said)]
        if "seg" in said:
            out += _against(found, said, name)
        out += _first("clock", name, list(_clock(found)))
        jumps = []
        for fix in found.fixes:
            if last is not None and (words := _jump(last, fix)):
                jumps.append(words)
            last = fix if fix.lat_deg is not None else last
        out += _first("position", name, jumps)
    for words, names in shut.items():
        out += _first("closed", names[0], [words] * len(names))
    return opened, out


def _first(kind: str, name: str, told: list[str]) -> list[Finding]:
    """Return one note of what may be told of a segment many times."""
    more = f", and {len(told) - 1} more like it" if len(told) > 1 else ""
    return [Finding(NOTE, kind, name, told[0] + more)] if told else []


def _header(found: segment.Segment, name: str, manifest: Manifest, video: bool) -> Iterable[str]:
    header = found.header
    if clip.name_of(header.boot, header.step) != name:
        yield f"its header says {clip.name_of(header.boot, header.step)}"
    codec = manifest.head["codec"] if video else "jpeg"
    if clip.CODECS[header.codec] != codec:
        yield f"it is {clip.CODECS[header.codec]}, the manifest says {codec}"


def _against(found: segment.Segment, said: dict[str, Any], name: str) -> Iterable[Finding]:
    """Hold a segment to its line: its end, its frames, when it began."""
    if said["whole"] and not found.whole:
        yield Finding(GAP, "records", name, found.fault)
    elif not said["whole"] and found.fault:
        yield Finding(NOTE, "records", name, f"{found.fault}; {len(found.media)} media records are whole")
    if said["whole"] and found.frames != said["frames"]:
        yield Finding(GAP, "frames", name, f"its end says {found.frames} frames, the manifest {said['frames']}")
    pictures = sum(1 for _ in found.jpegs())
    if said["whole"] and found.header.codec != clip.H264_MP4 and pictures != said["frames"]:
        yield Finding(GAP, "frames", name, f"it holds {pictures} pictures, the manifest says {said['frames']}")
    lost = sum(frames for _, frames, _ in found.gaps)
    if said["whole"] and lost != said["lost"]:
        yield Finding(GAP, "lost", name, f"it tells of {lost} lost frames, the manifest of {said['lost']}")
    if found.header.start_ms != said["start_ms"]:
        yield Finding(GAP, "start", name, "its header and the manifest say different times for its start")


def _clock(found: segment.Segment) -> Iterable[str]:
    start_ms = found.header.start_ms
    offset = start_ms or None
    for time_ms, unix_ms, _ in found.clocks:
        if unix_ms < _EARLIEST_MS:
            yield f"the clock says {unix_ms} ms, which is before 2020"
        elif offset is not None and abs(unix_ms - time_ms - offset) > _CLOCK_MS:
            yield f"the clock was set by {(unix_ms - time_ms - offset) / 1000:+.1f} s"
        offset = unix_ms - time_ms


def _jump(a: segment.Fix, b: segment.Fix) -> str:
    """Return words for a step that nobody can make, else nothing."""
    if None in (a.lat_deg, a.lon_deg, b.lat_deg, b.lon_deg, a.unix_ms, b.unix_ms):
        return ""
    assert a.lat_deg is not None and b.lat_deg is not None and a.lon_deg is not None and b.lon_deg is not None
    assert a.unix_ms is not None and b.unix_ms is not None
    speed, _ = motion(b.lat_deg - a.lat_deg, b.lon_deg - a.lon_deg, b.lat_deg, b.unix_ms - a.unix_ms)
    if b.unix_ms <= a.unix_ms:
        return f"a position {(a.unix_ms - b.unix_ms) / 1000:.1f} s before the one ahead of it"
    return f"a step of {speed:.0f} m/s between two positions" if speed is not None and speed > _FASTEST_MPS else ""
