"""Results of a benchmark as rows of name, value and unit."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent.parent / "build" / "bench"


def row(name: str, value: float, unit: str) -> dict[str, Any]:
    """Return a row."""
    return {"name": name, "value": value, "unit": unit}


def save(bench: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows to build/bench/BENCH.json."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{bench}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def write(bench: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows to build/bench/BENCH.json and print them."""
    save(bench, rows)
    for result in rows:
        print(f"{result['name']}: {result['value']} {result['unit']}")
