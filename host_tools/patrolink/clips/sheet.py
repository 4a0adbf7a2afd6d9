"""The evidence sheet: one self-contained page to print, with all that proves a clip."""

import base64
import html as markup
import math
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from patrolink_protocol import clip

from patrolink import __version__
from patrolink.clips import contact, findings, manifest
from patrolink.clips.export import Export, event_of, stamp, title
from patrolink.clips.story import words
from patrolink.clips.verify import sha256
from patrolink.decoding import rfc3339
from patrolink.report.track import local_metres

_MEANING = {
    findings.VALID: "Seal, chain and every hash are right, and nothing is missing.",
    findings.GAPS: "What is there is as it was recorded. Something is missing, and is told below.",
    findings.TAMPERED: "A hash, the chain or the signature is wrong, or two clips claim one number.",
    findings.UNVERIFIABLE: "There is no seal, no known key of the signer, or a version that is not known.",
}
_CLASS = {findings.GAPS: "gaps"}
_CLOCKS = {clip.BY_NONE: "nothing", clip.BY_NETWORK: "network", clip.BY_GPS: "GPS"}
_ONE = "Made smaller."
_MANY = (
    "At even distances, made smaller. Framed: the first picture after an event, in red that of an SOS or of a fall. "
    "Seconds are from the first event."
)
_MAP = (900, 340, 30)  # width, height, edge
_MOST_POINTS = 2000  # of a track on the map


def write(out: Export, folder: Path, who: str, now_ms: int, evidence_id: str) -> None:
    """Write the page of an export whose files are there into their folder. Raises OSError."""
    path = folder / f"{out.name}-sheet.html"
    page = resources.files("patrolink.clips").joinpath("sheet.html").read_text(encoding="utf-8")
    verdict = out.found.verdict
    filled = {
        "title": markup.escape(title(out.found)),
        "verdict": verdict,
        "stamp": stamp(out.found),
        "class": _CLASS.get(verdict, verdict),
        "meaning": _MEANING[verdict],
        "depth": "Judged by hashes, chain and signature"
        + (", and by what is inside the segments, with the evidence key." if out.found.looked_inside else " only."),
        "findings": _findings(out),
        "recording": _pairs(_recording(out)),
        "proof": _proof(out),
        "export": _pairs(_exported(out, who, now_ms, evidence_id)),
        "shots_are": _ONE if out.photo else _MANY,
        "shots": "".join(_shot(shot) for shot in out.shots.shots),
        "map": _map(out),
        "events": _events(out),
        "segments": _segments(out),
        "files": _files(out.files),
        "manifest": markup.escape(out.found.manifest.data.decode("utf-8", "replace")),
        "again": markup.escape(f"patrolink clip verify --signers signers.toml {out.found.folder.name}"),
    }
    # In one pass: what a device says cannot name a place of the page.
    parts = page.split("{{")
    text = parts[0] + "".join(filled[key] + rest for key, _, rest in (part.partition("}}") for part in parts[1:]))
    path.write_text(text, encoding="utf-8")
    out.files.append(path)


def _cells(values: Iterable[Any]) -> str:
    return "".join(f"<td>{markup.escape(str(value))}</td>" for value in values)


def _table(heads: Iterable[str], rows: Iterable[str], kind: str = "") -> str:
    top = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _pairs(pairs: dict[str, Any]) -> str:
    return "".join(f"<tr><th>{key}</th>{_cells([value])}</tr>" for key, value in pairs.items())


def _when(unix_ms: int | None) -> str:
    told = rfc3339(unix_ms) if unix_ms else None
    return f"{told[:10]} {told[11:23]} UTC" if told else "not known"


def _findings(out: Export) -> str:
    if not out.found.findings:
        return ""
    rows = (_cells((it.grade, it.where, it.words)) for it in out.found.findings)
    return "<h2>Findings</h2>" + _table(("Grade", "Where", "What"), rows)


def _recording(out: Export) -> dict[str, Any]:
    head = out.found.manifest.head
    event = event_of(head["event"])
    end_ms = out.story.unix_ms(max(0, out.duration_ms - 1))
    return {
        "Device": head["device"],
        "Clip": out.found.number,
        "Event": contact.word(head["trigger"]) + ("" if event is None else f", number {event}"),
        "Event at": _when(head["time_ms"]),
        "Begins": _when(out.story.unix_ms(0)),
        "Ends": _when(end_ms),
        "Clock set by": ", ".join(sorted(_CLOCKS.get(it, "?") for it in out.story.clocks)) or "not told",
        "Length": f"{out.duration_ms / 1000:.2f} s",
        "Pictures": f"{out.frames}, {out.size[0]} x {out.size[1]}, {head['codec'].replace('_', ' in ').upper()}",
        "Sound": "yes" if out.with_sound else "no",
    }


def _proof(out: Export) -> str:
    head, seal = out.found.manifest.head, out.found.manifest.seal
    pairs = {
        "Signed by": head["signer"],
        "Chain before": head["previous"],
        "Chain": seal.get("chain", "none: there is no seal"),
        "Signature": seal.get("sig", "none: there is no seal"),
    }
    rows = "".join(
        f"<tr><th>{key}</th><td><code>{markup.escape(value)}</code></td></tr>" for key, value in pairs.items()
    )
    return rows + _pairs({"Signer is": _signer(out)})


def _signer(out: Export) -> str:
    wrong = {it.kind for it in out.found.findings}
    if "signature" in wrong or not out.found.manifest.seal:
        return "not proven"
    return "not known to the site" if "signer" in wrong else "known to the site by this key"


def _exported(out: Export, who: str, now_ms: int, evidence_id: str) -> dict[str, Any]:
    how = "the device's, bit for bit" if out.photo else "encoded anew from the device's JPEG pictures"
    return {
        "By": who,
        "At": _when(now_ms),
        "With": f"patrolink {__version__}",
        "Evidence key": evidence_id,
        "Pictures": "the device's H.264, bit for bit" if out.copied else how,
        "Times": "of each picture as the device took it; gaps stay gaps",
    }


def _shot(shot: contact.Shot) -> str:
    picture = base64.b64encode(shot.jpeg()).decode()
    style = f' style="--mark: {shot.colour}" class="event"' if shot.colour else ""
    return (
        f'<figure{style}><img alt="{shot.when}" src="data:image/jpeg;base64,{picture}">'
        f"<figcaption>{shot.when}<span>{shot.offset}</span><b>{shot.phase}</b></figcaption></figure>"
    )


def _events(out: Export) -> str:
    at = {mark["event"]: mark for mark in out.found.manifest.marks}
    rows = [
        (mark["time_ms"], _when(mark["time_ms"]), "event", contact.word(mark["mark"]), _number(mark["event"]))
        for mark in at.values()
    ]
    for said in out.found.manifest.accesses:
        facts = ", ".join(f"{key} {_plain(value)}" for key, value in list(said.items())[3:])
        rows.append((said["time_ms"], _when(said["time_ms"]), said["who"], said["access"].replace("_", " "), facts))
    if not rows:
        return '<p class="dim">None.</p>'
    return _table(("When", "Who", "What", ""), (_cells(row[1:]) for row in sorted(rows)))


def _number(event: int) -> str:
    number = event_of(event)
    return "" if number is None else f"number {number}"


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _segments(out: Export) -> str:
    wrong: dict[str, str] = {}
    for it in out.found.findings:
        if it.grade != findings.NOTE:
            wrong.setdefault(it.where, "altered" if it.grade == findings.TAMPERED else it.kind)
    rows = []
    for said in out.found.manifest.listed:
        name = manifest.file_of(said)
        video: tuple[Any, ...] = ("", "", "thumbnail")
        if "seg" in said:
            starts = _when(said["start_ms"])
            video = (starts[11:23] or starts, f"{said['ms'] / 1000:.2f}", said["frames"])
        state = f'<td class="wrong">{wrong[name]}</td>' if name in wrong else "<td>right</td>"
        rows.append(_cells((name, *video, said["bytes"])) + f"<td><code>{said['sha256']}</code></td>{state}")
    return _table(("File", "Starts", "s", "Pictures", "Bytes", "SHA-256", "Is"), rows, "hashes")


def _files(files: list[Path]) -> str:
    rows = []
    for path in files:
        rows.append(_cells((path.name, path.stat().st_size)) + f"<td><code>{sha256(path)}</code></td>")
    return _table(("File", "Bytes", "SHA-256"), rows, "hashes")


def _map(out: Export) -> str:
    """Return the track as a drawing, in metres from its start: it needs no network and can be printed."""
    placed = [(at_ms, fix) for at_ms, fix in out.story.fixes if fix.lat_deg is not None]
    if not placed:
        return '<p class="dim">No position is known.</p>'
    points = local_metres(out.story.rows())
    width, height, edge = _MAP
    spans = [(min(axis), max(axis)) for axis in zip(*points, strict=True)]
    scale = min(
        (width - 2 * edge) / max(spans[0][1] - spans[0][0], 20),
        (height - 2 * edge) / max(spans[1][1] - spans[1][0], 20),
    )
    middle = [sum(span) / 2 for span in spans]
    drawn = [(width / 2 + (x - middle[0]) * scale, height / 2 - (y - middle[1]) * scale) for x, y in points]
    every = -(-len(drawn) // _MOST_POINTS)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn[::every])
    marks = [_dot(drawn[0], "#1a7f37", "begin", False), _dot(drawn[-1], "#1f2328", "end", False)]
    for when, trigger in out.events[: contact.MOST]:
        near = min(range(len(placed)), key=lambda i: abs(placed[i][0] - when))
        marks.append(
            _dot(drawn[near], contact.RED if trigger in contact.URGENT else contact.BLUE, contact.word(trigger))
        )
    first, last = words(placed[0][1]), words(placed[-1][1])
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Map of the track">{_bar(scale, height)}'
        f'<polyline points="{line}" fill="none" stroke="#1f6feb" stroke-width="3" stroke-linejoin="round"/>'
        f"{''.join(marks)}</svg><p>{len(placed)} positions, north is up. Begin: {first}. End: {last}.</p>"
    )


def _dot(at: tuple[float, float], colour: str, word: str, event: bool = True) -> str:
    """A place with its word: of an event left above it, of begin and end right below, as they may be the same place."""
    x, y = at
    dx, dy, anchor = (-8, -8, "end") if event else (10, 16, "start")
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}"/>'
        f'<text x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}" font-size="14" fill="{colour}">'
        f"{markup.escape(word)}</text>"
    )


def _bar(scale: float, height: int) -> str:
    """A bar of 1, 2 or 5 times a power of ten metres."""
    power = 10 ** math.floor(math.log10(160 / scale))
    metres = next(n for n in (5, 2, 1) if n * power * scale <= 160) * power
    label = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    return (
        f'<rect x="16" y="{height - 20}" width="{metres * scale:.1f}" height="3" fill="#1f2328"/>'
        f'<text x="16" y="{height - 27}" font-size="13" fill="#1f2328">{label}</text>'
    )
