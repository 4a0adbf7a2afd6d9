"""Exports the content of a clip: film or photos, subtitles, track, contact sheet, facts and hashes."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import av
from patrolink_protocol import clip

from patrolink import __version__
from patrolink.core.decoder import rfc3339
from patrolink.core.errors import UserError
from patrolink.core.text import printable
from patrolink.evidence import timeline
from patrolink.evidence.clip_folders import file_sha256
from patrolink.evidence.contact_sheet import ContactSheet, trigger_label
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.metadata import ClipMetadata, HiddenSpan, format_srt
from patrolink.evidence.mp4_writer import Mp4Writer
from patrolink.evidence.segment import Segment
from patrolink.evidence.timeline import ClipEvent, DecodePicture, TimelineSegment
from patrolink.evidence.verdict import TAMPERED, UNVERIFIABLE
from patrolink.evidence.verify import ClipVerdict
from patrolink.report import formats

_DEVICE_NAME_MAX = 200  # bytes of a file name
_NO_EVENT = 0xFFFFFFFF
Progress = Callable[[int, int], None]  # called with segments done and segments in all


class NothingToShowError(UserError):
    """No picture of a clip can be shown."""


class PictureSize(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


@dataclass
class ClipExport:
    """What is exported of a clip.

    Args:
        result: The verification result.
        timeline: The clip's segments.
        metadata: Wall clock and positions.
        contact_sheet: The selected pictures.
        events: The clip's events.
        copied: Whether the film's pictures are the device's bit for bit.
        with_sound: Whether the clip has sound.
        size: Size of a picture as the device states it.
        recipient: Id of the evidence key that the segments name, in hexadecimal.
        frames: Pictures that could be decoded.
        files: Files written, in order.
    """

    result: ClipVerdict
    timeline: list[TimelineSegment]
    metadata: ClipMetadata
    contact_sheet: ContactSheet
    events: list[ClipEvent]
    copied: bool
    with_sound: bool
    size: PictureSize
    recipient: str
    frames: int = 0
    files: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Base name of the exported files."""
        return export_name(self.result)

    @property
    def duration_ms(self) -> int:
        """Time from the start of the first segment to the end of the last one."""
        return timeline.clip_duration_ms(self.timeline)

    @property
    def positions(self) -> int:
        """Number of valid positions."""
        return len(self.metadata.valid_fixes)

    @property
    def is_photo(self) -> bool:
        """Whether the clip holds photos, not video."""
        return bool(self.result.manifest.head["codec"] == clip.CODECS[clip.JPEG])


# --- names and refusals -----------------------------------------------------------------------------------------------


def export_name(result: ClipVerdict) -> str:
    """Return the base name of a clip's exported files: device and number."""
    device = re.sub(r"[^\w.-]|^[.-]", "_", result.folder.resolve().parent.name)
    device = device.encode()[:_DEVICE_NAME_MAX].decode(errors="ignore")
    return f"{device}-clip-{result.number:06d}"


def clip_title(result: ClipVerdict) -> str:
    """Return the title of a clip: device, number and trigger."""
    head = result.manifest.head
    return printable(f"{head['device']}, clip {result.number}: {trigger_label(head['trigger'])}")


def event_number(event: int) -> int | None:
    """Return the event number in a manifest; None for a clip without an event."""
    return None if event == _NO_EVENT else event


def stamp_text(result: ClipVerdict) -> str:
    """Return what is printed across the sheets of a clip that proves nothing; empty for another clip."""
    return result.verdict.upper() if result.verdict in (TAMPERED, UNVERIFIABLE) else ""


def check_exportable(result: ClipVerdict, anyway: bool) -> None:
    """Raise UserError for a clip that must not be exported.

    Args:
        result: The verification result.
        anyway: Accept a clip that is tampered with or unverifiable.
    """
    if stamp_text(result) and not anyway:
        first = next(finding for finding in result.findings if finding.grade == result.verdict)
        raise UserError(
            f"{result.title} is {result.verdict}: {printable(first.where)}: {printable(first.words)}; "
            "use --anyway to export it with this verdict on its sheets"
        )
    if not result.manifest.head:
        raise UserError(
            f"{result.title}: the manifest has no valid first line, so nothing can be shown; fetch it again"
        )


# --- export -----------------------------------------------------------------------------------------------------------


def preview(result: ClipVerdict, evidence: EvidenceKey, progress: Progress) -> ClipExport:
    """Read a clip once for its facts and its contact sheet, without writing files.

    Raises:
        NothingToShowError: No picture can be shown.
    """
    export = _start_export(result, evidence)
    for entry, content in _segments(export, evidence, progress):
        for time_ms, decode in timeline.pictures(content):
            _add_picture(export, entry, content, time_ms, decode)
    _check_pictures(export)
    return export


def write_media(result: ClipVerdict, evidence: EvidenceKey, folder: Path, progress: Progress) -> ClipExport:
    """Write film or photos, subtitles, track and contact sheet of a clip into a folder.

    Raises:
        NothingToShowError: No picture can be shown.
        OSError: A file cannot be written.
        av.error.FFmpegError: The film cannot be encoded.
    """
    export = _start_export(result, evidence)
    if export.is_photo:
        _write_photos(export, evidence, folder, progress)
    else:
        _write_film(export, evidence, folder, progress)
    _check_pictures(export)
    _write_track(export, folder)
    export.files.append(write_contact_sheet(export, folder))
    return export


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn errors of writing into a folder into UserError."""
    try:
        yield
    except OSError as e:
        raise UserError(f"{folder}: {e.strerror}; give a writable folder with enough space with --out") from None
    except av.error.FFmpegError as e:
        raise UserError(f"{folder}: the film cannot be encoded ({e}); see `patrolink clip verify`") from None


def write_contact_sheet(export: ClipExport, folder: Path) -> Path:
    """Write the contact sheet into a folder and return its path. Raises OSError."""
    start = rfc3339(export.metadata.unix_ms(0))
    time = f"{start[:10]} {start[11:19]} UTC" if start else "time unknown"
    count = f"{export.frames} picture" + ("s" if export.frames > 1 else "")
    subtitle = f"{time}, {export.duration_ms / 1000:.1f} s, {count}. Verdict: {export.result.verdict}"
    path = folder / f"{export.name}-contact.png"
    export.contact_sheet.write_png(path, clip_title(export.result), subtitle, stamp_text(export.result))
    return path


def write_facts(export: ClipExport, folder: Path, who: str, now_ms: int) -> None:
    """Write verdict and facts as JSON, and the hashes of all files for `sha256sum -c`. Raises OSError."""
    path = folder / f"{export.name}.json"
    hashes = {file.name: file_sha256(file) for file in export.files}
    exported = {"exported_by": who, "exported_time": rfc3339(now_ms), "patrolink": __version__}
    document = {**facts(export), **exported, "sha256": hashes, "files": list(hashes)}
    text = json.dumps(document, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    hashes[path.name] = file_sha256(path)
    checksums = folder / f"{export.name}.sha256"
    checksums.write_text("".join(f"{digest}  {name}\n" for name, digest in hashes.items()), encoding="utf-8")
    export.files += [path, checksums]


def facts(export: ClipExport) -> dict[str, Any]:
    """Return verdict and facts of a clip as a JSON object."""
    return {
        **export.result.fields(),
        "event": event_number(export.result.manifest.head["event"]),
        "start_time": rfc3339(export.metadata.unix_ms(0)),
        "duration_s": export.duration_ms / 1000,
        "pictures": export.frames,
        "copied": export.copied,
        "sound": export.with_sound,
        "fixes": export.positions,
        "not_shown": {entry.path.name: entry.fault for entry in export.timeline if entry.fault},
        "files": [str(path) for path in export.files],
    }


def _start_export(result: ClipVerdict, evidence: EvidenceKey) -> ClipExport:
    entries = timeline.build_timeline(result, evidence)
    if entries and all(entry.fault for entry in entries):
        raise NothingToShowError(f"{result.title}: nothing can be shown: {entries[0].fault}")
    events = timeline.locate_events(result, entries)
    headers = [entry.header for entry in entries if entry.header is not None]
    parameter_sets = {entry.parameter_sets for entry in entries if not entry.fault}
    hidden = [HiddenSpan(entry.at_ms, entry.end_ms, entry.fault) for entry in entries if entry.fault]
    return ClipExport(
        result,
        entries,
        ClipMetadata(result.manifest.head["device"], hidden=hidden, stamp=stamp_text(result)),
        ContactSheet(timeline.clip_duration_ms(entries), events),
        events,
        copied=len(parameter_sets) == 1 and b"" not in parameter_sets,
        with_sound=any(header.flags & clip.FLAG_SOUND for header in headers),
        size=PictureSize(headers[0].width, headers[0].height) if headers else PictureSize(0, 0),
        recipient=headers[0].recipient.hex() if headers else "",
    )


def _check_pictures(export: ClipExport) -> None:
    if not export.frames:
        raise NothingToShowError(
            f"{export.result.title}: no picture in the clip can be decoded; see `patrolink clip verify`"
        )


def _segments(
    export: ClipExport, evidence: EvidenceKey, progress: Progress
) -> Iterator[tuple[TimelineSegment, Segment]]:
    """Yield the segments that can be shown, add their metadata, and report progress."""
    total = sum(not entry.fault for entry in export.timeline)
    progress(0, total)
    for n, (entry, content) in enumerate(timeline.read_segments(export.timeline, evidence), 1):
        export.metadata.add(entry, content)
        yield entry, content
        progress(n, total)


def _add_picture(
    export: ClipExport, entry: TimelineSegment, content: Segment, time_ms: int, decode: DecodePicture
) -> None:
    export.frames += 1
    export.contact_sheet.add(entry.at_ms + time_ms, timeline.unix_ms(entry, content, time_ms), decode)


def _write_photos(export: ClipExport, evidence: EvidenceKey, folder: Path, progress: Progress) -> None:
    """Write the photos as the device made them."""
    for n, (entry, content) in enumerate(_segments(export, evidence, progress)):
        path = folder / (f"{export.name}-{n + 1}.jpg" if n else f"{export.name}.jpg")
        path.write_bytes(content.media_file())
        export.files.append(path)
        for time_ms, decode in timeline.pictures(content):
            _add_picture(export, entry, content, time_ms, decode)


def _write_film(export: ClipExport, evidence: EvidenceKey, folder: Path, progress: Progress) -> None:
    path, srt_path = folder / f"{export.name}.mp4", folder / f"{export.name}.srt"
    film = Mp4Writer(path, export.copied, export.with_sound, _film_tags(export))
    for entry, content in _segments(export, evidence, progress):
        if export.copied:
            film.copy_pictures(entry.at_ms, content)
        for time_ms, decode in timeline.pictures(content):
            _add_picture(export, entry, content, time_ms, decode)
            if not export.copied:
                film.encode_picture(entry.at_ms + time_ms, decode())
        film.add_sound(entry.at_ms, content)
    start_ms = film.start_ms or 0
    subtitles = export.metadata.subtitles(start_ms, max(export.duration_ms, start_ms + 1))
    film.close(subtitles)
    srt_path.write_text(format_srt(subtitles), encoding="utf-8")
    export.files += [path, srt_path]


def _film_tags(export: ClipExport) -> dict[str, str]:
    start = rfc3339(next((entry.unix_ms for entry in export.timeline if entry.unix_ms), None))
    comment = f"exported by patrolink {__version__}; verdict: {export.result.verdict}"
    return {"title": clip_title(export.result), "comment": comment} | ({"creation_time": start} if start else {})


def _write_track(export: ClipExport, folder: Path) -> None:
    """Write the positions, if there are any."""
    for form in ("gpx", "geojson") if export.positions else ():
        path = folder / f"{export.name}.{form}"
        with path.open("w", encoding="utf-8", newline="") as f:
            formats.WRITERS[form](export.metadata.rows(), f)
        export.files.append(path)
