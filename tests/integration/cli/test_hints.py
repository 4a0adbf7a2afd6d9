"""Every option and verb that a text of the tool names exists."""

import ast
import re
from pathlib import Path

from patrolink.cli import _parser
from patrolink.cli._verbs import VERBS

from tests.support.cli_parsers import verb_parsers
from tests.support.paths import ROOT

TOOL = ROOT / "host_tools" / "patrolink"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
COMMAND = re.compile(r"patrolink ((?:[a-z]+ )?[a-z]+)((?: [^`\"']*)?)")
PARSERS = dict(verb_parsers())
OPTIONS = {
    verb: {option for action in parser._actions for option in action.option_strings} for verb, parser in PARSERS.items()
}
TOP_LEVEL = set(_parser.build().options())
# Of pip, brew and systemctl, which `doctor` tells to run.
OTHER_PROGRAMS = {"--upgrade", "--force-reinstall", "--cask", "--now"}


def texts(path: Path) -> list[tuple[int, str]]:
    """Return (line, text) of each literal that is prose; docstrings are part of the help."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [(node.lineno, node.value) for node in constants if " " in node.value.strip()]


def verbs_of(path: Path) -> list[str]:
    """Return the verbs that a module of cli/ belongs to; all for other modules."""
    name = path.stem.replace("_", " ").strip()
    own = [verb for verb in OPTIONS if verb == name or verb.startswith(f"{name} ")]
    return own if path.parent.name == "cli" and own else list(OPTIONS)


def unknown_options(path: Path, text: str) -> list[str]:
    """Return the options in a text that its verb, or the verb of the command in the text, does not have."""
    known = set().union(*(OPTIONS[verb] for verb in verbs_of(path)), TOP_LEVEL, OTHER_PROGRAMS)
    for command in COMMAND.finditer(text):
        verb = next((v for v in (command[1], command[1].split()[0]) if v in OPTIONS), None)
        if verb is not None:
            if set(OPTION.findall(command[2])) - OPTIONS[verb]:
                return sorted(set(OPTION.findall(command[2])) - OPTIONS[verb])
            known |= OPTIONS[verb]
    return sorted(set(OPTION.findall(text)) - known)


def test_options_in_texts_exist():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {', '.join(options)} in {text!r}"
        for path in sorted(TOOL.rglob("*.py"))
        for line, text in texts(path)
        if (options := unknown_options(path, text))
    ]
    assert wrong == [], "\n".join(wrong)


def test_verbs_in_texts_exist():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {command}"
        for path in sorted(TOOL.rglob("*.py"))
        for line, text in texts(path)
        for command in re.findall(r"`patrolink ([a-z]+)", text)
        if command not in VERBS
    ]
    assert wrong == [], "\n".join(wrong)


def test_unknown_option_is_noticed():
    path = TOOL / "cli" / "monitor.py"
    assert unknown_options(path, "name a file with --record") == []
    assert unknown_options(path, "name a file with --output") == ["--output"]
    assert unknown_options(path, "run `patrolink decode --output X`") == []
    assert unknown_options(path, "run `patrolink clip verify --record X`") == ["--record"]
