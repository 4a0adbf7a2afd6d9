"""Reads the JSON Lines that a verb prints."""

import json


def records(text: str, kind: str = "") -> list[dict]:
    """Return the records of a text, or those of one kind."""
    rows = [json.loads(line) for line in text.splitlines()]
    return [row for row in rows if kind in ("", row["record"])]


def summary(text: str) -> dict:
    """Return the fields of the last record, which must be a summary."""
    last = json.loads(text.splitlines()[-1])
    assert last.pop("record") == "summary"
    return last
