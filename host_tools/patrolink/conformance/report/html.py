"""A page of one or several reports: a column for each testee, a row for each case. One file, no network."""

import base64
import io
import json
import shlex
from collections.abc import Sequence
from importlib import resources
from typing import Any

from patrolink.conformance.evidence import ASK, SEND, TELL
from patrolink.conformance.report.document import Document
from patrolink.core.capture import Record
from patrolink.core.text import plural
from patrolink.report import pcap

_TEXT_MAX_CHARS = 2000  # of one request or answer on the page; the JSON report has all of it
_EXCHANGES_MAX = 40


def render(reports: Sequence[Document], states: Sequence[str]) -> str:
    """Return the page.

    Args:
        reports: Documents; the order is that of the columns.
        states: State of the signature of each.
    """
    data = {
        "reports": [_head(report, state) for report, state in zip(reports, states, strict=True)],
        "cases": _rows(reports),
    }
    template = resources.files("patrolink.conformance.report").joinpath("page.html").read_text(encoding="utf-8")
    # "<" must not appear in the element: a text of a testee could end it.
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    return template.replace("{{data}}", text)


def _head(report: Document, state: str) -> dict[str, Any]:
    names = ("run", "tier", "clock", "seed", "started", "duration_ms", "summary", "coverage", "findings")
    return {
        **{name: report[name] for name in names},
        "schema_sha256": report["schema_sha256"],
        "name": report["profile"]["name"] or report["testee"]["target"],
        "target": report["testee"]["target"],
        "testee_sha256": report["testee"]["sha256"],
        "suite": report["suite"]["version"],
        "suite_sha256": report["suite"]["sha256"],
        "tool": report["tool"]["version"],
        "claims": report["profile"]["claims"],
        "signature": state,
        "signer": report.get("signer"),
    }


def _rows(reports: Sequence[Document]) -> list[dict[str, Any]]:
    """Return the cases of all reports, ordered by id, each with the results by column."""
    rows: dict[str, dict[str, Any]] = {}
    for column, report in enumerate(reports):
        known = set(report["known_failures"])
        for item in report["results"]:
            names = ("case", "title", "requirement", "level", "section", "vector", "mutants")
            row = rows.setdefault(item["case"], {**{name: item[name] for name in names}, "results": {}})
            row["results"][column] = _result(report, item, item["case"] in known)
    return [rows[case_id] for case_id in sorted(rows)]


def _result(report: Document, item: Document, known: bool) -> dict[str, Any]:
    result = {name: item[name] for name in ("verdict", "cause", "reason", "duration_ms")}
    result["known"] = known
    result["replay"] = f"{report['replay']} --replay {shlex.quote(item['case'])}"
    evidence = item["evidence"]
    if evidence is None:
        return result
    exchanges = evidence["exchanges"]
    result["exchanges"] = [
        {
            "at_ms": exchange["at_ms"],
            "step": _step_text(exchange["step"]),
            "answers": [[at_ms, _short(text)] for at_ms, text in exchange["answers"][:_EXCHANGES_MAX]],
        }
        for exchange in exchanges[:_EXCHANGES_MAX]
    ]
    result["more"] = max(0, len(exchanges) - _EXCHANGES_MAX)
    result["stderr"] = evidence["fault"]["stderr"] if evidence["fault"] else ""
    result["pcap"] = _pcap(report, exchanges)
    return result


def _step_text(step: list[Any]) -> str:
    op, data, ms, frames = step
    words = [
        op,
        data,
        f"{ms} ms" if ms else "",
        f"or {plural(frames, 'frame')}" if ms and frames < _TEXT_MAX_CHARS else "",
    ]
    return _short(" ".join(word for word in words if word))


def _short(text: str) -> str:
    return text if len(text) <= _TEXT_MAX_CHARS else f"{text[:_TEXT_MAX_CHARS]}... ({len(text)} characters)"


def _pcap(report: Document, exchanges: list[Any]) -> str:
    """Return a capture of the frames of a case in base64, or "" if it has none."""
    device = report["device"]["id"] if report["device"] else "testee"
    records: list[tuple[int, Record]] = []
    for exchange in exchanges:
        op, data, _, _ = exchange["step"]
        words = data.split(" ")
        if op == TELL and words[0] == "R" and len(words) > 2:
            device = words[2]
        texts = [(0, at_ms, text) for at_ms, text in exchange["answers"] if op != ASK]
        if op == SEND:
            texts = [(1, exchange["at_ms"], data)]
        elif op == ASK and words[0] == "F" and len(words) == 6:
            device = words[2]
            texts = [(int(words[3] == "1"), exchange["at_ms"], words[5])]
        elif op == ASK and words[0] == "S":
            texts = [(0, exchange["at_ms"], words[-1])]
        records += [(direction, Record(at_ms, device, _frame(text))) for direction, at_ms, text in texts]
    if not any(record.frame for _, record in records):
        return ""
    out = io.BytesIO()
    pcap.write_directed(out, [entry for entry in records if entry[1].frame])
    return base64.b64encode(out.getvalue()).decode()


def _frame(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
