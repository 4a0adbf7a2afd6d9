"""Results of a verb as JSON Lines: with --json, standard output has one object per line and nothing else.

The first key of each object, "record", names its kind: `position`, `clip`, `burst`, `error` and so on; the last line of
a verb that completes is a `summary`. A field has the same name, unit and meaning in every record: docs/guide/json.md
lists them.
"""

from collections.abc import Mapping
from typing import Any

from patrolink.core.text import json_text


def print_record(kind: str, fields: Mapping[str, Any]) -> None:
    """Print a record on standard output.

    Args:
        kind: What the record describes.
        fields: Its fields, JSON-ready.
    """
    print(json_text({"record": kind, **fields}), flush=True)


def print_summary(fields: Mapping[str, Any]) -> None:
    """Print the last record of a verb."""
    print_record("summary", fields)
