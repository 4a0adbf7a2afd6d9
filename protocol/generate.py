"""Generate everything under generated/ and vectors/, and the tables of SPEC.md, from schema.toml.

python protocol/generate.py           write
python protocol/generate.py --check   exit 1 when a committed file differs, naming it
"""

import argparse
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT / "generated")]

from targets import model, python  # noqa: E402


def _load(name: str, text: str) -> str:
    """Make the codec import this text as the module `name`, whatever is on disk; return the text."""
    module = types.ModuleType(name)
    exec(text, module.__dict__)  # noqa: S102 - our own generated file
    sys.modules[name] = module
    return text


def outputs() -> dict[Path, str]:
    """Return every generated file's path and text."""
    schema = model.load(ROOT / "schema.toml")
    messages = _load("patrolink_messages", python.render(schema))
    enums = _load("patrolink_enums", python.render_enums(schema))
    from targets import c, cases, jsonschema, lua, markdown  # they use the codec

    spec = ROOT / "SPEC.md"
    made = ROOT / "generated"
    texts = cases.render(schema)
    return {
        **{ROOT / "vectors" / name: text for name, text in texts.items()},
        made / "patrolink_messages.py": messages,
        made / "patrolink_enums.py": enums,
        made / "patrolink_names.py": python.render_names(schema),
        made / "patrolink.schema.json": jsonschema.render(schema),
        made / "patrolink.lua": lua.render(schema),
        made / "patrolink.h": c.render_header(schema),
        made / "patrolink.c": c.render_source(schema),
        spec: markdown.fill(spec.read_text(encoding="utf-8"), schema),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
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
        verb = "differs from what generate.py prints: run `make generate`" if args.check else "written"
        print(f"{path.relative_to(ROOT.parent)}: {verb}", file=sys.stderr)
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
