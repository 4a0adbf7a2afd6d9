"""The evidence sheet: one self-contained HTML page to print. The proof is on its first page, the hashes at its end."""

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
from patrolink.core.text import plural, printable
from patrolink.evidence import manifest, track_map, verdict, verification_recipe
from patrolink.evidence.clip_folders import file_sha256
from patrolink.evidence.contact_sheet import Thumbnail, trigger_label
from patrolink.evidence.export import ClipExport, clip_title, event_number, stamp_text
from patrolink.evidence.timeline import ClipEvent
from patrolink.evidence.verdict import Finding

_MEANING = {
    verdict.VALID: "Signature, chain and every hash are correct, and nothing is missing.",
    verdict.GAPS: "Everything present is as it was recorded. Something is missing; see the findings.",
    verdict.TAMPERED: "A hash, the chain or the signature is wrong, or two clips claim the same number.",
    verdict.UNVERIFIABLE: "There is no seal, the signing key is not known, or the manifest version is not supported.",
}
_VERDICT_CLASS = {verdict.GAPS: "gaps"}
_CLOCK_SOURCE = {clip.CLOCK_NONE: "nothing", clip.CLOCK_NETWORK: "the network", clip.CLOCK_GPS: "GPS"}
_PICTURES_NOTE = (
    "At equal intervals, scaled down. Framed: the first picture after an event, in red after an SOS or a fall. "
    "Seconds count from the first event."
)
_FIRST_PAGE_FINDINGS_MAX = 6
_PLACE_DISTANCE_MAX_MS = 10_000  # between an event and the position that is given as its place


def write_sheet(export: ClipExport, folder: Path, who: str, now_ms: int, evidence_id: str) -> None:
    """Write the sheet of an export into the folder of its files. Raises OSError.

    Args:
        export: The export; the sheet is added to its files.
        folder: The folder.
        who: Who exports.
        now_ms: Unix time of the export.
        evidence_id: Id of the evidence key in hexadecimal.
    """
    path = folder / f"{export.name}-sheet.html"
    template = resources.files("patrolink.evidence").joinpath("evidence_sheet.html").read_text(encoding="utf-8")
    values = _values(export, who, now_ms, evidence_id)
    # Replaced in one pass: text from a device cannot be a placeholder.
    first, *parts = template.split("{{")
    text = first + "".join(values[key] + rest for key, _, rest in (part.partition("}}") for part in parts))
    path.write_text(text, encoding="utf-8")
    export.files.append(path)


def _values(export: ClipExport, who: str, now_ms: int, evidence_id: str) -> dict[str, str]:
    """Return the HTML of each placeholder of the template."""
    result = export.result
    first_findings, all_findings = _findings_tables(result.findings)
    thumbnails = export.contact_sheet.thumbnails
    depth = ", and by the content of the segments, with the evidence key." if result.decrypted else " only."
    return {
        "title": _text(clip_title(result)),
        "foot": f"{export.name}  {result.verdict}  chain {result.manifest.seal.get('chain', 'not sealed')[:32]}",
        "verdict": result.verdict,
        "stamp": stamp_text(result),
        "class": _VERDICT_CLASS.get(result.verdict, result.verdict),
        "meaning": _MEANING[result.verdict],
        "depth": "Verified by hashes, chain and signature" + depth,
        "findings": first_findings,
        "recording": _pairs(_recording(export)),
        "where": _pairs(_time_and_place(export)),
        "proof": _proof(export),
        "map": track_map.track_svg(export),
        "picture": _figure(next((t for t in thumbnails if t.triggers), thumbnails[0])),
        "picture_title": "First picture after the event" if export.events and not export.is_photo else "First picture",
        "pictures": _pictures(thumbnails),
        "events": _events_table(export),
        "checksums": f"{export.name}.sha256",
        "files": _files_table(export.files),
        "export": _pairs(_export_facts(export, who, now_ms, evidence_id)),
        "command": _text(verification_recipe.patrolink_command(result)),
        "script": _script(export),
        "segments": _segments_table(export),
        "all_findings": all_findings,
        "manifest": _lines(result.manifest.data),
    }


# --- HTML -------------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """Return a value as HTML text in one line; text from a device may hold any character."""
    return markup.escape(printable(str(value)))


def _lines(data: bytes) -> str:
    return "\n".join(map(_text, data.decode("utf-8", "replace").split("\n")))


def _cells(values: Iterable[Any]) -> str:
    return "".join(f"<td>{_text(value)}</td>" for value in values)


def _table(heads: Iterable[str], rows: Iterable[str], css_class: str = "") -> str:
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="{css_class}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _pairs(pairs: dict[str, Any]) -> str:
    return "".join(f"<tr><th>{key}</th>{_cells([value])}</tr>" for key, value in pairs.items())


def _time(unix_ms: int | None) -> str:
    time = rfc3339(unix_ms) if unix_ms else None
    return f"{time[:10]} {time[11:23]} UTC" if time else "not known"


# --- first page -------------------------------------------------------------------------------------------------------


def _findings_tables(findings: list[Finding]) -> tuple[str, str]:
    """Return the gravest findings for the first page, and all of them for the appendix when there are more."""
    grades = [verdict.TAMPERED, verdict.UNVERIFIABLE, verdict.GAP, verdict.NOTE]
    rows = [_cells((f.grade, f.where, f.words)) for f in sorted(findings, key=lambda f: grades.index(f.grade))]
    heads = ("Grade", "Where", "What")
    if not rows:
        return "", ""
    if len(rows) <= _FIRST_PAGE_FINDINGS_MAX:
        return f"<h2>Findings</h2>{_table(heads, rows)}", ""
    note = f'<p class="dim">The gravest of {len(rows)} findings; all of them are in the appendix.</p>'
    first = _table(heads, rows[:_FIRST_PAGE_FINDINGS_MAX])
    return f"<h2>Findings</h2>{note}{first}", f"<h2>All findings</h2>{_table(heads, rows)}"


def _recording(export: ClipExport) -> dict[str, Any]:
    head = export.result.manifest.head
    event = event_number(head["event"])
    codec = head["codec"].replace("_", " in ").upper()
    recipient = export.recipient or "of the site"
    return {
        "Device": head["device"],
        "Clip": export.result.number,
        "Event": trigger_label(head["trigger"]) + ("" if event is None else f", number {event}"),
        "Length": f"{export.duration_ms / 1000:.2f} s",
        "Pictures": f"{export.frames}, {export.size.width} x {export.size.height}, {codec}",
        "Sound": "yes" if export.with_sound else "no",
        "Files": f"{len(export.result.manifest.listed)}, encrypted for the key {recipient}",
    }


def _time_and_place(export: ClipExport) -> dict[str, Any]:
    event_ms = export.result.manifest.head["time_ms"]
    return {
        "Event at": _time(event_ms),
        "Begins": _time(export.metadata.unix_ms(0)),
        "Ends": _time(export.metadata.unix_ms(max(0, export.duration_ms - 1))),
        "Time zone": _time_zone(event_ms),
        "Clock": _clock(export),
        "Place": _place(export),
    }


def _time_zone(event_ms: int) -> str:
    """State that all times are UTC, and give the event's local time where that differs."""
    try:
        local = datetime.fromtimestamp(event_ms / 1000, timezone.utc).astimezone()
    except (ValueError, OverflowError, OSError):
        return "UTC"
    offset = local.strftime("%z")
    if not event_ms or offset == "+0000":
        return "All times on this sheet are UTC"
    return f"All times on this sheet are UTC. The event was at {local:%H:%M:%S} in UTC{offset[:3]}:{offset[3:]}"


def _clock(export: ClipExport) -> str:
    sources = ", ".join(sorted(_CLOCK_SOURCE.get(source, "?") for source in export.metadata.clock_sources))
    errors_ms = export.metadata.clock_errors_ms
    text = f"Device clock, set by {sources}" if sources else "Device clock; what set it was not recorded"
    if not errors_ms:
        return f"{text}; no GPS time to compare it with"
    low, middle, high = min(errors_ms), round(median(errors_ms)), max(errors_ms)
    spread = f" ({low:+d} to {high:+d})" if low < high else ""
    return f"{text}. Device clock minus GPS time: {middle:+d} ms{spread}, at {plural(len(errors_ms), 'position')}"


def _place(export: ClipExport) -> str:
    """Return the position nearest to the first event, or to the start of a clip without events."""
    event = export.events[0] if export.events else ClipEvent(0, "")
    fixes = export.metadata.valid_fixes
    if not fixes:
        return "not known"
    nearest = min(fixes, key=lambda timed: abs(timed.at_ms - event.at_ms))
    distance_ms = nearest.at_ms - event.at_ms
    if abs(distance_ms) > _PLACE_DISTANCE_MAX_MS:
        return f"not known within {_PLACE_DISTANCE_MAX_MS // 1000} s of the event; see the map"
    relation = f"{abs(distance_ms) / 1000:.1f} s {'after' if distance_ms > 0 else 'before'}"
    reference = trigger_label(event.trigger) if event.trigger else "start"
    return f"{track_map.format_position(nearest.fix)} (WGS 84), {relation} the {reference}"


def _proof(export: ClipExport) -> str:
    head, seal = export.result.manifest.head, export.result.manifest.seal
    pairs = {
        "Key of the device": head["signer"],
        "Chain": seal.get("chain", "none: the manifest has no seal"),
        "Signature": seal.get("sig", "none: the manifest has no seal"),
        "Chain before": head["previous"],
    }
    rows = "".join(
        f"<tr><th>{key}</th><td><code>{markup.escape(value)}</code></td></tr>" for key, value in pairs.items()
    )
    return _pairs({"Signed by": _signer(export)}) + rows


def _signer(export: ClipExport) -> str:
    kinds = {finding.kind for finding in export.result.findings}
    document = export.result.manifest
    device = document.head["device"]
    if "signature" in kinds or not document.seal:
        return "not proven"
    if not document.chain_valid:
        return "not proven: the key below signed this chain value, but the manifest's lines do not match it"
    if "signer" in kinds:
        return f"the key below; the site does not know it as a key of {device}"
    return f"the key below, which the site knows as a key of {device} (ECDSA on P-256 with SHA-256)"


# --- further pages ----------------------------------------------------------------------------------------------------


def _pictures(thumbnails: list[Thumbnail]) -> str:
    """Return the contact sheet; nothing when its only picture is on the first page."""
    if len(thumbnails) == 1:
        return ""
    figures = "".join(map(_figure, thumbnails))
    return f'<h2 class="page">Pictures</h2><p class="dim">{_PICTURES_NOTE}</p><div class="shots">{figures}</div>'


def _figure(thumbnail: Thumbnail) -> str:
    data = base64.b64encode(thumbnail.jpeg()).decode()
    style = f' style="--mark: {thumbnail.frame_color}" class="event"' if thumbnail.frame_color else ""
    time = thumbnail.time_text
    return (
        f'<figure{style}><img alt="{time}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{time}<span>{thumbnail.offset_text}</span><b>{thumbnail.phase}</b></figcaption></figure>"
    )


def _events_table(export: ClipExport) -> str:
    """Return the events, and what dispatchers and the device did with clips, by time."""
    marks = {mark["event"]: mark for mark in export.result.manifest.marks}
    rows = [
        (mark["time_ms"], _time(mark["time_ms"]), "event", trigger_label(mark["mark"]), _event_text(mark["event"]))
        for mark in marks.values()
    ]
    for line in export.result.manifest.accesses:
        facts = ", ".join(f"{key} {_value_text(value)}" for key, value in list(line.items())[3:])
        rows.append((line["time_ms"], _time(line["time_ms"]), line["who"], line["access"].replace("_", " "), facts))
    if not rows:
        return '<p class="dim">None.</p>'
    return _table(("When", "Who", "What", ""), (_cells(row[1:]) for row in sorted(rows)))


def _event_text(event: int) -> str:
    number = event_number(event)
    return "" if number is None else f"number {number}"


def _value_text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _export_facts(export: ClipExport, who: str, now_ms: int, evidence_id: str) -> dict[str, Any]:
    pictures = "re-encoded from the device's JPEG pictures"
    if export.copied:
        pictures = "the device's H.264, bit for bit"
    elif export.is_photo:
        pictures = "the device's, bit for bit"
    return {
        "Exported by": who,
        "At": f"{_time(now_ms)}, by the clock of this computer",
        "With": f"patrolink {__version__}, evidence key {evidence_id}",
        "Pictures": pictures,
        "Times": "each picture at the time at which the device took it; gaps are kept",
    }


def _script(export: ClipExport) -> str:
    script = verification_recipe.shell_script(export.result)
    if not script:
        return ""
    return (
        "<h3>With bash, sha256sum and openssl, in the clip's folder</h3>"
        f'<pre class="script">{markup.escape(script)}</pre>'
        '<p class="dim">Expected output: OK for each file, <code>chain: OK</code> and <code>Verified OK</code>.</p>'
    )


def _segments_table(export: ClipExport) -> str:
    states: dict[str, str] = {}
    for finding in export.result.findings:
        if finding.grade != verdict.NOTE:
            states.setdefault(finding.where, "altered" if finding.grade == verdict.TAMPERED else finding.kind)
    rows = []
    for line in export.result.manifest.listed:
        name = manifest.segment_file(line)
        columns: tuple[Any, ...] = ("", "", "thumbnail")
        if "seg" in line:
            start = _time(line["start_ms"])
            columns = (start[11:23] or start, f"{line['ms'] / 1000:.2f}", line["frames"])
        state = f'<td class="wrong">{states[name]}</td>' if name in states else "<td>correct</td>"
        rows.append(_cells((name, *columns, line["bytes"])) + f"<td><code>{line['sha256']}</code></td>{state}")
    return _table(("File", "Starts", "s", "Pictures", "Bytes", "SHA-256", "Is"), rows, "hashes")


def _files_table(files: list[Path]) -> str:
    rows = []
    for path in files:
        rows.append(_cells((path.name, path.stat().st_size)) + f"<td><code>{file_sha256(path)}</code></td>")
    return _table(("File", "Bytes", "SHA-256"), rows, "hashes made")
