"""Settings files: TOML that is validated by a pydantic model."""

import difflib
import sys
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from patrolink.core.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE_MAX_BYTES = 16 << 20
_INPUT_MAX_CHARS = 100  # of a wrong value in an error
_Model = TypeVar("_Model", bound=BaseModel)


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def describe_errors(path: Path, error: ValidationError, known: list[str], example: str) -> str:
    """Return a line for each error in a TOML file: the key, why it is wrong, and what to do.

    Args:
        path: the file.
        error: what pydantic found.
        known: all valid keys, to suggest the closest one for an unknown key.
        example: a file or command that shows a valid file.
    """
    lines = []
    for e in error.errors():
        key = _key(e["loc"])
        if e["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(e["loc"][-1]), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(known)}"
            lines.append(f"{path}: {key}: unknown key; {hint}")
        elif e["type"] == "missing":
            lines.append(f"{path}: {key}: is missing; add it ({example} shows how)")
        elif e["type"] == "value_error":
            lines.append(f"{path}: {key + ': ' if key else ''}{e['msg'].removeprefix('Value error, ')}")
        else:
            value = repr(e["input"])
            shown = value if len(value) <= _INPUT_MAX_CHARS else f"{value[:_INPUT_MAX_CHARS]}..."
            lines.append(f"{path}: {key}: {e['msg'][0].lower()}{e['msg'][1:]}, but it is {shown}; correct the value")
    return "\n".join(lines)


def load(path: Path, model: type[_Model], known: list[str], example: str, remedy: str) -> _Model:
    """Read and validate a TOML file.

    Args:
        path: The file.
        model: What the file must contain.
        known: All valid keys, to suggest the closest one for an unknown key.
        example: A file or command that shows a valid file.
        remedy: What to do if the file cannot be read.

    Raises:
        UserError: The file cannot be read or is invalid. The message names each invalid key, the cause and the remedy.
    """
    try:
        with path.open("rb") as f:
            data = f.read(_FILE_MAX_BYTES + 1)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; {remedy}") from None
    if len(data) > _FILE_MAX_BYTES:
        raise UserError(f"{path}: more than {_FILE_MAX_BYTES} bytes, which no settings file has; {remedy}")
    try:
        raw: dict[str, Any] = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as e:  # also a number with too many digits
        reason = "nested too deeply" if isinstance(e, RecursionError) else str(e)
        raise UserError(f"{path}: not TOML: {reason}; correct the syntax ({example} shows a valid file)") from None
    try:
        return model.model_validate(raw)
    except ValidationError as e:
        raise UserError(describe_errors(path, e, known, example)) from None
