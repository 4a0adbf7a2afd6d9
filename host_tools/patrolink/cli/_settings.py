"""Defaults of options from the environment and from the settings file, patrolink.toml.

An option on the command line wins over its environment variable, PATROLINK_<VERB>_<OPTION>, which wins over the
settings file: a TOML table per verb, [monitor] or [clip.export], with the long options as keys. The file is the one
that PATROLINK_CONFIG names; without it, patrolink.toml in the current folder, else in the user's folder of settings.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from patrolink.core.errors import UserError

_NAME = "patrolink.toml"
_FALSE = ("", "0", "no", "false")


def file_path() -> Path | None:
    """Return the path of the settings file, or None if there is none. An empty PATROLINK_CONFIG means none."""
    named = os.environ.get("PATROLINK_CONFIG")
    if named is not None:
        return Path(named) if named else None
    for path in (Path(_NAME), _user_folder() / _NAME):
        if os.path.isfile(path):  # False also for a folder that must not be read
            return path
    return None


def _user_folder() -> Path:
    from platformdirs import user_config_path

    return user_config_path("patrolink", appauthor=False)


def _load(path: Path) -> dict[str, Any]:
    """Return the tables of a settings file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return tables
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; correct PATROLINK_CONFIG, or create the file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not TOML: {e}") from None


def _table(verb: list[str]) -> dict[str, Any]:
    """Return the settings of a verb, without tables of its subverbs."""
    path = file_path()
    table: Any = {} if path is None else _load(path)
    for name in verb:
        table = table.get(name, {})
        if not isinstance(table, dict):
            raise UserError(f"{path}: {name} must be a table; write [{'.'.join(verb)}]")
    return {key: value for key, value in table.items() if not isinstance(value, dict)}


def _one_of(choices: Iterable[str], source: str) -> Callable[[str], str]:
    """Return a type for an option with choices: argparse compares only values from the command line, not defaults."""
    allowed = tuple(choices)

    def check(value: str) -> str:
        if value not in allowed:
            raise argparse.ArgumentTypeError(f"{value!r} is none of {', '.join(allowed)} (see {source})")
        return value

    return check


def _set_default(action: argparse.Action, value: Any, source: str) -> None:
    """Make a value the default of an option, with the checks that a value on the command line passes."""
    if action.nargs == 0:
        if isinstance(action, argparse._CountAction):
            action.default = int(value)
        else:
            action.default = str(value).lower() not in _FALSE
        return
    if action.choices is not None:
        action.type = _one_of(action.choices, source)
    action.default = value if isinstance(value, list) else str(value)
    action.required = False


def set_defaults(parser: argparse.ArgumentParser, verb: list[str]) -> None:
    """Set the defaults of a verb's options, and name their variables in the help.

    Args:
        parser: The parser of the verb.
        verb: Names of the verb and of its subverb.

    Raises:
        UserError: The settings file cannot be used.
    """
    settings = {key.replace("_", "-"): value for key, value in _table(verb).items()}
    known = []
    for action in parser._actions:
        option = next((o[2:] for o in action.option_strings if o.startswith("--") and o != "--help"), None)
        if option is None:
            continue
        known.append(option)
        variable = "_".join(["PATROLINK", *verb, option]).upper().replace("-", "_")
        action.help = f"{action.help} [env {variable}]"
        if variable in os.environ:
            _set_default(action, os.environ[variable], variable)
        elif option in settings:
            _set_default(action, settings[option], f"{file_path()}: {option}")
    for key in settings.keys() - set(known):
        close = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(known)}"
        raise UserError(f"{file_path()}: [{'.'.join(verb)}]: unknown key {key}; {hint}")
