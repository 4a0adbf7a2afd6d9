"""Reads the JSON Lines that a verb prints, and compares each record with docs/guide/json.md."""

import functools
import json
import re

from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "guide" / "json.md"
SCHEMA = ROOT / "protocol" / "generated" / "patrolink.schema.json"
# The last record of the hub has all its counters.
_HUB_SUMMARY = {"site", "shard"}


@functools.cache
def documented() -> dict[str, dict[str, str]]:
    """Return the records of the page: kind, field and meaning."""
    kinds: dict[str, dict[str, str]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title = section.partition("\n")[0].partition(":")[0]
        fields = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))
        for kind in re.findall(r"`(\w+)`", title):
            kinds[kind] = fields
    return kinds


@functools.cache
def messages() -> dict[str, set[str]]:
    """Return the messages of devices and their fields, from the JSON Schema."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return {row["properties"]["record"]["const"]: set(row["properties"]) for row in schema["oneOf"]}


def check(row: dict) -> None:
    """Raise AssertionError for a record or a field that the page does not have."""
    kind, fields = row["record"], set(row) - {"record"}
    if kind in messages():
        assert fields <= messages()[kind], row
    elif kind != "summary" or not fields >= _HUB_SUMMARY:
        assert fields <= documented()[kind].keys(), (kind, sorted(fields - documented()[kind].keys()))


def records(text: str, kind: str = "") -> list[dict]:
    """Return the records of a text, or those of one kind."""
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        check(row)
    return [row for row in rows if kind in ("", row["record"])]


def summary(text: str) -> dict:
    """Return the fields of the last record, which must be a summary."""
    last = json.loads(text.splitlines()[-1])
    check(last)
    assert last.pop("record") == "summary"
    return last
