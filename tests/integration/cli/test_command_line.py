"""The command line: start-up, suggestions, settings, logs, and libraries that are not installed."""

import builtins
import os
import shlex
import subprocess
import sys

import pytest
from patrolink.cli import _parser, main
from patrolink.cli._verbs import GROUPS, VERBS

ALL = [name for name in VERBS if name not in GROUPS]
ALL += [f"{group} {name}" for group, names in GROUPS.items() for name in names]
# Imports of tens of milliseconds, or of optional libraries.
HEAVY = {"asyncio", "aiohttp", "argcomplete", "av", "cryptography", "logging", "numpy", "pydantic", "rich", "serial"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder, without settings of the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    return tmp_path


def fails(capsys, *command: str) -> str:
    """Run a command that must end with exit code 2, and return its message."""
    try:
        code = main(list(command))
    except SystemExit as e:
        code = e.code
    assert code == 2
    return capsys.readouterr().err


def test_version_and_top_level_help_import_nothing_heavy():
    script = (
        "import sys, patrolink.cli\n"
        "try: patrolink.cli.main([sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    for option in ("--version", "--help"):
        done = subprocess.run([sys.executable, "-c", script, option], capture_output=True, text=True, check=True)
        modules = set(done.stderr.split())
        assert "argparse" in modules and not modules & HEAVY
        assert not [name for name in modules if name.startswith("patrolink.cli.") and "._" not in name]


def test_without_arguments_the_help_is_printed(capsys):
    with pytest.raises(SystemExit) as e:
        main([])
    assert e.value.code == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out and entry.help[:30] in out for name, entry in VERBS.items())


@pytest.mark.parametrize(
    ("command", "suggestion"),
    [
        ("moniter x", "did you mean monitor?"),
        ("clip verfy x", "did you mean verify?"),
        ("decode x --formt csv", "did you mean --format?"),
        ("decode x --format cvs", "did you mean csv?"),
        ("clip verify x --evidence-kye=y", "did you mean --evidence-key?"),
    ],
)
def test_misspelt_words_get_a_suggestion(capsys, command, suggestion):
    assert suggestion in fails(capsys, *command.split())


def test_a_word_without_a_similar_one_gets_no_suggestion(capsys):
    err = fails(capsys, "decode", "x", "--qqqq")
    assert "unrecognized arguments: --qqqq" in err and "did you mean" not in err


@pytest.mark.parametrize("verb", ALL)
def test_help_has_examples_that_parse(verb, capsys):
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    lines = [line.strip() for line in capsys.readouterr().out.partition("examples:\n")[2].splitlines()]
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        start = words.index("patrolink") + 1
        end = next((i for i, word in enumerate(words) if word in ("|", "<", ">")), len(words))
        args = _parser.parse(words[start:end])
        assert args.parser.prog == f"patrolink {verb}"


# --- settings ---


def test_options_win_over_environment_and_environment_over_file(folder, monkeypatch):
    (folder / "patrolink.toml").write_text(
        '[decode]\nformat = "csv"\nderive = true\noutput = "a"\n[monitor]\ncount = 3\n'
    )
    args = _parser.parse(["decode", "x"])
    assert (args.format, args.derive, args.output) == ("csv", True, "a")
    monkeypatch.setenv("PATROLINK_DECODE_OUTPUT", "b")
    args = _parser.parse(["decode", "x", "--format", "gpx"])
    assert (args.format, args.output) == ("gpx", "b")
    assert _parser.parse(["monitor", "x"]).count == 3


def test_subverbs_have_tables_and_variables_of_their_own(folder, monkeypatch):
    (folder / "patrolink.toml").write_text('[clip.fetch]\nout = "fetched"\n[clip.export]\nout = "exported"\n')
    assert _parser.parse(["clip", "fetch", "x"]).out == "fetched"
    assert _parser.parse(["clip", "export", "x"]).out == "exported"
    monkeypatch.setenv("PATROLINK_CLIP_EXPORT_OUT", "variable")
    assert _parser.parse(["clip", "fetch", "x"]).out == "fetched"
    assert _parser.parse(["clip", "export", "x"]).out == "variable"


def test_settings_are_found_in_the_users_folder_or_by_variable(folder, monkeypatch):
    path = folder / "settings" / "patrolink" / "patrolink.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[decode]\nformat = "gpx"\n')
    assert _parser.parse(["decode", "x"]).format == "gpx"
    (folder / "other.toml").write_text('[decode]\nformat = "csv"\n')
    monkeypatch.setenv("PATROLINK_CONFIG", "other.toml")
    assert _parser.parse(["decode", "x"]).format == "csv"
    monkeypatch.setenv("PATROLINK_CONFIG", "")
    assert _parser.parse(["decode", "x"]).format == "jsonl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[decode", "patrolink.toml: not TOML"),
        ('[decode]\nformt = "csv"', "[decode]: unknown key formt; did you mean format?"),
        ('[decode]\nformat = "cvs"', "'cvs' is none of jsonl, csv"),
        ('decode = "csv"', "decode must be a table; write [decode]"),
        ('[clip]\nexport = 3\n[decode]\nqq = "csv"', "unknown key qq; the keys are format, output"),
        ("\udcff", "not TOML"),
    ],
)
def test_wrong_settings_are_named(folder, capsys, text, message):
    (folder / "patrolink.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert message in fails(capsys, "decode", "x")


def test_missing_settings_file_is_an_error(monkeypatch, capsys):
    monkeypatch.setenv("PATROLINK_CONFIG", "nothing.toml")
    assert "nothing.toml: No such file or directory; correct PATROLINK_CONFIG" in fails(capsys, "devices")


# --- logs, and what is not installed ---


def test_verbose_logs_to_standard_error(folder):
    command = [sys.executable, "-m", "patrolink", "devices", "--json"]
    plain = subprocess.run(command, capture_output=True, text=True, check=True)
    verbose = subprocess.run([*command, "-v"], capture_output=True, text=True, check=True)
    assert plain.stderr == "" and plain.stdout == verbose.stdout
    assert "INFO patrolink: patrolink" in verbose.stderr


@pytest.mark.parametrize(
    ("command", "module", "message"),
    [
        (["talk", "call", "--hub", "http://127.0.0.1:1"], "aiohttp", "pip install 'patrolink[hub]'"),
        (["clip", "verify", "."], "cryptography", "pip install 'patrolink[video]'"),
    ],
)
def test_missing_library_is_named_with_its_extra(capsys, monkeypatch, command, module, message):
    real = builtins.__import__

    def without(name, *args, **options):
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **options)

    others = ("patrolink", "patrolink.cli", "patrolink.cli._parser", "patrolink.cli._verbs", "patrolink.core.errors")
    loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "patrolink"}
    for name in loaded.keys() - others:
        package, _, attribute = name.rpartition(".")
        if hasattr(loaded[package], attribute):  # is replaced by the next import, and restored after the test
            monkeypatch.setattr(loaded[package], attribute, getattr(loaded[package], attribute))
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", "x" * 32)
    err = fails(capsys, *command)
    assert message in err and "Traceback" not in err
    assert os.linesep.join(err.splitlines()).count("error:") == 1
