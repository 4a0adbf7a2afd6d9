"""The directives of the documentation site; skipped without Sphinx, which `make docs` installs."""

import subprocess
import sys
from pathlib import Path

import pytest
from patrolink.core import boards

from tests.support.import_graph import ROOT

pytest.importorskip("sphinx")
pytestmark = pytest.mark.unchanged_inputs("boards", "device", "docs", "host_tools", "protocol")
CONF = f"""
import sys
sys.path[:0] = [{str(ROOT / "docs" / "_ext")!r}, {str(ROOT / "device")!r}]
extensions = ["myst_parser", "board_table", "keys", "verbs"]
"""
MEANINGS = ["host: address", "port: number", "path: path of the endpoint", "kbps: limit", "tls: settings"]


def build(folder: Path, text: str) -> tuple[int, str, str]:
    """Build a site of one page, and return exit code, errors and the page."""
    (folder / "conf.py").write_text(CONF, encoding="utf-8")
    (folder / "index.md").write_text(f"# Page\n\n{text}\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-n",
        "-b",
        "text",
        str(folder),
        str(folder / "out"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    page = folder / "out" / "index.txt"
    return result.returncode, result.stderr, page.read_text(encoding="utf-8") if page.exists() else ""


def keys_block(meanings: list[str]) -> str:
    return "\n".join(("```{keys} app.config:UPLOAD_DEFAULTS", *meanings, "```"))


def test_table_of_keys_has_types_and_defaults_of_the_code(tmp_path: Path):
    code, errors, page = build(tmp_path, keys_block(MEANINGS))
    assert code == 0, errors
    assert "integer" in page and '"/clips"' in page and "1000" in page and "path of the endpoint" in page


@pytest.mark.parametrize("meanings", [MEANINGS[1:], [*MEANINGS, "mtu: no key of the code"]])
def test_table_of_keys_must_list_the_keys_of_the_code(tmp_path: Path, meanings: list[str]):
    code, errors, _ = build(tmp_path, keys_block(meanings))
    assert code != 0 and "the code and this page differ in the keys" in errors


def test_reference_has_every_verb(tmp_path: Path):
    code, errors, page = build(tmp_path, "## Verbs\n\n```{verbs}\n```")
    assert code == 0, errors
    for text in ("patrolink clip verify", "PATROLINK_MONITOR_RECORD", "patrolink hub site.toml --check"):
        assert text in page, text


def test_table_of_boards_has_every_board(tmp_path: Path):
    for name in boards.names():
        (tmp_path / "boards" / name).mkdir(parents=True)
        (tmp_path / "boards" / name / "README.md").write_text(f"---\norphan: true\n---\n# {name}\n", encoding="utf-8")
    code, errors, page = build(tmp_path, "## Boards\n\n```{boards}\n```")
    assert code == 0, errors
    assert set(boards.names()) <= set(page.split())
