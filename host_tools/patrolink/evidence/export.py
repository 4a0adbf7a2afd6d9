"""A clip for others: film, subtitles, track, contact sheet; each file with its hash, and the verdict beside them."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from patrolink_protocol import clip

from patrolink import __version__
from patrolink.core.decoder import rfc3339
from patrolink.core.errors import UserError
from patrolink.evidence import contact_sheet, movie, timeline
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.findings import TAMPERED, UNVERIFIABLE, plain
from patrolink.evidence.metadata import Story
from patrolink.evidence.segment import Segment
from patrolink.evidence.verify import Verdict, sha256
from patrolink.report import formats

_NAME = 200  # bytes of a file's name that are the device's
_NO_EVENT = 0xFFFFFFFF
_APART_MS = 2000  # an event is not that far from the segment after it
Told = Callable[[int, int], None]


class Unshown(UserError):
    """Nothing of a clip can be shown."""


@dataclass
class Export:
    """What was made of a clip.

    files   in the order in which they were made
    copied  whether the film's pictures are the device's bit for bit
    frames  pictures that could be shown; size: of a picture, as the device says
    recipient  what the segments name their evidence key by, in hexadecimal
    """

    found: Verdict
    parts: list[timeline.Part]
    story: Story
    shots: contact_sheet.Contact
    events: list[tuple[int, str]]
    copied: bool
    with_sound: bool
    size: tuple[int, int]
    recipient: str
    frames: int = 0
    files: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What its files are named by: device and clip."""
        return name_of(self.found)

    @property
    def duration_ms(self) -> int:
        """From the begin of the first segment to the end of the last one."""
        return self.parts[-1].at_ms + self.parts[-1].ms if self.parts else 0

    @property
    def positions(self) -> int:
        """How many are known."""
        return sum(fix.lat_deg is not None for _, fix in self.story.fixes)

    @property
    def photo(self) -> bool:
        """Whether it is pictures and no film."""
        return bool(self.found.manifest.head["codec"] == clip.CODECS[clip.JPEG])


def name_of(found: Verdict) -> str:
    """Return what the files of a clip are named by."""
    device = re.sub(r"[^\w.-]|^[.-]", "_", found.folder.resolve().parent.name)
    device = device.encode()[:_NAME].decode(errors="ignore")
    return f"{device}-clip-{found.number:06d}"


def title(found: Verdict) -> str:
    """Return what a clip is called."""
    head = found.manifest.head
    return plain(f"{head['device']}, clip {found.number}: {contact_sheet.word(head['trigger'])}")


def event_of(number: int) -> int | None:
    """Return the event's number that a manifest tells, None when it belongs to none."""
    return None if number == _NO_EVENT else number


def refuse(found: Verdict, anyway: bool) -> None:
    """UserError for a clip that proves nothing, unless it is wanted all the same, and for one that says nothing."""
    if stamp(found) and not anyway:
        first = next(it for it in found.findings if it.grade == found.verdict)
        raise UserError(
            f"{found.name} is {found.verdict}: {plain(first.where)}: {plain(first.words)}; "
            "with --anyway it is exported all the same, and its sheet says so"
        )
    if not found.manifest.head:
        raise UserError(f"{found.name}: its manifest has no head, so nothing can be shown; get the clip anew")


def stamp(found: Verdict) -> str:
    """Return what stands across the sheets of a clip that proves nothing, "" of another."""
    return found.verdict.upper() if found.verdict in (TAMPERED, UNVERIFIABLE) else ""


def show(found: Verdict, evidence: EvidenceKey, told: Told) -> Export:
    """Go through a clip once, for what it tells and the pictures of its contact sheet. UserError: nothing is readable.

    told  is called with parts done and all
    """
    out = _begin(found, evidence)
    for part, it in _each(out, evidence, told):
        for time_ms, picture in timeline.pictures(it):
            _take(out, part, it, time_ms, picture)
    return _shown(out)


def write(found: Verdict, evidence: EvidenceKey, folder: Path, told: Told) -> Export:
    """Write what a clip holds into a folder: film or photos, track, contact sheet. UserError: nothing is readable.

    told  is called with parts done and all
    """
    out = _begin(found, evidence)
    if out.photo:
        _photo(out, evidence, folder, told)
    else:
        _film(out, evidence, folder, told)
    _shown(out)
    _track(out, folder)
    out.files.append(sheet(out, folder))
    return out


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make a UserError of what keeps us from writing into a folder."""
    try:
        yield
    except OSError as e:
        raise UserError(f"{folder}: {e.strerror}; name with --out a folder that has room and can be written") from None
    except av.error.FFmpegError as e:
        raise UserError(f"{folder}: no film can be made of it ({e}); see `patrolink clip verify`") from None


def sheet(out: Export, folder: Path) -> Path:
    """Write the contact sheet into a folder and return its path."""
    first = rfc3339(out.story.unix_ms(0))
    when = f"{first[:10]} {first[11:19]} UTC" if first else "time not known"
    many = f"{out.frames} picture" + ("s" if out.frames > 1 else "")
    below = f"{when}, {out.duration_ms / 1000:.1f} s, {many}. Verdict: {out.found.verdict}"
    path = folder / f"{out.name}-contact.png"
    out.shots.png(path, title(out.found), below, stamp(out.found))
    return path


def seal(out: Export, folder: Path, who: str, now_ms: int) -> None:
    """Write what was judged and made: the facts as JSON, and hashes as `sha256sum -c` takes them."""
    path = folder / f"{out.name}.json"
    sums = {it.name: sha256(it) for it in out.files}
    told = {**facts(out), "exported_by": who, "exported_ms": now_ms, "patrolink": __version__, "sha256": sums}
    path.write_text(json.dumps({**told, "files": list(sums)}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sums[path.name] = sha256(path)
    listed = folder / f"{out.name}.sha256"
    listed.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")
    out.files += [path, listed]


def facts(out: Export) -> dict[str, Any]:
    """Return what was shown, as JSON takes it."""
    return {
        **out.found.facts(),
        "event": event_of(out.found.manifest.head["event"]),
        "start_ms": out.story.unix_ms(0),
        "duration_ms": out.duration_ms,
        "frames": out.frames,
        "copied": out.copied,
        "sound": out.with_sound,
        "positions": out.positions,
        "not_shown": {part.path.name: part.fault for part in out.parts if part.fault},
        "files": [str(path) for path in out.files],
    }


def _begin(found: Verdict, evidence: EvidenceKey) -> Export:
    parts = timeline.parts(found, evidence)
    if parts and all(part.fault for part in parts):
        raise Unshown(f"{found.name}: nothing of it can be shown: {parts[0].fault}")
    marks = _events(found, parts)
    duration_ms = parts[-1].at_ms + parts[-1].ms if parts else 0
    headers = [part.header for part in parts if part.header is not None]
    kinds = {part.kind for part in parts if not part.fault}
    hidden = [(part.at_ms, part.at_ms + part.ms, part.fault) for part in parts if part.fault]
    return Export(
        found,
        parts,
        Story(found.manifest.head["device"], hidden=hidden, stamp=stamp(found)),
        contact_sheet.Contact(duration_ms, marks),
        marks,
        len(kinds) == 1 and b"" not in kinds,
        any(header.flags & clip.SOUND for header in headers),
        (headers[0].width, headers[0].height) if headers else (0, 0),
        headers[0].recipient.hex() if headers else "",
    )


def _shown(out: Export) -> Export:
    if not out.frames:
        raise Unshown(f"{out.found.name}: no picture in it can be decoded; see `patrolink clip verify`")
    return out


def _events(found: Verdict, parts: list[timeline.Part]) -> list[tuple[int, str]]:
    """Return (ms of the clip, trigger) of each event. It may name a picture: then its time tells where it is."""
    out = []
    for mark in found.manifest.marks:
        part = next((part for part in parts if part.stem >= mark["seg"]), None)
        if part is not None:
            within = mark["at_ms"]
            if part.stem != mark["seg"]:
                late_ms = mark["time_ms"] - part.unix_ms if mark["time_ms"] and part.unix_ms else 0
                within = late_ms if abs(late_ms) < _APART_MS else 0
            out.append((part.at_ms + within, mark["mark"]))
    return out


def _each(out: Export, evidence: EvidenceKey, told: Told) -> Iterator[tuple[timeline.Part, Segment]]:
    """Give the parts that can be shown, taking what they tell; tell how far it is."""
    total = sum(not part.fault for part in out.parts)
    told(0, total)
    for n, (part, it) in enumerate(timeline.opened(out.parts, evidence), 1):
        out.story.take(part, it)
        yield part, it
        told(n, total)


def _take(out: Export, part: timeline.Part, it: Segment, time_ms: int, picture: timeline.Picture) -> None:
    out.frames += 1
    out.shots.take(part.at_ms + time_ms, timeline.unix_ms(part, it, time_ms), picture)


def _photo(out: Export, evidence: EvidenceKey, folder: Path, told: Told) -> None:
    """The pictures as the device made them."""
    for n, (part, it) in enumerate(_each(out, evidence, told)):
        path = folder / (f"{out.name}-{n + 1}.jpg" if n else f"{out.name}.jpg")
        path.write_bytes(it.file())
        out.files.append(path)
        for time_ms, picture in timeline.pictures(it):
            _take(out, part, it, time_ms, picture)


def _film(out: Export, evidence: EvidenceKey, folder: Path, told: Told) -> None:
    path, subtitles = folder / f"{out.name}.mp4", folder / f"{out.name}.srt"
    film = movie.Movie(path, out.copied, out.with_sound, _tags(out))
    for part, it in _each(out, evidence, told):
        if out.copied:
            film.copy(part.at_ms, it)
        for time_ms, picture in timeline.pictures(it):
            _take(out, part, it, time_ms, picture)
            if not out.copied:
                film.encode(part.at_ms + time_ms, picture())
        film.hear(part.at_ms, it)
    begins_ms = film.start_ms or 0
    lines = out.story.lines(begins_ms, max(out.duration_ms, begins_ms + 1))
    film.close(lines)
    subtitles.write_text(movie.srt(lines), encoding="utf-8")
    out.files += [path, subtitles]


def _tags(out: Export) -> dict[str, str]:
    found = out.found
    begun = rfc3339(next((part.unix_ms for part in out.parts if part.unix_ms), None))
    tags = {"title": title(found), "comment": f"exported by patrolink {__version__}; verdict: {found.verdict}"}
    return tags | ({"creation_time": begun} if begun else {})


def _track(out: Export, folder: Path) -> None:
    """The positions, if there are any."""
    for form in ("gpx", "geojson") if out.positions else ():
        path = folder / f"{out.name}.{form}"
        with path.open("w", encoding="utf-8", newline="") as f:
            formats.WRITERS[form](out.story.rows(), f)
        out.files.append(path)
