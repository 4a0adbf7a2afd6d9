"""Checks of what a clip's segments hold against its manifest. They need the evidence key."""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

from patrolink_protocol import clip

from patrolink.core.errors import UserError
from patrolink.core.text import plural
from patrolink.core.tracks import motion
from patrolink.evidence import segment
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.manifest import Manifest, ManifestLine, segment_file
from patrolink.evidence.segment import FixRecord, Segment
from patrolink.evidence.verdict import CLOCK_STEP_MS, GAP, NOTE, TAMPERED, Finding

_SPEED_MAX_MPS = 100.0
_EARLIEST_UNIX_MS = 1_577_836_800_000  # 2020: no device is older


class SegmentChecks(NamedTuple):
    """Whether at least one segment was decrypted, and what was found."""

    decrypted: bool
    findings: list[Finding]


def check_segments(folder: Path, manifest: Manifest, evidence: EvidenceKey, skip: Container[str]) -> SegmentChecks:
    """Decrypt the segments of a clip and compare them with the manifest.

    Args:
        folder: The clip's folder.
        manifest: Its manifest, proven.
        evidence: The site's evidence key.
        skip: Names of files that are missing or altered.
    """
    findings: list[Finding] = []
    decrypted = False
    unreadable: dict[str, list[str]] = {}  # reason: files
    last_fix: FixRecord | None = None
    for line in manifest.listed:
        name = segment_file(line)
        if name in skip:
            continue
        try:
            content = segment.read(folder / name, evidence, line["sha256"])
        except segment.HashMismatchError:
            findings.append(Finding(TAMPERED, "hash", name, "the file changed while it was verified"))
            continue
        except UserError as e:
            unreadable.setdefault(str(e).removeprefix(f"{folder / name}: "), []).append(name)
            continue
        decrypted = True
        findings += [Finding(GAP, "header", name, words) for words in _check_header(content, name, manifest, line)]
        if "seg" in line:
            findings += _check_records(content, line, name)
        findings += _summarize("clock", name, list(_clock_steps(content)))
        jumps = []
        for fix in content.fixes:
            if last_fix is not None and (words := _position_jump(last_fix, fix)):
                jumps.append(words)
            last_fix = fix if fix.lat_deg is not None else last_fix
        findings += _summarize("position", name, jumps)
    for words, names in unreadable.items():
        findings += _summarize("closed", names[0], [words] * len(names))
    return SegmentChecks(decrypted, findings)


def _summarize(kind: str, name: str, notes: list[str]) -> list[Finding]:
    """Return one finding for notes of a kind that may repeat many times."""
    more = f" ({len(notes) - 1} more of this kind)" if len(notes) > 1 else ""
    return [Finding(NOTE, kind, name, notes[0] + more)] if notes else []


def _check_header(content: Segment, name: str, manifest: Manifest, line: ManifestLine) -> Iterator[str]:
    header = content.header
    if clip.segment_name(header.boot, header.step) != name:
        yield f"the header says {clip.segment_name(header.boot, header.step)}"
    codec = manifest.head["codec"] if "seg" in line else "jpeg"
    if clip.CODECS[header.codec] != codec:
        yield f"the header says {clip.CODECS[header.codec]}, the manifest says {codec}"


def _check_records(content: Segment, line: ManifestLine, name: str) -> Iterator[Finding]:
    """Compare a segment's end, frames and start time with its line of the manifest."""
    if line["whole"] and not content.complete:
        yield Finding(GAP, "records", name, content.fault)
    elif not line["whole"] and content.fault:
        words = f"{content.fault}; {plural(len(content.media), 'complete media record')}"
        yield Finding(NOTE, "records", name, words)
    if line["whole"] and content.frames != line["frames"]:
        words = f"frames in the end record: {content.frames}; in the manifest: {line['frames']}"
        yield Finding(GAP, "frames", name, words)
    pictures = sum(1 for _ in content.jpegs())
    if line["whole"] and content.header.codec != clip.H264_MP4 and pictures != line["frames"]:
        words = f"the segment holds {plural(pictures, 'picture')}, the manifest says {line['frames']}"
        yield Finding(GAP, "frames", name, words)
    lost = sum(gap.frames for gap in content.gaps)
    if line["whole"] and lost != line["lost"]:
        words = f"the segment records {lost} lost frames, the manifest says {line['lost']}"
        yield Finding(GAP, "lost", name, words)
    if content.header.start_ms != line["start_ms"]:
        yield Finding(GAP, "start", name, "the start time in the header differs from the one in the manifest")


def _clock_steps(content: Segment) -> Iterator[str]:
    """Describe where the device's clock was set or wrong."""
    offset_ms = content.header.start_ms or None
    for clock in content.clocks:
        new_offset_ms = clock.unix_ms - clock.time_ms
        if clock.unix_ms < _EARLIEST_UNIX_MS:
            yield f"the clock says {clock.unix_ms} ms, which is before 2020"
        elif offset_ms is not None and abs(new_offset_ms - offset_ms) > CLOCK_STEP_MS:
            yield f"the clock was set by {(new_offset_ms - offset_ms) / 1000:+.1f} s"
        offset_ms = new_offset_ms


def _position_jump(a: FixRecord, b: FixRecord) -> str:
    """Describe a step between two positions that is not possible; empty for a possible one."""
    if None in (a.lat_deg, a.lon_deg, b.lat_deg, b.lon_deg, a.unix_ms, b.unix_ms):
        return ""
    assert a.lat_deg is not None and b.lat_deg is not None and a.lon_deg is not None and b.lon_deg is not None
    assert a.unix_ms is not None and b.unix_ms is not None
    speed, _ = motion(b.lat_deg - a.lat_deg, b.lon_deg - a.lon_deg, b.lat_deg, b.unix_ms - a.unix_ms)
    if b.unix_ms <= a.unix_ms:
        return f"a position is {(a.unix_ms - b.unix_ms) / 1000:.1f} s older than the one before it"
    return f"{speed:.0f} m/s between two positions" if speed is not None and speed > _SPEED_MAX_MPS else ""
