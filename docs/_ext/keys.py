"""Directive `keys`: the table of a configuration's keys, with types and defaults taken from the code.

Argument: MODULE:NAME of a pydantic model, or of a dict of defaults. Body: one line `key: meaning` per key. A key that
is missing in the body, or unknown to the code, is an error.
"""

import importlib
import json
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_JSON_TYPES = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}


def _range(schema: dict[str, Any]) -> str:
    low = schema.get("minimum", schema["exclusiveMinimum"] + 1 if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum", schema["exclusiveMaximum"] - 1 if "exclusiveMaximum" in schema else None)
    if low is None:
        return ""
    return f", {low} to {high}" if high is not None else f", {low} or more"


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("type", "table")) + _range(schema)


def _rows_of_model(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Return type and default of each key."""
    schema = model.model_json_schema()
    return {
        name: (_type(entry), "required" if name in schema.get("required", []) else f"`{json.dumps(entry['default'])}`")
        for name, entry in schema["properties"].items()
    }


def _rows_of_defaults(defaults: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {name: (_JSON_TYPES[type(value)], f"`{json.dumps(value)}`") for name, value in defaults.items()}


class Keys(SphinxDirective):
    """The directive."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        module, _, name = self.arguments[0].partition(":")
        source = getattr(importlib.import_module(module), name)
        rows = _rows_of_defaults(source) if isinstance(source, dict) else _rows_of_model(source)
        meanings = dict(line.split(": ", 1) for line in self.content if line.strip())
        if rows.keys() != meanings.keys():
            differing = ", ".join(sorted(rows.keys() ^ meanings.keys()))
            raise self.error(f"{self.arguments[0]}: the code and this page differ in the keys {differing}")
        lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| `{key}` | {kind} | {default} | {meanings[key]} |" for key, (kind, default) in rows.items()]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("keys", Keys)
    return {"parallel_read_safe": True}
