"""Generates the files under generated/ and vectors/ and the tables of SPEC.md from schema.toml.

python protocol/generate.py           write the files
python protocol/generate.py --check   list files that differ; exit code 1 if any does
"""

import argparse
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT / "generated")]

from targets import model, python  # noqa: E402


def _load(name: str, text: str) -> str:
    """Install this text as the module `name`, in place of the file on disk, and return the text."""
    module = types.ModuleType(name)
    exec(text, module.__dict__)  # noqa: S102 - our own generated file
    sys.modules[name] = module
    return text


def outputs() -> dict[Path, str]:
    """Return the text of each generated file by path."""
    schema = model.load(ROOT / "schema.toml")
    messages = _load("patrolink_messages", python.render(schema))
    # The constants that device code names; run this program again after a new one is used.
    used = python.used_enums([ROOT.parent / "device", ROOT / "patrolink_protocol"])
    enums = _load("patrolink_enums", python.render_enums(schema, used))
    from targets import c, cases, jsonschema, lua, markdown  # they import the codec

    spec = ROOT / "SPEC.md"
    folder = ROOT / "generated"
    texts = cases.render(schema)
    return {
        **{ROOT / "vectors" / name: text for name, text in texts.items()},
        folder / "patrolink_messages.py": messages,
        folder / "patrolink_enums.py": enums,
        folder / "patrolink_names.py": python.render_names(schema),
        folder / "patrolink.schema.json": jsonschema.render(schema),
        folder / "patrolink.lua": lua.render(schema),
        folder / "patrolink.h": c.render_header(schema),
        folder / "patrolink.c": c.render_source(schema),
        spec: markdown.fill(spec.read_text(encoding="utf-8"), schema),
    }


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; write nothing")
    args = parser.parse_args()
    stale = []
    for path, text in outputs().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not args.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in stale:
        verb = "is out of date; run `make generate`" if args.check else "written"
        print(f"{path.relative_to(ROOT.parent)}: {verb}", file=sys.stderr)
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
