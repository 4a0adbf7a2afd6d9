"""Paths and links in the documents lead to existing files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from patrolink.cli import _parser
from patrolink.core import boards

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {"build", ".venv", "node_modules"} & set(path.relative_to(ROOT).parts) and "egg-info" not in str(path)
)


def rows_of_table(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its first two lines."""
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_contributing_lists_existing_files():
    rows = rows_of_table((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "To change X, open Y")
    assert len(rows) >= 12
    missing = [
        name for row in rows for name in re.findall(r"`([^`]+)`", row[1] + row[2]) if not (ROOT / name).is_file()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", *(f"docs/internals/{p.name}" for p in (ROOT / "docs/internals").glob("*.md"))]
)
def test_paths_in_the_internals_exist(page: str):
    """Checks every path in backquotes that begins with a folder of the project."""
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:protocol|device|boards|host_tools|tests|docs)/[^`*{ ]*)`", text)
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).exists()] == []


def test_page_of_benchmarks_is_what_its_results_give():
    command = [sys.executable, str(ROOT / "docs" / "update_benchmarks.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_results_of_benchmarks_name_their_day():
    entries = [json.loads(path.read_text("utf-8")) for path in (ROOT / "docs" / "benchmarks").glob("*.json")]
    assert entries and all(entry["measured"] and entry["results"] for entry in entries)


def test_readme_has_at_most_90_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


def parsers() -> dict[str, _parser.Parser]:
    """Return the parser of each verb and subverb by its name, as `patrolink clip verify`."""
    by_name = {}
    pending = [_parser.build()]
    while pending:
        parser = pending.pop()
        by_name[parser.prog] = parser
        for action in parser._actions:
            if isinstance(action.choices, dict):
                pending += action.choices.values()
    return by_name


def wrong_commands(text: str) -> list[str]:
    """Return commands of the tool, in code spans and blocks, whose verb or options do not exist."""
    known, wrong = parsers(), []
    for command in re.findall(r"(?:`|^\s*(?:\$ )?)(patrolink [a-z]+(?![a-z:])[^`|;>\n]*)", text, flags=re.M):
        words = command.split()
        name = " ".join(words[:3]) if " ".join(words[:3]) in known else " ".join(words[:2])
        options = [word.partition("=")[0].rstrip(".,)]") for word in words if word.startswith("--")]
        if name not in known or not set(options) <= {"--help", *known[name].options()}:
            wrong.append(command)
    return wrong


MISSPELT = {"decod", "moniter", "--fromat", "--formt"}  # pages show the answer to them


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_shown_verbs_and_options_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    if page.name == "CHANGELOG.md":
        text = text.split("## ", 2)[1]  # older versions had other options
    assert [command for command in wrong_commands(text) if not MISSPELT & set(command.split())] == []


@pytest.mark.parametrize(
    "text", ["`patrolink decoed FILE`", "see `patrolink clip verify --strickt`", "$ patrolink hub --chek"]
)
def test_wrong_command_is_found(text: str):
    assert wrong_commands(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_in_blocks_that_a_test_runs(page: Path):
    """Every block names its language, and only `sh` and `console` blocks have commands."""
    blocks = re.findall(r"^ *```([^\n]*)\n(.*?)^ *```$", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert "" not in [language for language, _ in blocks]
    other = [body for language, body in blocks if language not in ("sh", "console")]
    assert [line for body in other for line in body.splitlines() if re.match(r"\s*(\$|patrolink|make) ", line)] == []


def test_reference_of_boards_lists_every_key():
    text = (ROOT / "boards" / "README.md").read_text(encoding="utf-8")
    models = (boards.Board, boards.Gps, boards.Image, boards.Ptt, boards.Camera, boards.Clips, boards.Update)
    listed = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"^\| (`.*?) \|", text, flags=re.M))))
    assert set().union(*(set(model.model_fields) for model in models)) - listed == set()


def test_test_files_have_different_names():
    """Pytest imports test files by their base names."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
