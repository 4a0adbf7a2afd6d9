"""Write docs/benchmarks.md from its template and the committed results of benchmarks.

    python docs/update_benchmarks.py              write the page
    python docs/update_benchmarks.py --check      exit with code 1 if the page is not what its sources give
    python docs/update_benchmarks.py build/bench  copy results of `make bench` first: all, or single files

Sources: docs/benchmarks/template.md, with fields such as {link[publish quectel][median_ms]:.0f}, and
docs/benchmarks/NAME.json: {"measured": date, "note": text, "results": the content of build/bench/NAME.json}.
"""

import datetime
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "benchmarks"
PAGE = FOLDER.with_suffix(".md")


def copy_results(source: Path) -> None:
    """Replace the committed results of a benchmark, or of each one in a folder."""
    for path in [source] if source.is_file() else sorted(source.glob("*.json")):
        measured = datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
        entry = {"measured": measured, "note": "", "results": json.loads(path.read_text(encoding="utf-8"))}
        (FOLDER / path.name).write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _fields(results: Any) -> Any:
    """Return results as the template names them: rows in a list get their name, and that of the peer, as key."""
    if not isinstance(results, list):
        return results
    fields: dict[str, Any] = {}
    for row in results:
        if row.get("peer"):
            fields[f"{row['name']}, {row['peer']}"] = {"value": row["peer_value"], "ratio": row["ratio"]}
        fields.setdefault(row["name"], row["value"])
    return fields


def render() -> str:
    """Return the page.

    Raises:
        KeyError: The template names a result that does not exist.
    """
    entries = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
    runs = [f"| `{name}` | {entry['measured']} | {entry['note']} |" for name, entry in entries.items()]
    fields = {name: _fields(entry["results"]) for name, entry in entries.items()}
    return (FOLDER / "template.md").read_text(encoding="utf-8").format(**fields, runs="\n".join(runs))


def main(arguments: list[str]) -> int:
    """Write or check the page and return the exit code."""
    if arguments == ["--check"]:
        if PAGE.read_text(encoding="utf-8") == render():
            return 0
        print(f"{PAGE} is not what its sources give; run python {sys.argv[0]}", file=sys.stderr)
        return 1
    for source in arguments:
        copy_results(Path(source))
    PAGE.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
