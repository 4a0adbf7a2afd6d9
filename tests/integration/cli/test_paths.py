"""Paths that cannot be used: every verb and option that takes a path gives one line and exit code 2."""

import argparse
import re
from pathlib import Path

import pytest
from patrolink.cli import _paths, main
from patrolink.core.errors import UserError

from tests.support.cli_parsers import verb_parsers
from tests.support.unprivileged import run_commands

# Metavariables that stand for a path.
METAVARS = {"FILE", "DIR", "IN", "OUT", "LOG", "SITE", "SPEECH", "PLACE", "SOURCE"}
# Arguments that a command needs besides the path; PATH is replaced.
BASES = {
    "clip export": ["PLACE", "--evidence-key", "ok.txt", "--out", "exported"],
    "clip fetch": ["http://127.0.0.1:1"],
    "clip show": ["PLACE", "--evidence-key", "ok.txt"],
    "clip verify": ["PLACE"],
    "decode": ["ok.plcap"],
    "live": ["dev-1"],
    "monitor": ["ok.plcap", "--for", "0"],
    "pack": ["ok.csv", "out.plcap"],
    "talk": ["1"],
}
POSITIONS = {"PLACE": 0, "FILE": 0, "SOURCE": 0, "IN": 0, "OUT": 1}
# Written after the connection to a hub, which is not there.
NOT_REACHED = {("clip fetch", "--out")}
UNUSABLE = {
    "below a file": "ok.txt/x",
    "no permission": "unreadable.csv",
    "no permission for its folder": "unsearchable/x.csv",
    "too long": "n" * 300,
    "NUL": "a\0b",
    "loop of links": "loop.csv",
}


def path_arguments() -> list[tuple[str, str]]:
    """Return (verb, option or metavariable) of all arguments that are paths."""
    return [
        (verb, action.option_strings[0] if action.option_strings else str(action.metavar))
        for verb, parser in verb_parsers()
        for action in parser._actions
        if action.metavar in METAVARS
    ]


def command(verb: str, argument: str, path: str) -> list[str]:
    base = list(BASES.get(verb, []))
    if argument.startswith("--"):
        if argument in base:
            base[base.index(argument) + 1] = path
        else:
            base += [argument, path]
    elif POSITIONS.get(argument, 0) < len(base):
        base[POSITIONS[argument]] = path
    else:
        base.append(path)
    return [*verb.split(), *("place" if word == "PLACE" else word for word in base)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """(verb, argument, kind) → result of the command with that path."""
    folder = tmp_path_factory.mktemp("paths")
    (folder / "place").mkdir()
    (folder / "ok.txt").write_text("x")
    (folder / "ok.csv").write_text("time,lat_deg,lon_deg\n2026-01-01T00:00:00Z,46,14\n")
    assert main(["pack", str(folder / "ok.csv"), str(folder / "ok.plcap")]) == 0
    (folder / "unreadable.csv").write_text("x")
    (folder / "unreadable.csv").chmod(0)
    (folder / "unsearchable").mkdir(mode=0)
    (folder / "loop.csv").symlink_to("loop.csv")
    cases = [(*argument, kind) for argument in path_arguments() if argument not in NOT_REACHED for kind in UNUSABLE]
    commands = [command(verb, argument, UNUSABLE[kind]) for verb, argument, kind in cases]
    results = run_commands(commands, folder)
    (folder / "unsearchable").chmod(0o700)  # so that pytest can remove it
    return dict(zip(cases, results, strict=True))


def test_path_arguments_are_found():
    assert {("monitor", "--record"), ("clip export", "--out"), ("pack", "IN"), ("hub", "SITE")} <= set(path_arguments())


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_path_is_one_line_with_exit_code_2(results, kind):
    wrong = []
    for (verb, argument, case), result in results.items():
        lines = [line for line in result.errors.splitlines() if "error: " in line]
        if case == kind and (result.traceback or result.code != 2 or len(lines) != 1):
            wrong.append((verb, argument, result))
    assert not wrong


def test_errors_name_options_that_the_verb_has(results):
    """The text of a module that several verbs use must not name an option of one of them."""
    options = {
        verb: {o for action in parser._actions for o in action.option_strings} for verb, parser in verb_parsers()
    }
    wrong = [
        (verb, argument, text)
        for (verb, argument, _), result in results.items()
        for text in result.errors.splitlines()
        if "`patrolink" not in text and not set(re.findall(r"(?<![\w-])--[a-z-]+", text)) <= options[verb]
    ]
    assert not wrong


def test_unusable_public_keys_do_not_name_an_option_of_another_verb(tmp_path, capsys):
    (tmp_path / "site" / "dev-1" / "000001").mkdir(parents=True)
    (tmp_path / "site" / "signers.toml").mkdir()
    assert main(["clip", "list", str(tmp_path / "site")]) == 2
    error = capsys.readouterr().err
    assert "signers.toml: not a regular file" in error and "--" not in error


def test_parquet_leaves_a_file_that_it_must_not_write(tmp_path):
    from patrolink.report import tables

    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        tables.write_parquet([], tmp_path / "loop")
    assert (tmp_path / "loop").is_symlink()


class Verb:
    """A verb that fails as it is told to."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run(self, args: argparse.Namespace) -> int:
        raise self._error


def run(error: Exception, **arguments: object) -> int:
    return _paths.run(argparse.Namespace(verb=Verb(error), **arguments))


@pytest.mark.parametrize("failed", ["out", "out/sub/file", Path("out/x"), "."])
def test_error_of_a_path_among_the_arguments_or_around_it_is_explained(failed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="permission denied; name another path"):
        run(PermissionError(13, "x", failed), out="out", count=3, groups=["a", "b"])


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "x", "/usr/share/patrolink-bug"),
        FileNotFoundError(2, "x"),
        OSError("no number"),
        OSError(28, "no space", "out"),
        ValueError("bug"),
    ],
    ids=repr,
)
def test_other_errors_are_not_hidden(error):
    with pytest.raises(type(error)) as e:
        run(error, out="out")
    assert e.value is error
