"""The evidence sheet: one self-contained page to print. What proves a clip is on its first page, hashes at its end."""

import base64
import html as markup
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

from patrolink_protocol import clip

from patrolink import __version__
from patrolink.core.decoder import rfc3339
from patrolink.evidence import contact_sheet, findings, manifest, track_map, verification_recipe
from patrolink.evidence.export import Export, event_of, stamp, title
from patrolink.evidence.findings import Finding, plain
from patrolink.evidence.verify import sha256

_MEANING = {
    findings.VALID: "Seal, chain and every hash are right, and nothing is missing.",
    findings.GAPS: "What is there is as it was recorded. Something is missing, and is told below.",
    findings.TAMPERED: "A hash, the chain or the signature is wrong, or two clips claim one number.",
    findings.UNVERIFIABLE: "There is no seal, no known key of the signer, or a version that is not known.",
}
_CLASS = {findings.GAPS: "gaps"}
_CLOCKS = {clip.BY_NONE: "nothing", clip.BY_NETWORK: "the network", clip.BY_GPS: "GPS"}
_SHOTS = (
    "At even distances, made smaller. Framed: the first picture after an event, in red that of an SOS or of a fall. "
    "Seconds are from the first event."
)
_FIRST_PAGE = 6  # findings that stand there
_NEAR_MS = 10_000  # of an event: a position that far from it is none of its place


def write(out: Export, folder: Path, who: str, now_ms: int, evidence_id: str) -> None:
    """Write the page of an export whose files are there into their folder. Raises OSError."""
    path = folder / f"{out.name}-sheet.html"
    page = resources.files("patrolink.evidence").joinpath("evidence_sheet.html").read_text(encoding="utf-8")
    verdict = out.found.verdict
    first, rest = _findings(out.found.findings)
    filled = {
        "title": _text(title(out.found)),
        "foot": f"{out.name}  {verdict}  chain {out.found.manifest.seal.get('chain', 'not sealed')[:32]}",
        "verdict": verdict,
        "stamp": stamp(out.found),
        "class": _CLASS.get(verdict, verdict),
        "meaning": _MEANING[verdict],
        "depth": "Judged by hashes, chain and signature"
        + (", and by what is inside the segments, with the evidence key." if out.found.looked_inside else " only."),
        "findings": first,
        "recording": _pairs(_recording(out)),
        "where": _pairs(_where(out)),
        "proof": _proof(out),
        "map": track_map.svg(out),
        "shot": _shot(next((it for it in out.shots.shots if it.triggers), out.shots.shots[0])),
        "shot_is": "First picture after the event" if out.events and not out.photo else "First picture",
        "pictures": _pictures(out),
        "events": _events(out),
        "sums": f"{out.name}.sha256",
        "files": _files(out.files),
        "export": _pairs(_exported(out, who, now_ms, evidence_id)),
        "again": _text(verification_recipe.command(out.found)),
        "script": _script(out),
        "segments": _segments(out),
        "notes": rest,
        "manifest": _lines(out.found.manifest.data),
    }
    # In one pass: what a device says cannot name a place of the page.
    parts = page.split("{{")
    text = parts[0] + "".join(filled[key] + rest for key, _, rest in (part.partition("}}") for part in parts[1:]))
    path.write_text(text, encoding="utf-8")
    out.files.append(path)


def _text(value: Any) -> str:
    """Return a value as text of the page, in one line: what it is of may be of any characters."""
    return markup.escape(plain(str(value)))


def _lines(data: bytes) -> str:
    return "\n".join(map(_text, data.decode("utf-8", "replace").split("\n")))


def _cells(values: Iterable[Any]) -> str:
    return "".join(f"<td>{_text(value)}</td>" for value in values)


def _table(heads: Iterable[str], rows: Iterable[str], kind: str = "") -> str:
    top = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _pairs(pairs: dict[str, Any]) -> str:
    return "".join(f"<tr><th>{key}</th>{_cells([value])}</tr>" for key, value in pairs.items())


def _when(unix_ms: int | None) -> str:
    told = rfc3339(unix_ms) if unix_ms else None
    return f"{told[:10]} {told[11:23]} UTC" if told else "not known"


def _findings(found: list[Finding]) -> tuple[str, str]:
    """Return what stands on the first page, the gravest, and what stands in the appendix: all, when they are many."""
    grades = [findings.TAMPERED, findings.UNVERIFIABLE, findings.GAP, findings.NOTE]
    found = sorted(found, key=lambda it: grades.index(it.grade))
    rows = [_cells((it.grade, it.where, it.words)) for it in found]
    heads = ("Grade", "Where", "What")
    if not rows:
        return "", ""
    if len(rows) <= _FIRST_PAGE:
        return f"<h2>Findings</h2>{_table(heads, rows)}", ""
    more = f'<p class="dim">The gravest of {len(rows)}; all of them stand in the appendix.</p>'
    first = _table(heads, rows[:_FIRST_PAGE])
    return f"<h2>Findings</h2>{more}{first}", f"<h2>All findings</h2>{_table(heads, rows)}"


def _recording(out: Export) -> dict[str, Any]:
    head = out.found.manifest.head
    event = event_of(head["event"])
    return {
        "Device": head["device"],
        "Clip": out.found.number,
        "Event": contact_sheet.word(head["trigger"]) + ("" if event is None else f", number {event}"),
        "Length": f"{out.duration_ms / 1000:.2f} s",
        "Pictures": f"{out.frames}, {out.size[0]} x {out.size[1]}, {head['codec'].replace('_', ' in ').upper()}",
        "Sound": "yes" if out.with_sound else "no",
        "Files": f"{len(out.found.manifest.listed)}, encrypted for the key {out.recipient or 'of the site'}",
    }


def _where(out: Export) -> dict[str, Any]:
    event_ms = out.found.manifest.head["time_ms"]
    return {
        "Event at": _when(event_ms),
        "Begins": _when(out.story.unix_ms(0)),
        "Ends": _when(out.story.unix_ms(max(0, out.duration_ms - 1))),
        "Time zone": _zone(event_ms),
        "Clock": _clock(out),
        "Place": _place(out),
    }


def _zone(event_ms: int) -> str:
    """All is UTC; what a clock on the wall showed is told too, when it showed something else."""
    try:
        local = datetime.fromtimestamp(event_ms / 1000, timezone.utc).astimezone()
    except (ValueError, OverflowError, OSError):
        return "UTC"
    offset = local.strftime("%z")
    if not event_ms or offset == "+0000":
        return "UTC, all times of this sheet"
    return f"UTC, all times of this sheet. The event was at {local:%H:%M:%S} in UTC{offset[:3]}:{offset[3:]}"


def _clock(out: Export) -> str:
    by = ", ".join(sorted(_CLOCKS.get(it, "?") for it in out.story.clocks))
    off_ms = out.story.off_ms
    told = f"the device's, set by {by}" if by else "the device's; what set it is not told"
    if not off_ms:
        return f"{told}; no GPS time to compare it with"
    low, middle, high = min(off_ms), round(median(off_ms)), max(off_ms)
    spread = f" ({low:+d} to {high:+d})" if low < high else ""
    many = "1 position" if len(off_ms) == 1 else f"{len(off_ms)} positions"
    return f"{told}. Device clock minus GPS time: {middle:+d} ms{spread}, at {many}"


def _place(out: Export) -> str:
    """Where the device was at the event; where there was none, at the begin."""
    when, what = out.events[0] if out.events else (0, "")
    placed = [(abs(at_ms - when), at_ms - when, fix) for at_ms, fix in out.story.fixes if fix.lat_deg is not None]
    if not placed:
        return "not known"
    far_ms, early_ms, fix = min(placed, key=lambda it: it[0])
    if far_ms > _NEAR_MS:
        return f"not known within {_NEAR_MS // 1000} s of the event; see the map"
    late = f"{abs(early_ms) / 1000:.1f} s {'after' if early_ms > 0 else 'before'}"
    return f"{track_map.words(fix)} (WGS 84), {late} the {contact_sheet.word(what) if what else 'begin'}"


def _script(out: Export) -> str:
    text = verification_recipe.script(out.found)
    if not text:
        return ""
    return (
        "<h3>With bash, sha256sum and openssl, in the clip's folder</h3>"
        f'<pre class="script">{markup.escape(text)}</pre>'
        '<p class="dim">Right are OK for each file, <code>chain: OK</code> and <code>Verified OK</code>.</p>'
    )


def _proof(out: Export) -> str:
    head, seal = out.found.manifest.head, out.found.manifest.seal
    pairs = {
        "Key of the device": head["signer"],
        "Chain": seal.get("chain", "none: there is no seal"),
        "Signature": seal.get("sig", "none: there is no seal"),
        "Chain before": head["previous"],
    }
    rows = "".join(
        f"<tr><th>{key}</th><td><code>{markup.escape(value)}</code></td></tr>" for key, value in pairs.items()
    )
    return _pairs({"Signed by": _signer(out)}) + rows


def _signer(out: Export) -> str:
    wrong = {it.kind for it in out.found.findings}
    device = out.found.manifest.head["device"]
    if "signature" in wrong or not out.found.manifest.seal:
        return "not proven"
    if not out.found.manifest.chain_right:
        return "not proven: the key below signed this chain, and the manifest is not what was sealed with it"
    if "signer" in wrong:
        return f"the key below; the site does not know it as that of {device}"
    return f"the key below, which the site knows as that of {device} (ECDSA on P-256 over SHA-256)"


def _exported(out: Export, who: str, now_ms: int, evidence_id: str) -> dict[str, Any]:
    how = "the device's, bit for bit" if out.photo else "encoded anew from the device's JPEG pictures"
    return {
        "Exported by": who,
        "At": f"{_when(now_ms)}, by the clock of this computer",
        "With": f"patrolink {__version__}, evidence key {evidence_id}",
        "Pictures": "the device's H.264, bit for bit" if out.copied else how,
        "Times": "of each picture as the device took it; gaps stay gaps",
    }


def _pictures(out: Export) -> str:
    """The contact sheet; nothing when its one picture stands on the first page."""
    shots = out.shots.shots
    if len(shots) == 1:
        return ""
    told = "".join(map(_shot, shots))
    return f'<h2 class="page">Pictures</h2><p class="dim">{_SHOTS}</p><div class="shots">{told}</div>'


def _shot(shot: contact_sheet.Shot) -> str:
    picture = base64.b64encode(shot.jpeg()).decode()
    style = f' style="--mark: {shot.colour}" class="event"' if shot.colour else ""
    return (
        f'<figure{style}><img alt="{shot.when}" src="data:image/jpeg;base64,{picture}">'
        f"<figcaption>{shot.when}<span>{shot.offset}</span><b>{shot.phase}</b></figcaption></figure>"
    )


def _events(out: Export) -> str:
    at = {mark["event"]: mark for mark in out.found.manifest.marks}
    rows = [
        (mark["time_ms"], _when(mark["time_ms"]), "event", contact_sheet.word(mark["mark"]), _number(mark["event"]))
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
    return _table(("File", "Bytes", "SHA-256"), rows, "hashes made")
